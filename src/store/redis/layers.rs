//! Layers in Redis: a hash of versions, one of the highest numbers. Changes are scripts as for functions.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::id::LayerName;
use crate::domain::layer::{Edit, Id, Version};
use crate::store::layers::Layers;
use crate::store::redis::reading::Ask;
use crate::store::redis::{Fault, Redis, unavailable};
use crate::store::{Error, key};

impl Redis {
    async fn try_last_of_layer(&self, name: &LayerName) -> Result<u64, Fault> {
        let (last,): (Option<u64>,) = self
            .calls
            .read(&[Ask::new("HGET", key::LAYERS_LAST, &[name.as_str()])])
            .await?;
        Ok(last.unwrap_or_default())
    }
}

impl Layers for Redis {
    fn layers(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        async {
            let layers = self.values(key::LAYERS, "layer");
            layers.await.map_err(unavailable("list the layers"))
        }
        .boxed()
    }

    fn layer<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Version>, Error>> {
        async move {
            let read = self.value(key::LAYERS, &id.to_string(), "layer").await;
            read.map_err(unavailable("read the layer"))
        }
        .boxed()
    }

    fn last_of_layer<'a>(&'a self, name: &'a LayerName) -> BoxFuture<'a, Result<u64, Error>> {
        async move {
            let read = self.try_last_of_layer(name).await;
            read.map_err(unavailable("read the layer"))
        }
        .boxed()
    }

    fn edit_layer(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let write = self
                .calls
                .script(async |c| self.scripts.edit_layer(c, &edit).await);
            write.await.map_err(unavailable("write the layer"))?
        }
        .boxed()
    }
}
