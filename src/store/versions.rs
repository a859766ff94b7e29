//! Versions and aliases as every store keeps them: what is published of a function is read whole and changed by one edit at a time, each
//! made from the revision before it. What an edit means is decided in `domain::version`; a store looks only at what another process may
//! have changed meanwhile.

use futures_util::future::BoxFuture;

use crate::domain::id::FunctionId;
use crate::domain::version::{Edit, Head, Published};
use crate::store::Error;

pub trait Versions {
    /// Of every function of which anything is or was published, in no order.
    fn heads(&self) -> BoxFuture<'_, Result<Vec<Head>, Error>>;
    /// Everything published of one function; `None` if nothing ever was.
    fn published<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Published>, Error>>;
    /// Writes an edit. In the same transaction: the head's revision follows the one that is stored, a new version is a copy of the function
    /// as it is stored, and the code of a deleted version goes if nobody else uses it. All of a function goes with the function.
    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>>;
}
