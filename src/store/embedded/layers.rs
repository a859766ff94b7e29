//! Layers in the embedded store. What a change of them means is in `tables`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::Database;

use crate::domain::id::LayerName;
use crate::domain::layer::{Edit, Id, Version};
use crate::store::Error;
use crate::store::embedded::{Change, Embedded, tables};
use crate::store::layers::Layers;

const READ_LAYER: &str = "read the layer";

impl Layers for Embedded {
    fn layers(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        self.look("list the layers", tables::layers).boxed()
    }

    fn layer<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Version>, Error>> {
        let id = id.clone();
        let look = move |database: &Database| tables::layer(database, &id);
        self.look(READ_LAYER, look).boxed()
    }

    fn last_of_layer<'a>(&'a self, name: &'a LayerName) -> BoxFuture<'a, Result<u64, Error>> {
        let name = name.clone();
        let look = move |database: &Database| tables::last_of_layer(database, &name);
        self.look(READ_LAYER, look).boxed()
    }

    fn edit_layer(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        let edit = Box::new(edit);
        async move { self.write(Change::EditLayer(edit)).await.map(drop) }.boxed()
    }
}
