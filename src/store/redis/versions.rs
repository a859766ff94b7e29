//! Versions and aliases in Redis: a hash of heads, one of versions for each function. Changes are scripts as for functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::id::FunctionId;
use crate::domain::version::{Edit, Head, Published, Version};
use crate::store::redis::reading::Ask;
use crate::store::redis::{Fault, Redis, unavailable};
use crate::store::versions::Versions;
use crate::store::{Error, key, record};

impl Redis {
    async fn try_published(&self, id: &FunctionId) -> Result<Option<Published>, Fault> {
        let versions = key::versions(id);
        let (head, values): (Option<Bytes>, Vec<(u64, Bytes)>) = self
            .calls
            .read(&[
                Ask::new("HGET", key::HEADS_OF_VERSIONS, &[id.as_str()]),
                Ask::new("HGETALL", &versions, &[]),
            ])
            .await?;
        let Some(head) = head else {
            return Ok(None);
        };
        let head: Head = record::decode(format_args!("what is published of {id}"), &head)?;
        let decoded = values.iter().map(|(number, value)| {
            let version: Version = record::decode(format_args!("version {number} of {id}"), value)?;
            Ok((*number, Arc::new(version)))
        });
        let versions: Result<BTreeMap<_, _>, Fault> = decoded.collect();
        Ok(Some(Published {
            head,
            versions: versions?,
        }))
    }
}

impl Versions for Redis {
    fn heads(&self) -> BoxFuture<'_, Result<Vec<Head>, Error>> {
        async {
            let heads = self.values(key::HEADS_OF_VERSIONS, "what is published of");
            heads.await.map_err(unavailable("list what is published"))
        }
        .boxed()
    }

    fn published<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Published>, Error>> {
        async move {
            let read = self.try_published(id).await;
            read.map_err(unavailable("read versions and aliases"))
        }
        .boxed()
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let write = self
                .calls
                .script(async |c| self.scripts.edit(c, &edit).await);
            write
                .await
                .map_err(unavailable("write versions and aliases"))?
        }
        .boxed()
    }
}
