//! Asynchronous calls between their acceptance and their end, as every store keeps them. An event that was appended is run at least once:
//! whoever claims it has it for a while, renews that while it runs, and says in the end what became of it; if it says nothing, because it
//! was killed, somebody else claims the event when the while is over.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::event::{Claimed, Event, Record, Settlement};
use crate::domain::id::RequestId;
use crate::store::Error;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events without an end, payloads included. More are refused.
    pub unfinished: u64,
    /// Records of events that have one, and for how long. The oldest go first.
    pub finished: u64,
    pub keep: Duration,
    /// Payloads of those that failed.
    pub dead: u64,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub unfinished: u64,
    /// Of them, those that somebody has.
    pub running: u64,
    /// Since when one could be run that nobody has; `None` if there is none such.
    pub due_since: Option<jiff::Timestamp>,
    pub dead: u64,
}

pub trait Events {
    /// Keeps an event; `Error::Full` if there are too many. The same again is no change.
    fn append(
        &self,
        event: Event,
        payload: Bytes,
        bounds: Bounds,
    ) -> BoxFuture<'_, Result<(), Error>>;
    /// Up to `most` events whose time has come and that nobody has. They are this process's for the length of the lease, which is the
    /// same for all: a store may take the one of whoever claims next for the one of the last.
    fn claim<'a>(
        &'a self,
        by: &'a str,
        most: usize,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, Error>>;
    /// Keeps claims for another lease from now on. Says which are not this process's any more.
    fn renew<'a>(
        &'a self,
        by: &'a str,
        claims: &'a [RequestId],
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<RequestId>, Error>>;
    /// Ends a claim. `false` if it was not this process's any more, or of an earlier attempt: then nothing is changed.
    fn settle<'a>(
        &'a self,
        by: &'a str,
        claimed: &'a Claimed,
        settlement: Settlement,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// How it stands with an event; `None` if it never was or is forgotten.
    fn record<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<Option<Record>, Error>>;
    /// Whether there are streams that documents can be added to.
    fn has_streams(&self) -> bool;
    /// Adds a document to a stream that is not the store's own.
    fn publish<'a>(
        &'a self,
        stream: &'a str,
        id: RequestId,
        document: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>>;
    fn depth(&self) -> BoxFuture<'_, Result<Depth, Error>>;
}
