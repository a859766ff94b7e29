//! Dead letters in the embedded store: the tables of events, seen from their end.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::domain::event::{Record, State};
use crate::domain::id::RequestId;
use crate::store::dead_letters::{DeadLetters, Place};
use crate::store::embedded::events::{
    DEAD, KNOWN, Known, PAYLOADS, Tables, milliseconds, read, with,
};
use crate::store::embedded::{Embedded, Fault, database_fault};
use crate::store::events::Bounds;
use crate::store::{Error, record};

impl Tables<'_> {
    /// What is known of a dead letter.
    fn dead_letter(&self, id: &str) -> Result<Option<Known>, Fault> {
        let Some(known) = self.known(id)? else {
            return Ok(None);
        };
        let there = self.dead.get((known.at, id)).map_err(database_fault)?;
        Ok(there.is_some().then_some(known))
    }

    fn redrive(
        &mut self,
        id: &str,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> Result<Option<bool>, Fault> {
        let Some(mut known) = self.dead_letter(id)? else {
            return Ok(Some(false));
        };
        if self.due.len().map_err(database_fault)? >= bounds.unfinished {
            return Ok(None);
        }
        let mut remove = || {
            self.dead.remove((known.at, id))?;
            self.done.remove((known.at, id)).map(drop)
        };
        remove().map_err(database_fault)?;
        known.state = State::Queued;
        known.attempts = 0;
        known.ended = 0;
        known.finished_at = None;
        known.event.redriven_at = Some(at);
        self.schedule(id, known, milliseconds())?;
        Ok(Some(true))
    }

    fn discard(&mut self, id: &str) -> Result<bool, Fault> {
        let Some(known) = self.dead_letter(id)? else {
            return Ok(false);
        };
        let mut remove = || {
            self.dead.remove((known.at, id))?;
            self.payloads.remove(id).map(drop)
        };
        remove().map_err(database_fault)?;
        Ok(true)
    }
}

fn dead(
    database: &Database,
    after: Option<Place>,
    most: usize,
) -> Result<Vec<(Place, Record)>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let dead = transaction.open_table(DEAD).map_err(database_fault)?;
    let known = transaction.open_table(KNOWN).map_err(database_fault)?;
    let id = after.map(|place| place.id.to_string()).unwrap_or_default();
    let rows = match after {
        Some(place) => dead.range(..(place.at, id.as_str())),
        None => dead.iter(),
    };
    let mut found = Vec::new();
    for row in rows.map_err(database_fault)?.rev() {
        if found.len() >= most {
            break;
        }
        let row = row.map_err(database_fault)?.0;
        let (at, id) = row.value();
        let value = known.get(id).map_err(database_fault)?;
        if let Some(value) = value {
            let known: Known = record::decode(format_args!("event {id}"), value.value())?;
            let id = known.event.request_id;
            found.push((Place { at, id }, read(known)));
        }
    }
    Ok(found)
}

fn dead_letter(database: &Database, id: &str) -> Result<Option<(Record, Bytes)>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let dead = transaction.open_table(DEAD).map_err(database_fault)?;
    let known = transaction.open_table(KNOWN).map_err(database_fault)?;
    let payloads = transaction.open_table(PAYLOADS).map_err(database_fault)?;
    let (value, payload) = (known.get(id), payloads.get(id));
    let (Some(value), Some(payload)) = (
        value.map_err(database_fault)?,
        payload.map_err(database_fault)?,
    ) else {
        return Ok(None);
    };
    let known: Known = record::decode(format_args!("event {id}"), value.value())?;
    let there = dead.get((known.at, id)).map_err(database_fault)?;
    let payload = Bytes::copy_from_slice(payload.value());
    Ok(there.is_some().then(|| (read(known), payload)))
}

impl DeadLetters for Embedded {
    fn dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(Place, Record)>, Error>> {
        self.look("list the dead letters", move |database| {
            dead(database, after, most)
        })
        .boxed()
    }

    fn dead_letter<'a>(
        &'a self,
        id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<(Record, Bytes)>, Error>> {
        let id = id.to_string();
        self.look("read the dead letter", move |database| {
            dead_letter(database, &id)
        })
        .boxed()
    }

    fn redrive<'a>(
        &'a self,
        id: &'a RequestId,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let id = id.to_string();
        async move {
            let redriven = self.apply("redrive the dead letter", move |transaction| {
                with(transaction, |tables| tables.redrive(&id, at, bounds))
            });
            redriven.await?.ok_or(Error::Full)
        }
        .boxed()
    }

    fn discard<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        let id = id.to_string();
        self.apply("discard the dead letter", move |transaction| {
            with(transaction, |tables| tables.discard(&id))
        })
        .boxed()
    }
}
