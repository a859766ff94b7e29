//! Versions and aliases: a table of heads, one of versions by function and number, and among the users of code a row for each version.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::domain::id::FunctionId;
use crate::domain::version::{Edit, Head, Published, Version};
use crate::store::Error;
use crate::store::embedded::tables::{Tables, Text, all};
use crate::store::embedded::{Fault, database_fault};
use crate::store::record::{decode, encode};

/// Id to what is published of a function, but the versions.
pub(super) const HEADS: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("version_heads");
/// Id and number to version.
pub(super) const VERSIONS: TableDefinition<'_, (Text, u64), &[u8]> =
    TableDefinition::new("versions");

/// Makes the tables: a database of an older version has none.
pub(in crate::store::embedded) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(HEADS)?;
    transaction.open_table(VERSIONS)?;
    Ok(transaction.commit()?)
}

pub(in crate::store::embedded) fn heads(database: &Database) -> Result<Vec<Head>, Fault> {
    all(database, HEADS, "what is published of")
}

pub(in crate::store::embedded) fn published(
    database: &impl ReadableDatabase,
    id: &FunctionId,
) -> Result<Option<Published>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let heads = transaction.open_table(HEADS).map_err(database_fault)?;
    let table = transaction.open_table(VERSIONS).map_err(database_fault)?;
    let Some(head) = heads.get(id.as_str()).map_err(database_fault)? else {
        return Ok(None);
    };
    let head: Head = decode(format_args!("what is published of {id}"), head.value())?;
    let mut versions = BTreeMap::new();
    let rows = table.range((id.as_str(), 0)..=(id.as_str(), u64::MAX));
    for row in rows.map_err(database_fault)? {
        let (key, value) = row.map_err(database_fault)?;
        let number = key.value().1;
        let version: Version = decode(format_args!("version {number} of {id}"), value.value())?;
        versions.insert(number, Arc::new(version));
    }
    Ok(Some(Published { head, versions }))
}

/// A version among the users of code. No function's id has a slash in it.
fn user(id: &FunctionId, number: u64) -> String {
    format!("{id}/{number}")
}

impl Tables<'_> {
    pub(in crate::store::embedded) fn edit(
        &mut self,
        edit: &Edit,
    ) -> Result<Result<(), Error>, Fault> {
        let id = &edit.head.function;
        let Some(function) = self.function(id.as_str())? else {
            return Ok(Err(Error::Stale));
        };
        let from = self.head(id)?.map_or(0, |head| head.revision);
        if from + 1 != edit.head.revision {
            return Ok(Err(Error::Stale));
        }
        if let Some(version) = &edit.publish
            && version.function.revision != function.revision
        {
            return Ok(Err(Error::Stale));
        }

        let head = encode(&edit.head);
        let written = self.heads.insert(id.as_str(), head.as_slice()).map(drop);
        written.map_err(database_fault)?;
        if let Some(version) = &edit.publish {
            self.insert_version(id, version).map_err(database_fault)?;
        }
        if let Some(number) = edit.delete {
            self.remove_version(id, number)?;
        }
        Ok(Ok(()))
    }

    /// With the function.
    pub(super) fn delete_published(&mut self, id: &FunctionId) -> Result<(), Fault> {
        let removed = self.heads.remove(id.as_str()).map(drop);
        removed.map_err(database_fault)?;
        let mut numbers = Vec::new();
        let rows = self
            .versions
            .range((id.as_str(), 0)..=(id.as_str(), u64::MAX));
        for row in rows.map_err(database_fault)? {
            numbers.push(row.map_err(database_fault)?.0.value().1);
        }
        numbers
            .into_iter()
            .try_for_each(|number| self.remove_version(id, number))
    }

    fn head(&self, id: &FunctionId) -> Result<Option<Head>, Fault> {
        let stored = self.heads.get(id.as_str()).map_err(database_fault)?;
        let decoded =
            stored.map(|value| decode(format_args!("what is published of {id}"), value.value()));
        Ok(decoded.transpose()?)
    }

    fn insert_version(
        &mut self,
        id: &FunctionId,
        version: &Version,
    ) -> Result<(), redb::StorageError> {
        let number = version.number;
        self.versions
            .insert((id.as_str(), number), encode(version).as_slice())?;
        for sha256 in version.function.packages() {
            self.code_uses
                .insert((sha256, user(id, number).as_str()), ())?;
        }
        Ok(())
    }

    fn remove_version(&mut self, id: &FunctionId, number: u64) -> Result<(), Fault> {
        let removed = self.versions.remove((id.as_str(), number));
        let Some(removed) = removed.map_err(database_fault)? else {
            return Ok(());
        };
        let what = format!("version {number} of {id}");
        let version: Version = decode(&what, removed.value())?;
        for sha256 in version.function.packages() {
            let unused = self.code_uses.remove((sha256, user(id, number).as_str()));
            unused.map(drop).map_err(database_fault)?;
            self.released.insert(sha256.into());
        }
        Ok(())
    }
}
