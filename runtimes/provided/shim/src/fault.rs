//! What went wrong, as the JSON of ERROR and INIT_ERROR frames and as lines of the log. Pure but for `say`.

use std::io::Write;

use serde_json::{Value, json};

use crate::wire::SMALL_BODY_MAX;

/// Also what is kept of a text when it must be cut; halved until all of it fits.
const CLIP: usize = 16 * 1024;
const KIND_MAX: usize = 256;
const STACK_MAX: usize = 64;
/// A longer one is told by its parts alone, which can be cut.
const DOCUMENT_MAX: usize = 24 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: String,
    pub message: String,
    pub stack: Vec<String>,
    /// All of it as a bootstrap wrote it, if that is a JSON object: what a client of AWS gets.
    pub document: Option<String>,
}

impl Fault {
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
            stack: Vec::new(),
            document: None,
        }
    }

    /// What a bootstrap reports: a JSON object with AWS's keys as a rule, but clients differ and shell scripts more so. `kind` is
    /// what its header says, which counts where the body says nothing.
    pub fn reported(kind: Option<&str>, body: &[u8]) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fallback = kind.unwrap_or("Runtime.Unknown");
        let Ok(Value::Object(said)) = serde_json::from_slice(body) else {
            return Self::new(fallback, String::from_utf8_lossy(body));
        };
        Self {
            kind: match said.get("errorType") {
                Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
                _ => fallback.to_owned(),
            },
            message: said.get("errorMessage").map(text).unwrap_or_default(),
            // Clients in JavaScript call it `trace`.
            stack: match said.get("stackTrace").or_else(|| said.get("trace")) {
                Some(Value::Array(lines)) => lines.iter().map(text).collect(),
                Some(Value::String(lines)) => lines.lines().map(str::to_owned).collect(),
                _ => Vec::new(),
            },
            document: (body.len() <= DOCUMENT_MAX)
                .then(|| String::from_utf8_lossy(body).into_owned()),
        }
    }

    /// Never longer than a frame may be: the middle of a long stack goes first.
    pub fn encode(&self) -> Vec<u8> {
        let (mut clip, mut keep) = (CLIP, STACK_MAX);
        let mut body = object(
            &self.kind,
            &self.message,
            &self.stack,
            self.document.as_deref(),
        );
        while body.len() > SMALL_BODY_MAX {
            let mut stack: Vec<_> = self.stack.iter().map(|line| cut(line, clip)).collect();
            if stack.len() > keep {
                let tail = stack.split_off(stack.len() - keep / 2);
                stack.truncate(keep / 2);
                stack.push("  ...\n".into());
                stack.extend(tail);
            }
            body = object(
                &cut(&self.kind, KIND_MAX),
                &cut(&self.message, clip),
                &stack,
                None,
            );
            (clip, keep) = (clip / 2, (keep / 2).max(2));
        }
        body
    }

    /// Prints it to the log.
    pub fn say(&self) {
        let mut text = format!("[ERROR] {}: {}", self.kind, self.message);
        for line in &self.stack {
            text.push('\n');
            text.push_str(line.trim_end_matches('\n'));
        }
        say(&text);
    }
}

/// A line of the log. Nobody may be left to read it: that is no reason to fail.
pub fn say(text: &str) {
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}

fn object(kind: &str, message: &str, stack: &[String], document: Option<&str>) -> Vec<u8> {
    let mut error = json!({ "errorType": kind, "errorMessage": message, "stackTrace": stack });
    if let Some(document) = document {
        error["document"] = document.into();
    }
    error.to_string().into_bytes()
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}
