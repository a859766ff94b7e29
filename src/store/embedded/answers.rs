//! Answers to named calls in the embedded store. What a predecessor had begun and not ended is free when the store is opened: there is one
//! process, and that one is gone.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::domain::id::RequestId;
use crate::domain::idempotency::{Answer, Key};
use crate::store::answers::{Answers, Begun, Bounds, Ended, Head};
use crate::store::embedded::{Embedded, Fault, database_fault, whole};
use crate::store::{Error, record};

type Text = &'static str;

/// Id of a key to `Known`.
const KNOWN: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("answers");
const BODIES: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("answer_bodies");
/// Milliseconds since the epoch at which a key is forgotten, and its id, to the bytes that frees.
const UNTIL: TableDefinition<'_, (u64, Text), u64> = TableDefinition::new("answers_until");
/// Ids of keys without an end.
const RUNNING: TableDefinition<'_, Text, ()> = TableDefinition::new("answers_running");
/// Bytes of all answers, under the empty name.
const BYTES: TableDefinition<'_, Text, u64> = TableDefinition::new("answers_bytes");

/// Keys that are forgotten in one go, so that no commit takes long.
const FEW: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    print: String,
    first: RequestId,
    /// Its place in `UNTIL`.
    until: u64,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
enum State {
    /// `lease`: when it is over, in milliseconds since the epoch.
    Running { by: RequestId, lease: u64 },
    /// `None` if the answer was not kept.
    Done(Option<Head>),
}

/// Makes the tables, forgets what is over, and ends the leases of a process that is gone.
pub(super) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        let now = clock::unix_millis();
        while tables.forget(now)? > 0 {}
        let mut running = Vec::new();
        for row in tables.running.iter()? {
            running.push(row?.0.value().to_owned());
        }
        for id in running {
            let value = tables.known.get(id.as_str())?;
            let known = value.and_then(|v| record::decode::<Known>("answer", v.value()).ok());
            // One that cannot be read is left alone: whoever asks for it is told so.
            if let Some(mut known) = known
                && let State::Running { lease, .. } = &mut known.state
            {
                *lease = 0;
                tables
                    .known
                    .insert(id.as_str(), record::encode(&known).as_slice())?;
            }
        }
    }
    Ok(transaction.commit()?)
}

struct Tables<'t> {
    known: Table<'t, Text, &'static [u8]>,
    bodies: Table<'t, Text, &'static [u8]>,
    until: Table<'t, (u64, Text), u64>,
    running: Table<'t, Text, ()>,
    bytes: Table<'t, Text, u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            known: transaction.open_table(KNOWN)?,
            bodies: transaction.open_table(BODIES)?,
            until: transaction.open_table(UNTIL)?,
            running: transaction.open_table(RUNNING)?,
            bytes: transaction.open_table(BYTES)?,
        })
    }

    fn begin(&mut self, key: &Key, by: RequestId, bounds: Bounds) -> Result<Option<Begun>, Fault> {
        let now = clock::unix_millis();
        self.forget(now).map_err(database_fault)?;
        let mut known = read(&self.known, &key.id)?;
        if known.as_ref().is_some_and(|known| known.until <= now) {
            self.drop(&key.id, known.take()).map_err(database_fault)?;
        }
        if let Some(known) = &known {
            // Somebody may have come first since it was looked at.
            if let Some(begun) = judge(known, key, now, || body(&self.bodies, &key.id))? {
                return Ok(Some(begun));
            }
        } else if self.until.len().map_err(database_fault)? >= bounds.keys {
            return Ok(None);
        }
        let first = known.as_ref().map_or(by, |known| known.first);
        let begun = Known {
            print: key.print.clone(),
            first,
            until: known.map_or(0, |known| known.until),
            state: State::Running {
                by,
                lease: now.saturating_add(whole(bounds.lease)),
            },
        };
        let until = now.saturating_add(whole(bounds.keep.max(bounds.lease)));
        self.write(&key.id, begun, until, 0)
            .map_err(database_fault)?;
        self.running
            .insert(key.id.as_str(), ())
            .map_err(database_fault)?;
        Ok(Some(Begun::Yours { first }))
    }

    fn hold(&mut self, key: &Key, by: RequestId, bounds: Bounds) -> Result<bool, Fault> {
        let Some(mut known) = self.held(key, by)? else {
            return Ok(false);
        };
        let now = clock::unix_millis();
        let lease = now.saturating_add(whole(bounds.lease));
        known.state = State::Running { by, lease };
        let until = now.saturating_add(whole(bounds.keep.max(bounds.lease)));
        let held = self.write(&key.id, known, until, 0);
        held.map(|()| true).map_err(database_fault)
    }

    fn end(
        &mut self,
        key: &Key,
        by: RequestId,
        answer: Option<Answer>,
        bounds: Bounds,
    ) -> Result<Ended, Fault> {
        let Some(mut known) = self.held(key, by)? else {
            return Ok(Ended::Lost);
        };
        let id = key.id.as_str();
        let write = |tables: &mut Self| -> Result<Ended, redb::StorageError> {
            let there = tables.bytes.get("")?.map_or(0, |bytes| bytes.value());
            let fits = answer.filter(|a| there + a.body.len() as u64 <= bounds.bytes);
            let ended = match fits {
                Some(_) => Ended::Kept,
                None => Ended::Unkept,
            };
            let size = fits.as_ref().map_or(0, |answer| answer.body.len() as u64);
            if let Some(answer) = &fits {
                tables.bodies.insert(id, &answer.body[..])?;
                tables.bytes.insert("", there + size)?;
            }
            known.state = State::Done(fits.as_ref().map(Head::of));
            tables.running.remove(id)?;
            let until = clock::unix_millis().saturating_add(whole(bounds.keep));
            tables.write(id, known, until, size)?;
            Ok(ended)
        };
        write(self).map_err(database_fault)
    }

    fn release(&mut self, key: &Key, by: RequestId) -> Result<bool, Fault> {
        let Some(known) = self.held(key, by)? else {
            return Ok(false);
        };
        let dropped = self.drop(&key.id, Some(known));
        dropped.map(|()| true).map_err(database_fault)
    }

    /// What is known of a key that this one has.
    fn held(&self, key: &Key, by: RequestId) -> Result<Option<Known>, Fault> {
        let is_held =
            |known: &Known| matches!(known.state, State::Running { by: other, .. } if other == by);
        Ok(read(&self.known, &key.id)?.filter(is_held))
    }

    /// Writes what is known, with its place in `UNTIL` moved.
    fn write(
        &mut self,
        id: &str,
        mut known: Known,
        until: u64,
        size: u64,
    ) -> Result<(), redb::StorageError> {
        self.until.remove((known.until, id))?;
        known.until = until;
        self.until.insert((until, id), size)?;
        self.known.insert(id, record::encode(&known).as_slice())?;
        Ok(())
    }

    /// Says how many were forgotten.
    fn forget(&mut self, now: u64) -> Result<usize, redb::StorageError> {
        for forgotten in 0..FEW {
            let first = self.until.first()?;
            let Some((at, id)) = first.map(|(key, _)| (key.value().0, key.value().1.to_owned()))
            else {
                return Ok(forgotten);
            };
            if at > now {
                return Ok(forgotten);
            }
            self.remove(at, &id)?;
        }
        Ok(FEW)
    }

    fn drop(&mut self, id: &str, known: Option<Known>) -> Result<(), redb::StorageError> {
        known.map_or(Ok(()), |known| self.remove(known.until, id))
    }

    fn remove(&mut self, at: u64, id: &str) -> Result<(), redb::StorageError> {
        let freed = self.until.remove((at, id))?.map_or(0, |size| size.value());
        let there = self.bytes.get("")?.map_or(0, |bytes| bytes.value());
        if freed > 0 {
            self.bytes.insert("", there.saturating_sub(freed))?;
        }
        self.known.remove(id)?;
        self.bodies.remove(id)?;
        self.running.remove(id)?;
        Ok(())
    }
}

fn read(table: &impl ReadableTable<Text, &'static [u8]>, id: &str) -> Result<Option<Known>, Fault> {
    let value = table.get(id).map_err(database_fault)?;
    let known = value.map(|value| record::decode(format_args!("answer {id}"), value.value()));
    Ok(known.transpose()?)
}

fn body(table: &impl ReadableTable<Text, &'static [u8]>, id: &str) -> Result<Bytes, Fault> {
    let body = table.get(id).map_err(database_fault)?;
    Ok(body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.value())))
}

/// How it stands with a key that is known; `None` if it can be begun again.
fn judge(
    known: &Known,
    key: &Key,
    now: u64,
    body: impl FnOnce() -> Result<Bytes, Fault>,
) -> Result<Option<Begun>, Fault> {
    if known.print != key.print {
        return Ok(Some(Begun::Different));
    }
    Ok(match &known.state {
        State::Running { lease, .. } if *lease <= now => None,
        State::Running { .. } => Some(Begun::Running),
        State::Done(None) => Some(Begun::Unkept),
        State::Done(Some(head)) => Some(Begun::Answered(head.with(body()?))),
    })
}

/// How it stands with a key, if nothing has to be written for that.
fn look(database: &Database, key: &Key) -> Result<Option<Begun>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let known = transaction.open_table(KNOWN).map_err(database_fault)?;
    let bodies = transaction.open_table(BODIES).map_err(database_fault)?;
    let now = clock::unix_millis();
    match read(&known, &key.id)? {
        Some(known) if known.until > now => judge(&known, key, now, || body(&bodies, &key.id)),
        _ => Ok(None),
    }
}

/// Whether the time of any key is over.
fn is_over(database: &Database) -> Result<bool, Fault> {
    let first = || {
        let until = database.begin_read()?.open_table(UNTIL)?;
        let first = until.first()?.map(|(key, _)| key.value().0);
        Ok(first.is_some_and(|at| at <= clock::unix_millis()))
    };
    first().map_err(Fault::Database)
}

fn with<T>(
    transaction: &WriteTransaction,
    work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    work(&mut Tables::open(transaction).map_err(database_fault)?)
}

impl Answers for Embedded {
    fn begin<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Begun, Error>> {
        const BEGIN: &str = "begin the named call";
        async move {
            // A commit writes to the disk, and who waits for an answer asks again and again.
            let wanted = key.clone();
            let seen = self.look(BEGIN, move |database| look(database, &wanted));
            if let Some(begun) = seen.await? {
                return Ok(begun);
            }
            let key = key.clone();
            let begun = self.apply(BEGIN, move |transaction| {
                with(transaction, |tables| tables.begin(&key, by, bounds))
            });
            begun.await?.ok_or(Error::Full)
        }
        .boxed()
    }

    fn hold<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let key = key.clone();
        self.apply("hold the named call", move |transaction| {
            with(transaction, |tables| tables.hold(&key, by, bounds))
        })
        .boxed()
    }

    fn end<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        answer: Option<&'a Answer>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        let (key, answer) = (key.clone(), answer.cloned());
        self.apply("keep the answer", move |transaction| {
            with(transaction, |tables| tables.end(&key, by, answer, bounds))
        })
        .boxed()
    }

    fn release<'a>(&'a self, key: &'a Key, by: RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        let key = key.clone();
        self.apply("release the named call", move |transaction| {
            with(transaction, |tables| tables.release(&key, by))
        })
        .boxed()
    }

    fn forget(&self) -> BoxFuture<'_, Result<bool, Error>> {
        const FORGET: &str = "forget old answers";
        async move {
            // Looked at first, as above: this is asked for as long as the process lives.
            if !self.look(FORGET, is_over).await? {
                return Ok(false);
            }
            let forgotten = self.apply(FORGET, move |transaction| {
                with(transaction, |tables| {
                    tables.forget(clock::unix_millis()).map_err(database_fault)
                })
            });
            Ok(forgotten.await? > 0)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::id::FunctionId;

    #[tokio::test]
    async fn what_is_over_is_forgotten_when_the_store_is_opened() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Embedded::open(dir.path()).expect("opens");
        let key = |written| Key::of(&FunctionId::from_stored("f"), written, "", b"{}");
        for (written, keep) in [("old", 1), ("kept", 3_600_000)] {
            let time = Duration::from_millis(keep);
            let bounds = Bounds {
                keys: 9,
                bytes: 9,
                keep: time,
                lease: time,
            };
            let key = key(written);
            let begun = store.begin(&key, RequestId::generate(), bounds);
            let begun = begun.await.expect("begun");
            assert!(matches!(begun, Begun::Yours { .. }), "{begun:?}");
        }
        drop(store);
        let until = clock::unix_millis() + 2;
        while clock::unix_millis() < until {
            std::thread::yield_now();
        }
        let store = Embedded::open(dir.path()).expect("opens");
        let known = |database: &Database| {
            let count = || {
                let known = database.begin_read()?.open_table(KNOWN)?;
                Ok(known.len()?)
            };
            count().map_err(Fault::Database)
        };
        let known = store.look("count", known).await.expect("counted");
        assert_eq!(known, 1);
        assert!(!store.forget().await.expect("forgets"));
    }
}
