//! Event source mappings as every store keeps them: each under its id, and no two for the same function and queue. They name functions by
//! name and know nothing of whether there is one.

use futures_util::future::BoxFuture;

use crate::domain::mapping::{Edit, Mapping, MappingId};
use crate::store::Error;

pub trait Mappings {
    /// Every mapping, in no order.
    fn mappings(&self) -> BoxFuture<'_, Result<Vec<Mapping>, Error>>;
    /// One of them; `None` if it is not there, or not any more.
    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Mapping>, Error>>;
    /// Writes an edit. In the same transaction: its revision follows the one that is stored, and its place is free.
    fn edit_mapping(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>>;
}
