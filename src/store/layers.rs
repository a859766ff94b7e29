//! Layers as every store keeps them: versions by name and number, of each name the highest number there ever was, and content among the
//! code packages. What a function or a published version has of a layer is kept with it: a package goes with the last that needs it.

use futures_util::future::BoxFuture;

use crate::domain::id::LayerName;
use crate::domain::layer::{Edit, Id, Version};
use crate::store::Error;

pub trait Layers {
    /// Every version of every layer, in no order.
    fn layers(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>>;
    /// One version; `None` if it is not there, or not any more.
    fn layer<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Version>, Error>>;
    /// The highest number there ever was of a layer; 0 if there never was one.
    fn last_of_layer<'a>(&'a self, name: &'a LayerName) -> BoxFuture<'a, Result<u64, Error>>;
    /// Writes an edit. In the same transaction: a new version's number is the next, its content is there, and the content of a deleted one
    /// goes if nobody else uses it.
    fn edit_layer(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>>;
}
