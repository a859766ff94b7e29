//! One call and what became of it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::id::RequestId;
use crate::domain::trace::Trace;

/// What goes in.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub request_id: RequestId,
    pub payload: Bytes,
    /// The payload is bytes, not JSON.
    pub raw: bool,
    /// Extra context as JSON text for the handler's context object; empty when there is none.
    pub context: Bytes,
    /// Somebody wants to know how much memory its worker took.
    pub measured: bool,
    /// Its place in a trace; none when nothing is traced.
    pub trace: Option<Box<Trace>>,
}

/// How the worker that answered came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartKind {
    /// It was idle.
    Warm,
    /// A stem worker was specialised for it.
    Stem,
    /// A container had to be created.
    Cold,
}

impl StartKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            StartKind::Warm => "warm",
            StartKind::Stem => "stem",
            StartKind::Cold => "cold",
        }
    }
}

/// Why a call was not warm. Shown in the answer and counted, so that a cold start is never a riddle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartReason {
    /// An idle worker was there.
    Idle,
    /// The version has had no worker yet.
    FirstCall,
    /// Every worker of the version was busy.
    AllBusy,
    /// Its workers were retired after their keep-alive or evicted for memory.
    Retired,
    /// Its last worker had to be replaced after a fault.
    Replaced,
}

impl StartReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            StartReason::Idle => "idle",
            StartReason::FirstCall => "first_call",
            StartReason::AllBusy => "all_busy",
            StartReason::Retired => "retired",
            StartReason::Replaced => "replaced",
        }
    }
}

/// Where the time of a call went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Waiting in line for a worker.
    pub queue: Duration,
    /// Creating a container for it.
    pub start: Duration,
    /// Handing over code and running its top level.
    pub init: Duration,
    /// The handler.
    pub run: Duration,
}
