//! What can go wrong with a command, what is printed of it, and the exit code. The one place that turns errors into words for a
//! terminal, with a hint where there is something to do about it.

use serde_json::{Value, json};

use crate::cli::client::{self, Refusal};
use crate::cli::output::{Output, Tone};
use crate::cli::{instance, package};
use crate::config::raw::Faults;
use crate::load::{self, scenario};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    #[error("the configuration has faults")]
    Config(Faults),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Instance(#[from] instance::Error),
    #[error(transparent)]
    Package(#[from] package::Error),
    #[error("cannot read {what}")]
    Read {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {what}")]
    Write {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Scenario(#[from] scenario::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    #[error("the server stopped")]
    Serve(#[source] anyhow::Error),
    /// It was found and shown already.
    #[error("{0}")]
    Failed(String),
    /// A measurement succeeded and is not as it should be: no failure of the command, and told apart by its exit code.
    #[error("{0}")]
    Missed(String),
    #[error("not deleted")]
    Declined,
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Config(_) | Error::Scenario(_) => 2,
            Error::Load(load::Error::BadUrl { .. } | load::Error::NotLoopback(_)) => 2,
            Error::Client(
                client::Error::BadUrl { .. }
                | client::Error::BadKey
                | client::Error::Authorities { .. },
            ) => 2,
            // As other load generators say it; nothing else of this program does.
            Error::Missed(_) => 99,
            // Whoever read the output has seen enough: `hearth list | head`.
            Error::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }

    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Client(client::Error::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Client(client::Error::Unreachable { reason, .. })
                if reason.contains("certificate") =>
            {
                Some("name the authority of its certificate with --ca or HEARTH_CA".into())
            }
            Error::Client(client::Error::Unreachable { .. }) => Some(
                "is it running? start it with 'make up' or 'hearth serve', or name another address \
                 with --url or HEARTH_URL"
                    .into(),
            ),
            Error::Client(client::Error::NotHearth { .. }) => {
                Some("another program seems to answer there; check --url and HEARTH_URL".into())
            }
            Error::Client(client::Error::Refused(refusal)) => refusal_hint(refusal),
            Error::Instance(error) => error.hint(),
            Error::Serve(_) => Some("'hearth doctor' looks at everything the server needs".into()),
            _ => None,
        }
    }

    /// The error and what caused it, on one line.
    fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Some libraries repeat their source in their own text.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

fn refusal_hint(refusal: &Refusal) -> Option<String> {
    let wait = refusal
        .retry_after
        .map_or("".to_owned(), |s| format!(" in {s} s"));
    Some(match (refusal.code.as_str(), refusal.status) {
        ("scope_missing" | "function_not_allowed", _) => {
            "give a key that has the scope with --key or HEARTH_KEY; 'hearth key create' makes one"
                .into()
        }
        ("last_admin_key", _) => "make another with 'hearth key create', or say --force".into(),
        (_, 401 | 403) => {
            "give a key with --key or HEARTH_KEY, or run: eval \"$(hearth env)\"".into()
        }
        ("not_found", _) => return missing_hint(&refusal.message),
        ("stale_revision" | "contended", _) => {
            "somebody else changed it meanwhile; look at it again, then deploy again".into()
        }
        ("throttled", _) => match refusal.reason.as_deref() {
            Some("function_concurrency") => format!(
                "nothing ran; try again{wait}, or raise the function's limit with 'hearth deploy --max-concurrency'"
            ),
            Some("reserved_concurrency") => format!(
                "nothing ran; try again{wait}, or reserve more with 'hearth deploy --reserved-concurrency'"
            ),
            Some("account_concurrency" | "unreserved_concurrency") => {
                format!("nothing ran; try again{wait}, or raise limits.concurrency of the server")
            }
            _ => format!("nothing ran; try again{wait}"),
        },
        ("timeout", _) => "give it more time with 'hearth deploy --timeout SECONDS'".into(),
        ("out_of_memory", _) => "give it more with 'hearth deploy --memory MIB'".into(),
        ("start_failed" | "no_memory", _) => "'hearth doctor' looks for the cause".into(),
        _ if refusal.retry == "safe" => format!("it is safe to try again{wait}"),
        _ => return None,
    })
}

/// Where to look for what is not there. That is in the server's words: its code is the same for all.
fn missing_hint(message: &str) -> Option<String> {
    let list = |what: &str, command: &str| format!("'hearth {command}' shows the {what} there are");
    // What is in quotes may be anything.
    let mut parts = message.split('"');
    let before = parts.next().unwrap_or_default().trim_end();
    Some(match before {
        // A path that means nothing to that server: no list has it.
        "there is nothing at" => return None,
        "there is no layer version" => list("layers", "layer list"),
        "there is no key" => list("keys", "key list"),
        "there is no dead letter" => list("dead letters", "dead-letters list"),
        "there is no invocation" => list("latest calls of a function", "invocations list NAME"),
        "function" => {
            let name = parts.next().unwrap_or("NAME");
            match parts.next().unwrap_or_default().trim() {
                "has no version or alias" => format!(
                    "'hearth version list {name}' and 'hearth alias list {name}' show those there are"
                ),
                "has no alias" => list("aliases", &format!("alias list {name}")),
                _ => list("functions", "list"),
            }
        }
        // Of a URL the first in quotes is what it would lead to.
        "" => match message.rsplit('"').nth(1) {
            Some(name) if message.ends_with("has no URL") => {
                list("URLs", &format!("url list {name}"))
            }
            _ => list("functions", "list"),
        },
        _ => list("functions", "list"),
    })
}

/// Prints an error the way the caller reads: for a person or for a program.
pub fn report(error: &Error, output: &mut Output) -> std::io::Result<()> {
    if error.exit_code() == 0 {
        return Ok(());
    }
    if output.json {
        return output.talk(&document(error).to_string());
    }
    let label = output.paint_talk(Tone::Bad, "error:");
    output.talk(&format!("{label} {}", error.text()))?;
    if let Error::Config(faults) = error {
        for fault in &faults.0 {
            output.talk(&format!("  {fault}"))?;
        }
    }
    if let Some(refusal) = error.refusal() {
        details(refusal, output)?;
    }
    if let Some(hint) = error.hint() {
        let label = output.paint_talk(Tone::Warning, "hint:");
        output.talk(&format!("{label} {hint}"))?;
    }
    Ok(())
}

fn details(refusal: &Refusal, output: &mut Output) -> std::io::Result<()> {
    // A single fault is the message already.
    let faults = refusal
        .faults
        .iter()
        .filter(|f| !refusal.message.contains(&f.message) || refusal.faults.len() > 1);
    for fault in faults {
        output.talk(&format!("  {}: {}", fault.field, fault.message))?;
    }
    let tail = refusal.log_tail.as_deref().unwrap_or_default().trim_end();
    let stack: Vec<_> = refusal
        .stack
        .iter()
        .flat_map(|frame| frame.lines())
        .collect();
    // Many runtimes print the error as well; then the log shows the stack, and once is enough.
    if !stack.iter().all(|line| tail.contains(line.trim())) {
        for line in stack {
            output.talk(&format!("  {}", line.trim_end()))?;
        }
    }
    if !tail.is_empty() {
        let heading = output.paint_talk(Tone::Faint, "last lines of its log:");
        output.talk(&heading)?;
        for line in tail.lines() {
            output.talk(&format!("  {line}"))?;
        }
    }
    // What the caller got wrong is said in full; the id is for finding the rest in logs.
    let id = refusal.request_id.as_ref();
    if let Some(id) = id.filter(|_| refusal.blame != "client") {
        let line = output.paint_talk(Tone::Faint, &format!("request {id}"));
        output.talk(&line)?;
    }
    Ok(())
}

fn document(error: &Error) -> Value {
    let mut body = match error.refusal() {
        Some(refusal) => json!(refusal),
        None => json!({ "code": code(error), "message": error.text() }),
    };
    if let Error::Config(faults) = error {
        let list = faults.0.iter().map(|fault| {
            json!({ "field": fault.key, "origin": fault.origin.to_string(), "message": fault.what })
        });
        body["faults"] = list.collect();
    }
    if let Error::Scenario(scenario::Error::Faults(faults)) = error {
        let fault = |(field, what): &(String, String)| json!({ "field": field, "message": what });
        body["faults"] = faults.0.iter().map(fault).collect();
    }
    if let Some(hint) = error.hint() {
        body["hint"] = hint.into();
    }
    json!({ "error": body })
}

/// Stable, for programs; the server's own codes are passed through and are not among these.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Usage(_) => "usage",
        Error::Config(_) => "configuration",
        Error::Client(client::Error::Unreachable { .. }) => "unreachable",
        Error::Client(client::Error::Timeout { .. }) => "no_answer",
        Error::Client(
            client::Error::BadUrl { .. }
            | client::Error::BadKey
            | client::Error::Authorities { .. },
        ) => "usage",
        Error::Client(_) => "bad_answer",
        Error::Instance(_) => "no_instance",
        Error::Package(_) => "package",
        Error::Read { .. } => "read",
        Error::Write { .. } => "write",
        Error::Scenario(_) => "scenario",
        Error::Load(_) => "load",
        Error::Output(_) => "output",
        Error::Serve(_) => "serve",
        Error::Failed(_) => "failed",
        Error::Missed(_) => "threshold_missed",
        Error::Declined => "declined",
    }
}

#[cfg(test)]
mod tests;
