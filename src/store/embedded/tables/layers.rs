//! Layers: a table of versions by name and number, one of the highest number there ever was of each name, and among the users of code a row
//! for each version.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::domain::id::LayerName;
use crate::domain::layer::{Edit, Id, Version};
use crate::store::Error;
use crate::store::embedded::tables::{Tables, Text};
use crate::store::embedded::{Fault, database_fault};
use crate::store::key::layer_user;
use crate::store::record::{decode, encode};

/// Name and number to version.
pub(super) const LAYERS: TableDefinition<'_, (Text, u64), &[u8]> = TableDefinition::new("layers");
/// Name to the highest number.
pub(super) const LAST: TableDefinition<'_, Text, u64> = TableDefinition::new("layers_last");

/// Makes the tables: a database of an older version has none.
pub(in crate::store::embedded) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(LAYERS)?;
    transaction.open_table(LAST)?;
    Ok(transaction.commit()?)
}

pub(in crate::store::embedded) fn layers(database: &Database) -> Result<Vec<Version>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(LAYERS).map_err(database_fault)?;
    let mut found = Vec::new();
    for row in table.iter().map_err(database_fault)? {
        let (key, value) = row.map_err(database_fault)?;
        let (name, number) = key.value();
        found.push(decode(
            format_args!("layer {name}:{number}"),
            value.value(),
        )?);
    }
    Ok(found)
}

pub(in crate::store::embedded) fn layer(
    database: &Database,
    id: &Id,
) -> Result<Option<Version>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(LAYERS).map_err(database_fault)?;
    let value = table.get((id.name.as_str(), id.number));
    let value = value.map_err(database_fault)?;
    let decoded = value.map(|value| decode(format_args!("layer {id}"), value.value()));
    Ok(decoded.transpose()?)
}

pub(in crate::store::embedded) fn last_of_layer(
    database: &Database,
    name: &LayerName,
) -> Result<u64, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(LAST).map_err(database_fault)?;
    let last = table.get(name.as_str()).map_err(database_fault)?;
    Ok(last.map_or(0, |last| last.value()))
}

impl Tables<'_> {
    pub(in crate::store::embedded) fn edit_layer(
        &mut self,
        edit: &Edit,
        has_code: impl Fn(&str) -> bool,
    ) -> Result<Result<(), Error>, Fault> {
        match edit {
            Edit::Publish(version) => {
                let name = version.id.name.as_str();
                let last = self.layers_last.get(name).map_err(database_fault)?;
                let last = last.map_or(0, |last| last.value());
                if last + 1 != version.id.number {
                    return Ok(Err(Error::Stale));
                }
                let sha256 = &version.content.sha256;
                if !has_code(sha256) {
                    return Ok(Err(Error::CodeMissing(sha256.clone())));
                }
                self.insert_layer(version).map_err(database_fault)?;
                Ok(Ok(()))
            }
            Edit::Policy(version) => {
                let stored = self.layer(&version.id)?.map(|stored| stored.revision);
                if stored.map(|revision| revision + 1) != Some(version.revision) {
                    return Ok(Err(Error::Stale));
                }
                let key = (version.id.name.as_str(), version.id.number);
                let written = self.layers.insert(key, encode(version).as_slice());
                written.map(drop).map_err(database_fault)?;
                Ok(Ok(()))
            }
            Edit::Delete(id) => {
                if let Some(version) = self.layer(id)? {
                    self.remove_layer(version).map_err(database_fault)?;
                }
                Ok(Ok(()))
            }
        }
    }

    fn layer(&self, id: &Id) -> Result<Option<Version>, Fault> {
        let stored = self.layers.get((id.name.as_str(), id.number));
        let stored = stored.map_err(database_fault)?;
        let decoded = stored.map(|value| decode(format_args!("layer {id}"), value.value()));
        Ok(decoded.transpose()?)
    }

    fn insert_layer(&mut self, version: &Version) -> Result<(), redb::StorageError> {
        let (name, number) = (version.id.name.as_str(), version.id.number);
        let sha256 = version.content.sha256.as_str();
        self.layers
            .insert((name, number), encode(version).as_slice())?;
        self.layers_last.insert(name, number)?;
        self.code_uses
            .insert((sha256, layer_user(&version.id).as_str()), ())?;
        self.uploads.remove(sha256)?;
        Ok(())
    }

    fn remove_layer(&mut self, version: Version) -> Result<(), redb::StorageError> {
        let Version { id, content, .. } = version;
        self.layers.remove((id.name.as_str(), id.number))?;
        self.code_uses
            .remove((content.sha256.as_str(), layer_user(&id).as_str()))?;
        self.released.insert(content.sha256);
        Ok(())
    }
}
