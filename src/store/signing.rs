//! Code signing configurations as every store keeps them. A function that has one is written only while it is there, and it is deleted only
//! while no function has it: both are looked at in the transaction that writes.

use futures_util::future::BoxFuture;

use crate::domain::signing::{Config, Id};
use crate::store::Error;

pub trait Signing {
    /// Every configuration, in no order.
    fn signings(&self) -> BoxFuture<'_, Result<Vec<Config>, Error>>;
    /// One configuration; `None` if there is none with this id.
    fn signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Config>, Error>>;
    /// Writes a configuration. `from` is the revision the change was made from; `None` creates.
    fn put_signing(&self, config: Config, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>>;
    /// Removes one that no function has. `false` if there was none.
    fn delete_signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Error>>;
}
