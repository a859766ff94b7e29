//! Versions and aliases in the embedded store. What a change of them means is in `tables`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::Database;

use crate::domain::id::FunctionId;
use crate::domain::version::{Edit, Head, Published};
use crate::store::Error;
use crate::store::embedded::{Change, Embedded, tables};
use crate::store::versions::Versions;

impl Versions for Embedded {
    fn heads(&self) -> BoxFuture<'_, Result<Vec<Head>, Error>> {
        self.look("list what is published", tables::heads).boxed()
    }

    fn published<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Published>, Error>> {
        let id = id.clone();
        let look = move |database: &Database| tables::published(database, &id);
        self.look("read versions and aliases", look).boxed()
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        let edit = Box::new(edit);
        async move { self.write(Change::Edit(edit)).await.map(drop) }.boxed()
    }
}
