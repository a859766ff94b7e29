//! Event source mappings in the embedded store: a table of them by id, and one of the places they have.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::domain::mapping::{Edit, Mapping, MappingId};
use crate::store::Error;
use crate::store::embedded::{Embedded, Fault, database_fault};
use crate::store::mappings::{self, All, Found, Mappings};
use crate::store::record::encode;

type Text = &'static str;

/// Id to mapping.
const MAPPINGS: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("mappings");
/// Queue and function to id.
const PLACES: TableDefinition<'_, Text, Text> = TableDefinition::new("mapping_places");

/// Makes the tables: a database of an older version has none.
pub(super) fn open(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(MAPPINGS)?;
    transaction.open_table(PLACES)?;
    Ok(transaction.commit()?)
}

fn all(database: &Database) -> Result<All, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(MAPPINGS).map_err(database_fault)?;
    let mut all = All::default();
    for row in table.iter().map_err(database_fault)? {
        let (id, value) = row.map_err(database_fault)?;
        all.add(id.value(), value.value());
    }
    Ok(all)
}

fn one(database: &Database, id: MappingId) -> Result<Option<Found>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(MAPPINGS).map_err(database_fault)?;
    stored(&table, id)
}

fn stored(
    table: &impl ReadableTable<Text, &'static [u8]>,
    id: MappingId,
) -> Result<Option<Found>, Fault> {
    let id = id.to_string();
    let value = table.get(id.as_str()).map_err(database_fault)?;
    Ok(value.map(|value| mappings::read(&id, value.value())))
}

/// The tables of one write transaction.
struct Tables<'t> {
    mappings: Table<'t, Text, &'static [u8]>,
    places: Table<'t, Text, Text>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        let open = || {
            Ok(Self {
                mappings: transaction.open_table(MAPPINGS)?,
                places: transaction.open_table(PLACES)?,
            })
        };
        open().map_err(|e: redb::TableError| database_fault(e))
    }

    fn edit(&mut self, edit: &Edit) -> Result<Result<(), Error>, Fault> {
        match edit {
            Edit::Put(mapping) => {
                let old = stored(&self.mappings, mapping.id)?.transpose()?;
                let revision = old.as_ref().map_or(0, |old| old.revision);
                if revision + 1 != mapping.revision {
                    return Ok(Err(Error::Stale));
                }
                if let Some(by) = self.owner(&mapping.place())?.filter(|by| *by != mapping.id) {
                    return Ok(Err(Error::PlaceTaken(by)));
                }
                let written = self.replace(mapping, old.as_ref());
                written.map_err(database_fault)?;
            }
            Edit::Delete(id) => {
                match stored(&self.mappings, *id)? {
                    None => {}
                    Some(Ok(old)) => self.remove(*id, &old.place()).map_err(database_fault)?,
                    // Nobody knows what place it has, but the place knows whose it is.
                    Some(Err(_unreadable)) => {
                        let place = self.place_of(*id).map_err(database_fault)?;
                        let place = place.unwrap_or_default();
                        self.remove(*id, &place).map_err(database_fault)?;
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn owner(&self, place: &str) -> Result<Option<MappingId>, Fault> {
        let owner = self.places.get(place).map_err(database_fault)?;
        Ok(owner.and_then(|owner| MappingId::parse(owner.value())))
    }

    fn replace(
        &mut self,
        mapping: &Mapping,
        old: Option<&Mapping>,
    ) -> Result<(), redb::StorageError> {
        if let Some(old) = old {
            self.places.remove(old.place().as_str())?;
        }
        let id = mapping.id.to_string();
        self.places.insert(mapping.place().as_str(), id.as_str())?;
        self.mappings
            .insert(id.as_str(), encode(mapping).as_slice())?;
        Ok(())
    }

    fn place_of(&self, id: MappingId) -> Result<Option<String>, redb::StorageError> {
        let id = id.to_string();
        for row in self.places.iter()? {
            let (place, owner) = row?;
            if owner.value() == id {
                return Ok(Some(place.value().to_owned()));
            }
        }
        Ok(None)
    }

    fn remove(&mut self, id: MappingId, place: &str) -> Result<(), redb::StorageError> {
        self.places.remove(place)?;
        self.mappings.remove(id.to_string().as_str())?;
        Ok(())
    }
}

impl Mappings for Embedded {
    fn mappings(&self) -> BoxFuture<'_, Result<All, Error>> {
        self.look("list the event source mappings", all).boxed()
    }

    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Found>, Error>> {
        let look = move |database: &Database| one(database, id);
        self.look("read the event source mapping", look).boxed()
    }

    fn edit_mapping(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let work = move |transaction: &WriteTransaction| Tables::open(transaction)?.edit(&edit);
            self.apply("write the event source mapping", work).await?
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;

    #[tokio::test]
    async fn one_that_cannot_be_read_is_alone_in_that() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Embedded::open(dir.path()).expect("opens");
        suite::mappings::one_that_cannot_be_read(&*store, async |id, value| {
            let write = move |transaction: &WriteTransaction| {
                let mut table = transaction.open_table(MAPPINGS).map_err(database_fault)?;
                let old = table.insert(id.to_string().as_str(), value.as_bytes());
                old.map(drop).map_err(database_fault)
            };
            store
                .apply("damage a mapping", write)
                .await
                .expect("is written");
        })
        .await;
    }
}
