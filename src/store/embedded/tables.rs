//! What is in the database, and the rules a change has to keep: one revision follows another, names and routes are unique, a
//! function has its code. Runs inside the writer's transaction; a refused change has written nothing.

mod layers;
mod signing;
mod versions;

use std::collections::{BTreeSet, HashSet};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::de::DeserializeOwned;

use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::KeyRecord;
use crate::domain::route;
use crate::store::Error;
use crate::store::embedded::{Fault, database_fault};
use crate::store::record::{decode, encode};

pub(super) use layers::{last_of_layer, layer, layers, open as open_layers};
pub(super) use signing::{open as open_signing, signing, signings};
pub(super) use versions::{heads, open as open_versions, published};

/// The layout of the tables below. A larger one is refused: writing with old rules would break what a newer version wrote.
pub(super) const FORMAT: u64 = 1;
/// Packages kept although no function uses them yet: between the upload and the function that names it. The oldest goes when
/// there are more, so that uploads nobody followed up cannot fill the disk.
pub(super) const UPLOADS_MAX: u64 = 100;

type Text = &'static str;

const META: TableDefinition<'_, Text, u64> = TableDefinition::new("meta");
/// Id to function.
const FUNCTIONS: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("functions");
/// Name to id.
const NAMES: TableDefinition<'_, Text, Text> = TableDefinition::new("names");
/// Shape of a route to id.
const ROUTES: TableDefinition<'_, Text, Text> = TableDefinition::new("routes");
/// Hash of a package and who uses it: a function's id, a version, `id/number`, or a layer, `layer:name:number`.
const CODE_USES: TableDefinition<'_, (Text, Text), ()> = TableDefinition::new("code_uses");
/// Hash of a package no function was written with since it was uploaded, and the place of the upload in their order.
const UPLOADS: TableDefinition<'_, Text, u64> = TableDefinition::new("uploads");
/// Id to API key.
const KEYS: TableDefinition<'_, Text, &[u8]> = TableDefinition::new("keys");

/// The format of the database, which a new one gets here together with its tables.
pub(super) fn format(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => {
            if let Some(format) = meta.get("format")? {
                return Ok(format.value());
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(FUNCTIONS)?;
    transaction.open_table(NAMES)?;
    transaction.open_table(ROUTES)?;
    transaction.open_table(CODE_USES)?;
    transaction.open_table(UPLOADS)?;
    transaction.open_table(KEYS)?;
    transaction.commit()?;
    Ok(FORMAT)
}

#[cfg(test)]
pub(super) fn set_format(database: &Database, format: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", format)?;
    Ok(transaction.commit()?)
}

/// Hashes of all packages somebody may still ask for.
pub(super) fn kept_code(database: &Database) -> Result<HashSet<String>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut kept = HashSet::new();
    for row in transaction.open_table(CODE_USES)?.iter()? {
        kept.insert(row?.0.value().0.to_owned());
    }
    for row in transaction.open_table(UPLOADS)?.iter()? {
        kept.insert(row?.0.value().to_owned());
    }
    Ok(kept)
}

pub(super) fn functions(database: &impl ReadableDatabase) -> Result<Vec<Function>, Fault> {
    all(database, FUNCTIONS, "function")
}

pub(super) fn function(database: &Database, id: &FunctionId) -> Result<Option<Function>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(FUNCTIONS).map_err(database_fault)?;
    let value = table.get(id.as_str()).map_err(database_fault)?;
    let decoded = value.map(|value| decode(format_args!("function {id}"), value.value()));
    Ok(decoded.transpose()?)
}

pub(super) fn keys(database: &impl ReadableDatabase) -> Result<Vec<KeyRecord>, Fault> {
    all(database, KEYS, "key")
}

fn all<T: DeserializeOwned>(
    database: &impl ReadableDatabase,
    table: TableDefinition<'_, Text, &'static [u8]>,
    what: &str,
) -> Result<Vec<T>, Fault> {
    let transaction = database.begin_read().map_err(database_fault)?;
    let table = transaction.open_table(table).map_err(database_fault)?;
    let mut found = Vec::new();
    for row in table.iter().map_err(database_fault)? {
        let (id, value) = row.map_err(database_fault)?;
        found.push(decode(
            format_args!("{what} {}", id.value()),
            value.value(),
        )?);
    }
    Ok(found)
}

/// The tables of one write transaction.
pub(super) struct Tables<'t> {
    functions: Table<'t, Text, &'static [u8]>,
    names: Table<'t, Text, Text>,
    routes: Table<'t, Text, Text>,
    code_uses: Table<'t, (Text, Text), ()>,
    uploads: Table<'t, Text, u64>,
    keys: Table<'t, Text, &'static [u8]>,
    heads: Table<'t, Text, &'static [u8]>,
    versions: Table<'t, (Text, u64), &'static [u8]>,
    layers: Table<'t, (Text, u64), &'static [u8]>,
    layers_last: Table<'t, Text, u64>,
    signings: Table<'t, Text, &'static [u8]>,
    signed: Table<'t, (Text, Text), ()>,
    /// Packages that lost a user in this transaction. Whether they lost the last one shows at its end.
    released: BTreeSet<String>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        let open = || {
            Ok(Self {
                functions: transaction.open_table(FUNCTIONS)?,
                names: transaction.open_table(NAMES)?,
                routes: transaction.open_table(ROUTES)?,
                code_uses: transaction.open_table(CODE_USES)?,
                uploads: transaction.open_table(UPLOADS)?,
                keys: transaction.open_table(KEYS)?,
                heads: transaction.open_table(versions::HEADS)?,
                versions: transaction.open_table(versions::VERSIONS)?,
                layers: transaction.open_table(layers::LAYERS)?,
                layers_last: transaction.open_table(layers::LAST)?,
                signings: transaction.open_table(signing::SIGNINGS)?,
                signed: transaction.open_table(signing::SIGNED)?,
                released: BTreeSet::new(),
            })
        };
        open().map_err(|e: redb::TableError| database_fault(e))
    }

    pub(super) fn put(
        &mut self,
        function: &Function,
        from: Option<u64>,
        has_code: impl Fn(&str) -> bool,
    ) -> Result<Result<(), Error>, Fault> {
        let id = function.id.as_str();
        let stored = self.function(id)?;
        if stored.as_ref().map(|stored| stored.revision) != from {
            return Ok(Err(Error::Stale));
        }
        if let Some(owner) = owner(&self.names, function.name.as_str(), id)? {
            return Ok(Err(Error::NameTaken(owner)));
        }
        if let Some(route) = &function.route
            && let Some(owner) = owner(&self.routes, &route::shape(route), id)?
        {
            return Ok(Err(Error::RouteTaken(owner)));
        }
        if let Some(missing) = function.packages().find(|sha256| !has_code(sha256)) {
            return Ok(Err(Error::CodeMissing(missing.into())));
        }
        if let Some(id) = &function.aws.signing
            && self.signing(id)?.is_none()
        {
            return Ok(Err(Error::NoSigning(id.clone())));
        }

        if let Some(stored) = &stored {
            self.unlink(stored).map_err(database_fault)?;
        }
        self.link(function).map_err(database_fault)?;
        Ok(Ok(()))
    }

    pub(super) fn delete(&mut self, id: &FunctionId) -> Result<bool, Fault> {
        let Some(stored) = self.function(id.as_str())? else {
            return Ok(false);
        };
        self.unlink(&stored).map_err(database_fault)?;
        self.delete_published(id)?;
        let removed = self.functions.remove(id.as_str()).map(drop);
        removed.map_err(database_fault)?;
        Ok(true)
    }

    pub(super) fn put_key(&mut self, key: &KeyRecord) -> Result<(), Fault> {
        let written = self.keys.insert(key.id.as_str(), encode(key).as_slice());
        written.map(drop).map_err(database_fault)
    }

    pub(super) fn delete_key(&mut self, id: &str) -> Result<bool, Fault> {
        let removed = self.keys.remove(id).map_err(database_fault)?;
        Ok(removed.is_some())
    }

    /// Notes that a package was uploaded and waits for a function.
    pub(super) fn uploaded(&mut self, sha256: &str) -> Result<(), Fault> {
        self.note_upload(sha256).map_err(database_fault)
    }

    /// Packages this transaction took the last user from.
    pub(super) fn unused_code(&self) -> Result<Vec<String>, Fault> {
        let mut unused = Vec::new();
        for sha256 in &self.released {
            if !self.needs(sha256).map_err(database_fault)? {
                unused.push(sha256.clone());
            }
        }
        Ok(unused)
    }

    fn function(&self, id: &str) -> Result<Option<Function>, Fault> {
        let stored = self.functions.get(id).map_err(database_fault)?;
        stored
            .map(|value| decode(format_args!("function {id}"), value.value()))
            .transpose()
            .map_err(Fault::Record)
    }

    /// Writes the function and everything that points at it.
    fn link(&mut self, function: &Function) -> Result<(), redb::StorageError> {
        let id = function.id.as_str();
        self.functions.insert(id, encode(function).as_slice())?;
        self.names.insert(function.name.as_str(), id)?;
        if let Some(route) = &function.route {
            self.routes.insert(route::shape(route).as_str(), id)?;
        }
        for sha256 in function.packages() {
            self.code_uses.insert((sha256, id), ())?;
        }
        if let Some(signing) = &function.aws.signing {
            self.signed.insert((signing.as_str(), id), ())?;
        }
        self.uploads.remove(function.code.sha256.as_str())?;
        Ok(())
    }

    /// Removes everything that points at the function.
    fn unlink(&mut self, function: &Function) -> Result<(), redb::StorageError> {
        let id = function.id.as_str();
        self.names.remove(function.name.as_str())?;
        if let Some(route) = &function.route {
            self.routes.remove(route::shape(route).as_str())?;
        }
        for sha256 in function.packages() {
            self.code_uses.remove((sha256, id))?;
            self.released.insert(sha256.into());
        }
        if let Some(signing) = &function.aws.signing {
            self.signed.remove((signing.as_str(), id))?;
        }
        Ok(())
    }

    fn needs(&self, sha256: &str) -> Result<bool, redb::StorageError> {
        if self.uploads.get(sha256)?.is_some() {
            return Ok(true);
        }
        match self.code_uses.range((sha256, "")..)?.next() {
            Some(row) => Ok(row?.0.value().0 == sha256),
            None => Ok(false),
        }
    }

    fn note_upload(&mut self, sha256: &str) -> Result<(), redb::StorageError> {
        let mut oldest: Option<(u64, String)> = None;
        let mut newest = 0;
        for row in self.uploads.iter()? {
            let (waiting, place) = row?;
            newest = newest.max(place.value());
            if oldest.as_ref().is_none_or(|(old, _)| place.value() < *old) {
                oldest = Some((place.value(), waiting.value().into()));
            }
        }
        self.uploads.insert(sha256, newest + 1)?;
        if self.uploads.len()? > UPLOADS_MAX
            && let Some((_, oldest)) = oldest
        {
            self.uploads.remove(oldest.as_str())?;
            self.released.insert(oldest);
        }
        Ok(())
    }
}

/// Who holds the name or route, unless it is `id` itself.
fn owner(table: &Table<'_, Text, Text>, key: &str, id: &str) -> Result<Option<FunctionId>, Fault> {
    let owner = table.get(key).map_err(database_fault)?;
    Ok(owner
        .filter(|owner| owner.value() != id)
        .map(|owner| FunctionId::from_stored(owner.value())))
}
