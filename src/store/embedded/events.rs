//! Asynchronous calls in the embedded store: a table of what is known of each event, one of payloads, and one that says whose time comes
//! when. A claimed event's time is the end of its lease, so one that nobody renews comes up again by itself. There is one process, so
//! what was claimed when the store is opened was its predecessor's, and comes up at once.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::domain::event::{
    Claimed, Event, Failure, Passed, Ran, Record, Settlement, State, Verdict,
};
use crate::domain::id::RequestId;
use crate::store::embedded::{Embedded, Fault, database_fault, whole};
use crate::store::events::{Bounds, Depth, Events};
use crate::store::{Error, record};

type Text = &'static str;

/// Request id to `Known`.
pub(super) const KNOWN: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("events");
/// Request id to payload, while it may be needed.
pub(super) const PAYLOADS: TableDefinition<'_, Text, &[u8]> =
    TableDefinition::new("event_payloads");
/// Milliseconds since the epoch and request id: what is not finished, and when its time comes.
const DUE: TableDefinition<'_, (u64, Text), ()> = TableDefinition::new("events_due");
/// The same for what is finished, and when that was.
const DONE: TableDefinition<'_, (u64, Text), ()> = TableDefinition::new("events_done");
/// Those of them that failed and whose payloads are kept.
pub(super) const DEAD: TableDefinition<'_, (u64, Text), ()> = TableDefinition::new("events_dead");

/// Rows that are looked at to find those that run; this many run at the same time nowhere.
const RUNNING_SCAN: usize = 2000;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) event: Event,
    pub(super) state: State,
    pub(super) attempts: u32,
    /// Of those, the ones that ended and count.
    #[serde(default)]
    pub(super) ended: u32,
    /// Whose claim it is.
    pub(super) by: Option<String>,
    /// Its place in `DUE`, or in `DONE`.
    pub(super) at: u64,
    pub(super) finished_at: Option<jiff::Timestamp>,
    pub(super) failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ran: Option<Ran>,
}

/// Makes the tables, and gives up the claims of a process that is gone.
pub(super) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        let mut claimed = Vec::new();
        for row in tables.due.iter()? {
            let (at, id) = {
                let row = row?.0;
                (row.value().0, row.value().1.to_owned())
            };
            // One that cannot be read is left alone: whoever claims it says so.
            let known: Option<Known> = tables
                .known
                .get(id.as_str())?
                .and_then(|value| record::decode("event", value.value()).ok());
            if let Some(known) = known.filter(|known| known.state == State::Running) {
                claimed.push((at, id, known));
            }
        }
        for (at, id, known) in claimed {
            tables.due.remove((at, id.as_str()))?;
            let known = Known {
                state: State::Queued,
                by: None,
                at: 0,
                ..known
            };
            tables.due.insert((0, id.as_str()), ())?;
            tables
                .known
                .insert(id.as_str(), record::encode(&known).as_slice())?;
        }
    }
    Ok(transaction.commit()?)
}

pub(super) struct Tables<'t> {
    pub(super) known: Table<'t, Text, &'static [u8]>,
    pub(super) payloads: Table<'t, Text, &'static [u8]>,
    pub(super) due: Table<'t, (u64, Text), ()>,
    pub(super) done: Table<'t, (u64, Text), ()>,
    pub(super) dead: Table<'t, (u64, Text), ()>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            known: transaction.open_table(KNOWN)?,
            payloads: transaction.open_table(PAYLOADS)?,
            due: transaction.open_table(DUE)?,
            done: transaction.open_table(DONE)?,
            dead: transaction.open_table(DEAD)?,
        })
    }

    pub(super) fn known(&self, id: &str) -> Result<Option<Known>, Fault> {
        let value = self.known.get(id).map_err(database_fault)?;
        let known = value.map(|value| record::decode(format_args!("event {id}"), value.value()));
        Ok(known.transpose()?)
    }

    /// Writes what is known, with its place in `DUE` moved to `at`.
    pub(super) fn schedule(&mut self, id: &str, mut known: Known, at: u64) -> Result<(), Fault> {
        let mut write = || {
            self.due.remove((known.at, id))?;
            known.at = at;
            self.due.insert((at, id), ())?;
            self.known.insert(id, record::encode(&known).as_slice())?;
            Ok(())
        };
        write().map_err(|e: redb::StorageError| database_fault(e))
    }

    fn append(&mut self, event: &Event, payload: &[u8], bounds: Bounds) -> Result<bool, Fault> {
        let id = event.request_id.to_string();
        if self.known(&id)?.is_some() {
            return Ok(true);
        }
        if self.due.len().map_err(database_fault)? >= bounds.unfinished {
            return Ok(false);
        }
        let payload = self.payloads.insert(id.as_str(), payload).map(drop);
        payload.map_err(database_fault)?;
        let now = milliseconds();
        let known = Known {
            event: event.clone(),
            state: State::Queued,
            attempts: 0,
            ended: 0,
            by: None,
            at: now,
            finished_at: None,
            failure: None,
            ran: None,
        };
        self.schedule(&id, known, now).map(|()| true)
    }

    fn claim(&mut self, by: &str, most: usize, lease: Duration) -> Result<Vec<Claimed>, Fault> {
        let now = milliseconds();
        let mut ids = Vec::new();
        for row in self
            .due
            .range(..(now + 1, ""))
            .map_err(database_fault)?
            .take(most)
        {
            ids.push(row.map_err(database_fault)?.0.value().1.to_owned());
        }
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            let (Some(known), Some(payload)) = (self.known(&id)?, self.payload(&id)?) else {
                return Err(Fault::Database(redb::Error::Corrupted(format!(
                    "event {id} has a time and no content"
                ))));
            };
            let known = Known {
                state: State::Running,
                attempts: known.attempts + 1,
                by: Some(by.into()),
                ..known
            };
            claimed.push(Claimed {
                event: known.event.clone(),
                payload,
                attempt: known.attempts,
                lost: (known.attempts - 1).saturating_sub(known.ended),
                failure: known.failure.clone(),
            });
            self.schedule(&id, known, now.saturating_add(whole(lease)))?;
        }
        Ok(claimed)
    }

    fn renew(
        &mut self,
        by: &str,
        ids: &[RequestId],
        lease: Duration,
    ) -> Result<Vec<RequestId>, Fault> {
        let until = milliseconds().saturating_add(whole(lease));
        let mut lost = Vec::new();
        for request_id in ids {
            let id = request_id.to_string();
            match self.known(&id)? {
                Some(known) if is_claim_of(&known, by) => self.schedule(&id, known, until)?,
                _ => lost.push(*request_id),
            }
        }
        Ok(lost)
    }

    fn settle(
        &mut self,
        by: &str,
        (id, attempt): (&str, u32),
        settlement: Settlement,
        bounds: Bounds,
    ) -> Result<bool, Fault> {
        let known = self.known(id)?;
        let claim = known.filter(|known| is_claim_of(known, by) && known.attempts == attempt);
        let Some(mut known) = claim else {
            return Ok(false);
        };
        let now = milliseconds();
        known.by = None;
        known.ran = settlement.ran.or(known.ran);
        let mut passed = false;
        let (state, failure) = match settlement.verdict {
            Verdict::Again {
                after,
                counts,
                failure,
            } => {
                known.state = State::Queued;
                known.attempts -= u32::from(!counts);
                known.ended += u32::from(counts);
                known.failure = Some(failure);
                self.schedule(id, known, now.saturating_add(whole(after)))?;
                return Ok(true);
            }
            Verdict::Succeeded => (State::Succeeded, None),
            Verdict::Failed(failure) => (State::Failed, Some(failure)),
            Verdict::PassedOn { failure, to } => {
                let all = Bounds {
                    unfinished: u64::MAX,
                    ..bounds
                };
                // The first takes the place of this one. A second goes beyond the bound: what was acknowledged is not refused any more, and
                // no event comes of it in turn.
                for Passed { event, payload } in &to {
                    self.append(event, payload, all)?;
                }
                passed = !to.is_empty();
                match failure {
                    None => (State::Succeeded, None),
                    failure => (State::Failed, failure),
                }
            }
        };
        let finish = || {
            self.due.remove((known.at, id))?;
            known.at = now;
            known.state = state;
            known.failure = failure;
            known.finished_at = Some(clock::wall());
            self.known.insert(id, record::encode(&known).as_slice())?;
            self.done.insert((now, id), ())?;
            match state {
                State::Failed if !passed => self.dead.insert((now, id), ()).map(drop),
                _ => self.payloads.remove(id).map(drop),
            }
        };
        finish().map_err(|e: redb::StorageError| database_fault(e))?;
        self.forget(now, bounds).map_err(database_fault)?;
        Ok(true)
    }

    /// A few at a time, so that no commit takes long.
    fn forget(&mut self, now: u64, bounds: Bounds) -> Result<(), redb::StorageError> {
        const FEW: usize = 100;
        let first = |table: &Table<'t, (u64, Text), ()>| -> Result<Option<(u64, String)>, redb::StorageError> {
            Ok(table.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned())))
        };
        for _ in 0..FEW {
            let Some((at, id)) = first(&self.done)? else {
                break;
            };
            let old = at.saturating_add(whole(bounds.keep)) < now;
            if !old && self.done.len()? <= bounds.finished {
                break;
            }
            self.done.remove((at, id.as_str()))?;
            self.dead.remove((at, id.as_str()))?;
            self.known.remove(id.as_str())?;
            self.payloads.remove(id.as_str())?;
        }
        for _ in 0..FEW {
            if self.dead.len()? <= bounds.dead {
                break;
            }
            if let Some((at, id)) = first(&self.dead)? {
                self.dead.remove((at, id.as_str()))?;
                self.payloads.remove(id.as_str())?;
            }
        }
        Ok(())
    }

    fn payload(&self, id: &str) -> Result<Option<Bytes>, Fault> {
        let payload = self.payloads.get(id).map_err(database_fault)?;
        Ok(payload.map(|payload| Bytes::copy_from_slice(payload.value())))
    }
}

fn is_claim_of(known: &Known, by: &str) -> bool {
    known.state == State::Running && known.by.as_deref() == Some(by)
}

pub(super) fn milliseconds() -> u64 {
    u64::try_from(clock::wall().as_millisecond()).unwrap_or_default()
}

pub(super) fn read(known: Known) -> Record {
    Record {
        event: known.event,
        state: known.state,
        attempts: known.attempts,
        finished_at: known.finished_at,
        failure: known.failure,
        ran: known.ran,
    }
}

/// Whether anybody's time has come.
fn is_due(database: &Database) -> Result<bool, Fault> {
    let look = || {
        let due = database.begin_read()?.open_table(DUE)?;
        let first = due.first()?.map(|(key, _)| key.value().0);
        Ok(first.is_some_and(|at| at <= milliseconds()))
    };
    look().map_err(Fault::Database)
}

fn stored(database: &Database, id: &str) -> Result<Option<Record>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(KNOWN).map_err(database_fault)?;
    let value = table.get(id).map_err(database_fault)?;
    let known = value.map(|value| record::decode(format_args!("event {id}"), value.value()));
    Ok(known.transpose()?.map(read))
}

fn depth(database: &Database) -> Result<Depth, Fault> {
    let now = milliseconds();
    let transaction = database.begin_read().map_err(database_fault)?;
    let known = transaction.open_table(KNOWN).map_err(database_fault)?;
    let due = transaction.open_table(DUE).map_err(database_fault)?;
    let dead = transaction.open_table(DEAD).map_err(database_fault)?;
    let of = |id: &str| -> Result<Option<Known>, Fault> {
        let value = known.get(id).map_err(database_fault)?;
        let known = value.map(|value| record::decode(format_args!("event {id}"), value.value()));
        Ok(known.transpose()?)
    };
    let rows = due.range((now + 1, "")..).map_err(database_fault)?;
    let mut running = 0;
    // Leases end soon, and what is tried again later comes after them.
    for row in rows.take(RUNNING_SCAN) {
        let row = row.map_err(database_fault)?.0;
        let known = of(row.value().1)?;
        running += u64::from(known.is_some_and(|known| known.state == State::Running));
    }
    let mut rows = due.range(..(now + 1, "")).map_err(database_fault)?;
    let due_since = match rows.next() {
        None => None,
        Some(row) => {
            let row = row.map_err(database_fault)?.0;
            let (at, id) = row.value();
            match i64::try_from(at) {
                // Given back by a process that is gone.
                Ok(0) | Err(_) => of(id)?.map(|known| known.event.began_at()),
                Ok(at) => jiff::Timestamp::from_millisecond(at).ok(),
            }
        }
    };
    Ok(Depth {
        unfinished: due.len().map_err(database_fault)?,
        running,
        due_since,
        dead: dead.len().map_err(database_fault)?,
    })
}

pub(super) fn with<T>(
    transaction: &WriteTransaction,
    work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    work(&mut Tables::open(transaction).map_err(database_fault)?)
}

impl Events for Embedded {
    fn append(
        &self,
        event: Event,
        payload: Bytes,
        bounds: Bounds,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let append = self.apply("keep the event", move |transaction| {
                with(transaction, |tables| {
                    tables.append(&event, &payload, bounds)
                })
            });
            match append.await? {
                true => Ok(()),
                false => Err(Error::Full),
            }
        }
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        by: &'a str,
        most: usize,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, Error>> {
        const CLAIM: &str = "claim events";
        async move {
            // A commit writes to the disk even if nothing has changed, and this is asked again and again.
            if !self.look(CLAIM, is_due).await? {
                return Ok(Vec::new());
            }
            let by = by.to_owned();
            self.apply(CLAIM, move |transaction| {
                with(transaction, |tables| tables.claim(&by, most, lease))
            })
            .await
        }
        .boxed()
    }

    fn renew<'a>(
        &'a self,
        by: &'a str,
        claims: &'a [RequestId],
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<RequestId>, Error>> {
        let (by, claims) = (by.to_owned(), claims.to_vec());
        self.apply("renew claims", move |transaction| {
            with(transaction, |tables| tables.renew(&by, &claims, lease))
        })
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        by: &'a str,
        claimed: &'a Claimed,
        settlement: Settlement,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let (by, id) = (by.to_owned(), claimed.event.request_id.to_string());
        let attempt = claimed.attempt;
        self.apply("settle the event", move |transaction| {
            with(transaction, |tables| {
                tables.settle(&by, (&id, attempt), settlement, bounds)
            })
        })
        .boxed()
    }

    fn record<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        let id = id.to_string();
        self.look("read the invocation", move |database| stored(database, &id))
            .boxed()
    }

    fn has_streams(&self) -> bool {
        false
    }

    fn publish<'a>(
        &'a self,
        _: &'a str,
        _: RequestId,
        _: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(Error::NoStreams) }.boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, Error>> {
        self.look("count the events", depth).boxed()
    }
}
