//! Code signing configurations in the embedded store. What a change of them means is in `tables`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::Database;

use crate::domain::signing::{Config, Id};
use crate::store::Error;
use crate::store::embedded::{Change, Embedded, tables};
use crate::store::signing::Signing;

impl Signing for Embedded {
    fn signings(&self) -> BoxFuture<'_, Result<Vec<Config>, Error>> {
        let operation = "list the code signing configurations";
        self.look(operation, tables::signings).boxed()
    }

    fn signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<Config>, Error>> {
        let id = id.clone();
        let look = move |database: &Database| tables::signing(database, &id);
        self.look("read the code signing configuration", look)
            .boxed()
    }

    fn put_signing(&self, config: Config, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        let config = Box::new(config);
        async move {
            let put = self.write(Change::PutSigning { config, from });
            put.await.map(drop)
        }
        .boxed()
    }

    fn delete_signing<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Error>> {
        self.write(Change::DeleteSigning(id.clone())).boxed()
    }
}
