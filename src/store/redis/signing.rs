//! Code signing configurations in Redis: a hash of them, and for each the functions that have it. Changes are scripts as for functions.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::signing::{Config, Id};
use crate::store::redis::{Redis, unavailable};
use crate::store::signing::Signing;
use crate::store::{Error, key};

const WHAT: &str = "code signing configuration";

impl Signing for Redis {
    fn signings(&self) -> BoxFuture<'_, Result<Vec<Config>, Error>> {
        async {
            let all = self.values(key::SIGNINGS, WHAT).await;
            all.map_err(unavailable("list the code signing configurations"))
        }
        .boxed()
    }

    fn signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Config>, Error>> {
        async move {
            let read = self.value(key::SIGNINGS, id.as_str(), WHAT).await;
            read.map_err(unavailable("read the code signing configuration"))
        }
        .boxed()
    }

    fn put_signing(&self, config: Config, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let put = self
                .calls
                .script(async |c| self.scripts.put_signing(c, &config, from).await);
            put.await
                .map_err(unavailable("write the code signing configuration"))?
        }
        .boxed()
    }

    fn delete_signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let delete = self
                .calls
                .script(async |c| self.scripts.delete_signing(c, id).await);
            delete
                .await
                .map_err(unavailable("delete the code signing configuration"))?
        }
        .boxed()
    }
}
