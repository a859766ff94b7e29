//! Code signing configurations: a table of them, and a row for each function that has one.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::domain::signing::{Config, Id};
use crate::store::Error;
use crate::store::embedded::tables::{Tables, Text, all};
use crate::store::embedded::{Fault, database_fault};
use crate::store::record::{decode, encode};

/// Id to configuration.
pub(super) const SIGNINGS: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("signings");
/// A configuration and a function that has it, by their ids.
pub(super) const SIGNED: TableDefinition<'_, (Text, Text), ()> = TableDefinition::new("signed");

/// Makes the tables: a database of an older version has none.
pub(in crate::store::embedded) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(SIGNINGS)?;
    transaction.open_table(SIGNED)?;
    Ok(transaction.commit()?)
}

pub(in crate::store::embedded) fn signings(database: &Database) -> Result<Vec<Config>, Fault> {
    all(database, SIGNINGS, "code signing configuration")
}

pub(in crate::store::embedded) fn signing(
    database: &Database,
    id: &Id,
) -> Result<Option<Config>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(SIGNINGS).map_err(database_fault)?;
    read(&table, id)
}

fn read(table: &impl ReadableTable<Text, &'static [u8]>, id: &Id) -> Result<Option<Config>, Fault> {
    let value = table.get(id.as_str()).map_err(database_fault)?;
    let what = format!("code signing configuration {id}");
    let decoded = value.map(|value| decode(&what, value.value()));
    Ok(decoded.transpose()?)
}

impl Tables<'_> {
    pub(in crate::store::embedded) fn put_signing(
        &mut self,
        config: &Config,
        from: Option<u64>,
    ) -> Result<Result<(), Error>, Fault> {
        let stored = self.signing(&config.id)?;
        if stored.map(|stored| stored.revision) != from {
            return Ok(Err(Error::Stale));
        }
        let value = encode(config);
        let written = self.signings.insert(config.id.as_str(), value.as_slice());
        written.map(drop).map_err(database_fault)?;
        Ok(Ok(()))
    }

    /// Whether there was one.
    pub(in crate::store::embedded) fn delete_signing(
        &mut self,
        id: &Id,
    ) -> Result<Result<bool, Error>, Fault> {
        if self.is_in_use(id).map_err(database_fault)? {
            return Ok(Err(Error::SigningInUse(id.clone())));
        }
        let removed = self.signings.remove(id.as_str()).map_err(database_fault)?;
        Ok(Ok(removed.is_some()))
    }

    pub(super) fn signing(&self, id: &Id) -> Result<Option<Config>, Fault> {
        read(&self.signings, id)
    }

    fn is_in_use(&self, id: &Id) -> Result<bool, redb::StorageError> {
        match self.signed.range((id.as_str(), "")..)?.next() {
            Some(row) => Ok(row?.0.value().0 == id.as_str()),
            None => Ok(false),
        }
    }
}
