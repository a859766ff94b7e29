//! Why a worker had to be started: what a person asks when a call was not warm. Decided where a start is reserved (`pool::state`),
//! kept in the function's ledger, shown by the API.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::invocation::StartReason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The function has not been called since this process was started.
    FirstCall,
    /// It was deployed anew, and its old workers cannot run the new code.
    VersionChanged,
    /// So many workers were there or on their way, and none of them idle.
    ScaleOut { workers: usize },
    /// It is one of those that are kept ready.
    Provisioned,
    /// Its last worker was idle for longer than the keep-alive.
    KeepAlive { at: Timestamp },
    /// Its last worker was idle, and worth less than the room it took in the memory budget: another function's call needed it.
    Evicted { at: Timestamp, favour: Arc<str> },
    /// Its last worker died, or did what no worker may.
    Crashed { at: Timestamp, how: &'static str },
    /// The container that held its network ended, and its last worker had none any more.
    NetworkEnded { at: Timestamp },
    /// Its last worker was killed because nobody waited for its answer any more.
    Cancelled { at: Timestamp, how: &'static str },
}

impl Cause {
    /// As a metric label and in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Cause::FirstCall => "first_call",
            Cause::VersionChanged => "version_changed",
            Cause::ScaleOut { .. } => "scale_out",
            Cause::Provisioned => "provisioned",
            Cause::KeepAlive { .. } => "keep_alive",
            Cause::Evicted { .. } => "evicted",
            Cause::Crashed { .. } => "crashed",
            Cause::NetworkEnded { .. } => "network_ended",
            Cause::Cancelled { .. } => "cancelled",
        }
    }

    /// As the answer to a call has it, in fewer words.
    pub const fn reason(&self) -> StartReason {
        match self {
            Cause::FirstCall | Cause::VersionChanged | Cause::Provisioned => StartReason::FirstCall,
            Cause::ScaleOut { .. } => StartReason::AllBusy,
            Cause::KeepAlive { .. } | Cause::Evicted { .. } => StartReason::Retired,
            Cause::Crashed { .. } | Cause::NetworkEnded { .. } | Cause::Cancelled { .. } => {
                StartReason::Replaced
            }
        }
    }

    /// When what led to it happened, if that was before the call.
    pub const fn at(&self) -> Option<Timestamp> {
        match self {
            Cause::KeepAlive { at }
            | Cause::Evicted { at, .. }
            | Cause::Crashed { at, .. }
            | Cause::NetworkEnded { at }
            | Cause::Cancelled { at, .. } => Some(*at),
            Cause::FirstCall
            | Cause::VersionChanged
            | Cause::Provisioned
            | Cause::ScaleOut { .. } => None,
        }
    }
}
