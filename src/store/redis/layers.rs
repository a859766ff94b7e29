//! Layers in Redis: a hash of versions, one of the highest numbers. Changes are scripts as for functions.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::cmd;

use crate::domain::id::LayerName;
use crate::domain::layer::{Edit, Id, Version};
use crate::store::layers::Layers;
use crate::store::redis::{Fault, Redis, unavailable};
use crate::store::{Error, key};

impl Redis {
    async fn try_last_of_layer(&self, name: &LayerName) -> Result<u64, Fault> {
        let identity = self.calls.identity().await?;
        let (found, last): (Option<String>, Option<u64>) = self
            .calls
            .call(async |connection| {
                let mut both = redis::pipe();
                both.atomic();
                both.add_command(cmd("GET").arg(key::IDENTITY).to_owned());
                both.add_command(
                    cmd("HGET")
                        .arg(key::LAYERS_LAST)
                        .arg(name.as_str())
                        .to_owned(),
                );
                Ok(both.query_async(connection).await?)
            })
            .await?;
        match found.as_deref() == Some(identity) {
            true => Ok(last.unwrap_or_default()),
            false => Err(Fault::Replaced),
        }
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
