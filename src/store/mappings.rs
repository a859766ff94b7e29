//! Event source mappings as every store keeps them: each under its id, and no two for the same function and queue. They name functions by
//! name and know nothing of whether there is one.

use futures_util::future::BoxFuture;

use crate::domain::mapping::{Edit, Mapping, MappingId};
use crate::store::{Error, record};

/// All that there are, in no order.
#[derive(Debug, Default)]
pub struct All {
    pub mappings: Vec<Mapping>,
    pub unreadable: Vec<Unreadable>,
}

/// A mapping that is there and cannot be read: it is damaged, or a newer version wrote it. It is no reason to do without the others.
#[derive(Debug)]
pub struct Unreadable {
    pub id: String,
    pub why: record::Fault,
}

/// A mapping that is there, or why it cannot be read.
pub type Found = Result<Mapping, record::Fault>;

pub(super) fn read(id: &str, value: &[u8]) -> Found {
    record::decode(format_args!("mapping {id}"), value)
}

impl All {
    pub(super) fn add(&mut self, id: &str, value: &[u8]) {
        match read(id, value) {
            Ok(mapping) => self.mappings.push(mapping),
            Err(why) => self.unreadable.push(Unreadable { id: id.into(), why }),
        }
    }
}

pub trait Mappings {
    fn mappings(&self) -> BoxFuture<'_, Result<All, Error>>;
    /// One of them; `None` if it is not there, or not any more.
    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Found>, Error>>;
    /// Writes an edit. In the same transaction: its revision follows the one that is stored, and its place is free. One that cannot be read
    /// is deleted like any other.
    fn edit_mapping(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>>;
}
