//! Everything that can go wrong with a call, in the caller's terms: whose fault it is, whether a retry is safe, and a
//! stable code. Faces turn these into their own shapes; metrics label by blame.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::domain::limits::Mebibytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    Client,
    Function,
    Platform,
}

impl Blame {
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Function => "function",
            Blame::Platform => "platform",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing ran; try again.
    Safe,
    /// The handler may have run.
    Unsafe,
    /// It will fail the same way again.
    Never,
}

impl Retry {
    pub const fn as_str(self) -> &'static str {
        match self {
            Retry::Safe => "safe",
            Retry::Unsafe => "unsafe",
            Retry::Never => "never",
        }
    }
}

/// An error as a runtime reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    #[serde(rename = "errorType", default)]
    pub kind: String,
    #[serde(rename = "errorMessage", default)]
    pub message: String,
    #[serde(rename = "stackTrace", default)]
    pub stack: Vec<String>,
    /// All of it as the function's own runtime wrote it, a JSON object: what clients of AWS get.
    #[serde(default, skip_serializing)]
    pub document: Option<String>,
}

impl Report {
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            ..Self::default()
        }
    }
}

/// Which limit a refused call ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Throttle {
    FunctionConcurrency,
    ReservedConcurrency,
    UnreservedConcurrency,
    AccountConcurrency,
    LineFull,
    /// Not of calls, but of the bodies with which they come.
    Arriving,
}

impl Throttle {
    pub const ALL: [Self; 6] = [
        Throttle::FunctionConcurrency,
        Throttle::ReservedConcurrency,
        Throttle::UnreservedConcurrency,
        Throttle::AccountConcurrency,
        Throttle::LineFull,
        Throttle::Arriving,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Throttle::FunctionConcurrency => "function_concurrency",
            Throttle::ReservedConcurrency => "reserved_concurrency",
            Throttle::UnreservedConcurrency => "unreserved_concurrency",
            Throttle::AccountConcurrency => "account_concurrency",
            Throttle::LineFull => "line_full",
            Throttle::Arriving => "arriving",
        }
    }
}

/// Why a call has no answer. `Display` is the text for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("there is no function {0:?}")]
    NotFound(String),
    /// The function is there, but nothing stands behind its name.
    #[error("function {function:?} has no version or alias {qualifier:?}")]
    NoVersion { function: String, qualifier: String },
    #[error("the payload of {size} bytes is over the limit of {limit}")]
    PayloadTooLarge { size: u64, limit: u64 },
    #[error("the payload is not JSON: {0}")]
    PayloadNotJson(String),
    #[error("the body did not arrive: {0}")]
    BodyIncomplete(String),
    #[error("the body is not written as HTTP has it: {0}")]
    BodyMalformed(String),
    #[error("{}", throttle_text(*reason, *limit))]
    Throttled { reason: Throttle, limit: u32 },
    #[error("the client closed the connection before the answer")]
    ClientGone,

    #[error("{}: {}", .0.kind, .0.message)]
    Handler(Report),
    #[error("{}: {}", .0.kind, .0.message)]
    Init(Report),
    #[error("loading the function took longer than {:.2} seconds", .0.as_secs_f64())]
    InitTimeout(Duration),
    #[error("task timed out after {:.2} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the runtime exited {}", exit_text(*code))]
    Exited { code: Option<i64> },
    #[error("the function used more than its {limit} of memory and was killed")]
    OutOfMemory { limit: Mebibytes },
    #[error("the worker broke the protocol: {0}")]
    Protocol(String),
    /// The worker was lost before the code was loaded; the fault says how.
    #[error("{0}, while the function was being loaded")]
    Loading(Box<Fault>),

    #[error("no worker became free within {:.2} seconds", .0.as_secs_f64())]
    WaitedTooLong(Duration),
    #[error("no worker could be started: {0}")]
    StartFailed(String),
    #[error("the code of this function could not be read: {0}")]
    CodeUnavailable(String),
    #[error("its environment cannot be decrypted on this server: {0}")]
    EnvironmentUnreadable(String),
    #[error("the host's memory budget has no room for a worker of {0}")]
    NoMemory(Mebibytes),
    /// The store that shares the limits among processes has not answered for so long that others may have been given the permits.
    #[error("no permits: the store that shares the limits does not answer")]
    PermitsLost,
    #[error("the server is shutting down")]
    Draining,
    #[error("the server stopped before the function had answered")]
    Interrupted,
}

impl Fault {
    pub fn blame(&self) -> Blame {
        match self {
            Fault::Loading(fault) => fault.blame(),
            Fault::NotFound(_)
            | Fault::NoVersion { .. }
            | Fault::PayloadTooLarge { .. }
            | Fault::PayloadNotJson(_)
            | Fault::BodyIncomplete(_)
            | Fault::BodyMalformed(_)
            | Fault::Throttled { .. }
            | Fault::ClientGone => Blame::Client,
            Fault::Handler(_)
            | Fault::Init(_)
            | Fault::InitTimeout(_)
            | Fault::Timeout(_)
            | Fault::Exited { .. }
            | Fault::OutOfMemory { .. }
            | Fault::Protocol(_) => Blame::Function,
            Fault::WaitedTooLong(_)
            | Fault::StartFailed(_)
            | Fault::CodeUnavailable(_)
            | Fault::EnvironmentUnreadable(_)
            | Fault::NoMemory(_)
            | Fault::PermitsLost
            | Fault::Draining
            | Fault::Interrupted => Blame::Platform,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Fault::NotFound(_)
            | Fault::NoVersion { .. }
            | Fault::PayloadTooLarge { .. }
            | Fault::PayloadNotJson(_)
            | Fault::BodyMalformed(_) => Retry::Never,
            Fault::BodyIncomplete(_)
            | Fault::Throttled { .. }
            | Fault::WaitedTooLong(_)
            | Fault::StartFailed(_)
            | Fault::CodeUnavailable(_)
            | Fault::EnvironmentUnreadable(_)
            | Fault::NoMemory(_)
            | Fault::PermitsLost
            | Fault::Draining => Retry::Safe,
            // Module code may have had effects of its own, but the handler did not run.
            Fault::Init(_) | Fault::InitTimeout(_) | Fault::Loading(_) => Retry::Safe,
            Fault::ClientGone
            | Fault::Interrupted
            | Fault::Handler(_)
            | Fault::Timeout(_)
            | Fault::Exited { .. }
            | Fault::OutOfMemory { .. }
            | Fault::Protocol(_) => Retry::Unsafe,
        }
    }

    /// How it stands with the server, whichever call it is that finds out: when it does, all that come do.
    pub fn is_of_all(&self) -> bool {
        matches!(self, Fault::PermitsLost | Fault::Draining)
    }

    /// Stable; clients may branch on it.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Loading(fault) => fault.code(),
            Fault::NotFound(_) | Fault::NoVersion { .. } => "not_found",
            Fault::PayloadTooLarge { .. } => "payload_too_large",
            Fault::PayloadNotJson(_) => "payload_not_json",
            Fault::BodyIncomplete(_) => "body_incomplete",
            Fault::BodyMalformed(_) => "body_malformed",
            Fault::Throttled { .. } => "throttled",
            Fault::ClientGone => "client_gone",
            Fault::Handler(_) => "function_error",
            Fault::Init(_) => "init_error",
            Fault::InitTimeout(_) => "init_timeout",
            Fault::Timeout(_) => "timeout",
            Fault::Exited { .. } => "worker_exited",
            Fault::OutOfMemory { .. } => "out_of_memory",
            Fault::Protocol(_) => "protocol_error",
            Fault::WaitedTooLong(_) => "waited_too_long",
            Fault::StartFailed(_) => "start_failed",
            Fault::CodeUnavailable(_) => "code_unavailable",
            Fault::EnvironmentUnreadable(_) => "environment_unreadable",
            Fault::NoMemory(_) => "no_memory",
            Fault::PermitsLost => "permits_lost",
            Fault::Draining => "draining",
            Fault::Interrupted => "interrupted",
        }
    }
}

fn throttle_text(reason: Throttle, limit: u32) -> String {
    match reason {
        Throttle::FunctionConcurrency => {
            format!("the function's max_concurrency of {limit} is reached")
        }
        Throttle::ReservedConcurrency => {
            format!("the function's reserved_concurrency of {limit} is reached")
        }
        Throttle::UnreservedConcurrency => {
            format!(
                "the {limit} calls that reservations leave to all other functions are under way"
            )
        }
        Throttle::AccountConcurrency => {
            format!("the account's concurrency limit of {limit} is reached")
        }
        Throttle::LineFull => {
            format!("{limit} calls are waiting for a worker of this function already")
        }
        Throttle::Arriving => {
            format!(
                "requests that arrive hold what they may of {limit} MiB, all together or this client's"
            )
        }
    }
}

fn exit_text(code: Option<i64>) -> String {
    match code {
        Some(0) => "without providing a reason".into(),
        Some(code) => match signal(code) {
            Some(signal) => format!("with status {code} ({})", signal.as_str()),
            None => format!("with status {code}"),
        },
        None => "and its status could not be learnt".into(),
    }
}

/// An error and what is behind it, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        // Some print their source themselves.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    text
}

/// The signal an exit status stands for, by the convention of shells and container engines.
fn signal(code: i64) -> Option<Signal> {
    let number = i32::try_from(code).ok()?.checked_sub(128)?;
    Signal::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_by_a_signal_names_it() {
        let text = |code| Fault::Exited { code }.to_string();
        assert_eq!(
            text(Some(139)),
            "the runtime exited with status 139 (SIGSEGV)"
        );
        assert_eq!(
            text(Some(137)),
            "the runtime exited with status 137 (SIGKILL)"
        );
        for plain in [1, 127, 128, 255, -1, i64::MIN, i64::MAX] {
            assert_eq!(
                text(Some(plain)),
                format!("the runtime exited with status {plain}")
            );
        }
    }

    #[test]
    fn what_is_lost_while_loading_ran_no_call() {
        let lost = Fault::Exited { code: Some(9) };
        assert_eq!(lost.retry(), Retry::Unsafe);
        let loading = Fault::Loading(Box::new(lost.clone()));
        assert_eq!(loading.retry(), Retry::Safe);
        assert_eq!(
            (loading.code(), loading.blame()),
            (lost.code(), lost.blame())
        );
        assert_eq!(
            loading.to_string(),
            "the runtime exited with status 9, while the function was being loaded"
        );
    }
}
