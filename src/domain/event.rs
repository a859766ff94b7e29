//! An asynchronous call: what is kept of it until it has an end, and what became of it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::destination::Destination;
use crate::domain::id::{AliasName, FunctionId, FunctionName, RequestId};
use crate::domain::invocation::{Phases, StartKind, StartReason};
use crate::domain::trace::Carried;
use crate::domain::version::VersionId;

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub request_id: RequestId,
    pub function: FunctionId,
    /// What the function was called then.
    pub name: FunctionName,
    /// Decided when it was accepted: the one it runs however often it is tried.
    #[serde(default = "latest")]
    pub version: VersionId,
    /// The alias it was accepted for, whose settings it has if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// Of the call, as JSON text for the handler's context object; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// The payload is bytes, not JSON.
    pub raw: bool,
    pub accepted_at: jiff::Timestamp,
    /// When it was queued anew after it had failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<jiff::Timestamp>,
    /// Where its payload is taken, if it is the record of another call. Otherwise it is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// How many calls it comes from that were run one because of the other.
    #[serde(default)]
    pub depth: u32,
    /// Of the call that was accepted: the attempts are part of it. None if nothing was traced then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Carried>,
}

impl Event {
    /// From when on its age counts.
    pub fn began_at(&self) -> jiff::Timestamp {
        self.redriven_at.unwrap_or(self.accepted_at)
    }
}

/// Before there were others.
fn latest() -> VersionId {
    VersionId::Latest
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its turn, or for another attempt.
    Queued,
    Running,
    Succeeded,
    /// Given up; it is a dead letter.
    Failed,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
        }
    }
}

/// Why an attempt had no good end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// As in the answer to a synchronous call.
    pub code: String,
    pub message: String,
}

/// How it stands with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub event: Event,
    pub state: State,
    /// Attempts that were begun and count.
    pub attempts: u32,
    pub finished_at: Option<jiff::Timestamp>,
    /// Of the last attempt that failed.
    pub failure: Option<Failure>,
    /// Of the last attempt that was made and had an end.
    pub ran: Option<Ran>,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    pub began_at: jiff::Timestamp,
    pub ended_at: jiff::Timestamp,
    /// `None` if it got no worker, or needed none.
    pub start: Option<(StartKind, StartReason)>,
    pub phases: Phases,
}

/// An event to be run now, by whoever claimed it and nobody else while the claim lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub event: Event,
    pub payload: Bytes,
    /// This one, counted from 1.
    pub attempt: u32,
    /// Of those before, the ones whose end nobody told: whoever had claimed it died, or was too late.
    pub lost: u32,
    /// Of the last attempt that failed, if one did.
    pub failure: Option<Failure>,
}

impl Claimed {
    /// This one among those of which the function's end is known, counted from 1.
    pub fn try_of_its_own(&self) -> u32 {
        self.attempt.saturating_sub(self.lost)
    }
}

/// What whoever claimed an event has to say in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub verdict: Verdict,
    /// `None` if nothing was tried.
    pub ran: Option<Ran>,
}

impl From<Verdict> for Settlement {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, ran: None }
    }
}

/// An event that tells somebody of the end of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub event: Event,
    pub payload: Bytes,
}

/// What becomes of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Succeeded,
    Failed(Failure),
    /// It has its end, good without a failure, and somebody is to be told: each of them by an event of its own, which is there from the
    /// same moment on. One that failed is no dead letter then.
    PassedOn {
        failure: Option<Failure>,
        to: Vec<Passed>,
    },
    /// Once more, after a while. An attempt that never reached the function does not count.
    Again {
        after: Duration,
        counts: bool,
        failure: Failure,
    },
}
