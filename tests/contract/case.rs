//! The cases as they are written in `runtimes/_contract/*.toml` and `runtimes/<id>/contract/*.toml`; the keys are explained in
//! `runtimes/_contract/README.md`. Unknown keys are refused, so that a typo cannot make a case check nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    not_applicable: Vec<NotApplicable>,
    case: Vec<Case>,
}

/// A case of the contract that means nothing for a runtime.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotApplicable {
    pub(crate) case: String,
    pub(crate) why: String,
}

/// What a folder's files say.
#[derive(Debug, Default)]
pub(crate) struct Cases {
    pub(crate) cases: Vec<Case>,
    pub(crate) not_applicable: Vec<NotApplicable>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub name: String,
    /// Empty only for cases that end before INIT.
    #[serde(default)]
    pub handler: String,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The folder of the runtime whose files are the function's code.
    #[serde(default = "contract_folder")]
    pub(crate) code: String,
    /// The folder of the runtime that is below `/opt`, as layers are.
    pub(crate) layers: Option<String>,
    /// Must not share its worker with another case, because it counts.
    #[serde(default)]
    pub fresh: bool,
    pub needs: Option<Needs>,
    #[serde(default)]
    pub init: Init,
    #[serde(default)]
    pub step: Vec<Step>,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
pub(crate) enum Needs {
    #[serde(rename = "memory limit")]
    MemoryLimit,
    /// Than root, which may do everything everywhere.
    #[serde(rename = "another user")]
    AnotherUser,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Init {
    /// INIT is not sent: the worker stays a stem worker.
    #[serde(default)]
    pub skip: bool,
    /// What INIT says the worker was started for, if it says it.
    pub initialization: Option<String>,
    /// INIT is answered with this INIT_ERROR.
    pub error: Option<Error>,
    /// INIT is not answered: the process ends. A step says how.
    #[serde(default)]
    pub ends: bool,
    #[serde(default)]
    pub log_has: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// INVOKE, and what comes of it.
    Call(Box<Call>),
    /// PING with this body, answered by PONG.
    Ping(String),
    /// Bytes that are not answered.
    Send(Send),
    Shutdown(Now),
    /// Hearth's end of the connection is closed.
    HangUp(Now),
    /// The process ends, and the connection with it.
    Ends(Ends),
}

/// A step without details, written `= "now"`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Now {
    Now,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub payload: Option<String>,
    pub payload_hex: Option<String>,
    /// A JSON string that is this long with its quotes.
    pub payload_bytes: Option<usize>,
    /// This many arrays, one inside the other.
    pub(crate) payload_nested: Option<usize>,
    /// Whether `payload_hex` goes as RAW.
    #[serde(default = "yes")]
    pub raw: bool,
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    pub request_id: Option<String>,
    #[serde(default)]
    pub extra: String,
    /// Instead of the next one.
    pub stream_id: Option<u32>,
    /// A PING goes first, in the same write.
    pub after_ping: Option<String>,
    /// The frame goes in writes of this many bytes.
    pub split: Option<usize>,
    /// `at_once`, `after_piece` or `after_log:<line>`.
    pub cancel: Option<String>,

    /// The answer as JSON, compared by value.
    pub answer: Option<String>,
    /// The answer as JSON, compared as text.
    pub answer_text: Option<String>,
    pub answer_hex: Option<String>,
    pub answer_bytes: Option<usize>,
    #[serde(default)]
    pub answer_is_payload: bool,
    /// The answer's `before` and `after` are possible remaining times at least this far apart.
    pub remaining_fell_by_ms: Option<u64>,
    pub stream: Option<Stream>,
    pub error: Option<Error>,
    /// After the answer the process ends; the next step says how.
    #[serde(default)]
    pub(crate) then_ends: bool,
    /// Nothing is waited for; the next step says what happens.
    #[serde(default)]
    pub unanswered: bool,

    /// All lines of the log when the answer is there.
    pub log: Option<Vec<String>>,
    /// Texts the log has when the answer is there, one after the other.
    #[serde(default)]
    pub log_has: Vec<String>,
    pub log_lines: Option<usize>,
    /// Lines that come some time after it.
    #[serde(default)]
    pub log_later: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stream {
    pub content_type: String,
    pub body: Option<String>,
    pub body_hex: Option<String>,
    pub body_bytes: Option<usize>,
    pub pieces: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Error {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: Option<String>,
    pub message_has: Option<String>,
    /// Texts the stack contains, in any order; with none, the stack is not looked at.
    #[serde(default)]
    pub stack_has: Vec<String>,
    #[serde(default)]
    pub bad_request: bool,
    #[serde(default)]
    pub last: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub kind: Option<String>,
    #[serde(default)]
    pub stream: u32,
    #[serde(default)]
    pub body: String,
    pub hex_body: Option<String>,
    /// Exactly these bytes instead of a frame.
    pub hex: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ends {
    pub status: Option<i32>,
    /// By a signal, whichever.
    #[serde(default)]
    pub signal: bool,
    #[serde(default)]
    pub log_has: Vec<String>,
}

fn contract_folder() -> String {
    "contract".to_owned()
}

fn yes() -> bool {
    true
}

fn default_timeout() -> u64 {
    10_000
}

impl Case {
    /// One without steps.
    pub(crate) fn of_handler(name: &str, handler: &str) -> Self {
        Self {
            name: name.to_owned(),
            handler: handler.to_owned(),
            environment: BTreeMap::new(),
            code: contract_folder(),
            layers: None,
            fresh: true,
            needs: None,
            init: Init::default(),
            step: Vec::new(),
        }
    }

    /// What INIT says: cases that agree on it can share a worker.
    pub(crate) fn worker(&self) -> (&str, &BTreeMap<String, String>, &str, Option<&str>) {
        let layers = self.layers.as_deref();
        (&self.handler, &self.environment, &self.code, layers)
    }

    /// Whether the worker can serve another case with the same handler and environment afterwards.
    pub(crate) fn leaves_worker(&self) -> bool {
        let ends = |step: &Step| {
            matches!(step, Step::Ends(_) | Step::Shutdown(_) | Step::HangUp(_))
                || matches!(step, Step::Call(call) if call.unanswered || call.then_ends)
        };
        !self.fresh && !self.init.skip && self.init.error.is_none() && !self.step.iter().any(ends)
    }
}

/// The cases of a folder's `*.toml`, in the order of the files' names and of the lines in them.
pub(crate) fn read_folder(folder: &Path) -> anyhow::Result<Cases> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut found = Cases::default();
    for path in paths {
        let file: File = toml::from_str(&std::fs::read_to_string(&path)?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        found.cases.extend(file.case);
        found.not_applicable.extend(file.not_applicable);
    }
    Ok(found)
}
