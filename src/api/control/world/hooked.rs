//! The real store, which can be made to wait or fail at the worst moment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::api::control::world::DEADLINE;
use crate::domain::event::{Claimed, Event, Record, Settlement};
use crate::domain::function::Function;
use crate::domain::id::{FunctionId, LayerName, RequestId};
use crate::domain::idempotency::{Answer, Key};
use crate::domain::key::KeyRecord;
use crate::domain::layer;
use crate::domain::mapping::{self, MappingId};
use crate::domain::signing::{Config, Id as SigningId};
use crate::domain::version::{Edit, Head, Published};
use crate::store::answers::{self, Answers, Begun, Ended};
use crate::store::dead_letters::{DeadLetters, Place};
use crate::store::events::{Bounds, Depth, Events};
use crate::store::layers::Layers;
use crate::store::mappings::{All, Found, Mappings, Unreadable};
use crate::store::signing::Signing;
use crate::store::versions::Versions;
use crate::store::{self, Store, record};

/// What happens to a write of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It is written, and the answer waits.
    WaitWritten,
    /// The store fails before it is written, or after.
    FailUnwritten,
    FailWritten,
    /// The code is gone again.
    LoseCode,
}

/// The real store, with plans for the next writes.
#[derive(Debug)]
pub struct Hooked {
    pub inner: Arc<dyn Store>,
    pub(super) plans: Mutex<VecDeque<Plan>>,
    pub(super) reached: Semaphore,
    pub(super) go_on: Semaphore,
    /// Questions about events: how often some were claimed, and one was settled.
    pub claims: AtomicUsize,
    pub settles: AtomicUsize,
    /// A mapping that is as if a newer version had written it.
    pub newer: Mutex<Option<MappingId>>,
}

impl Hooked {
    pub fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        self.plans.lock().extend(plans);
    }

    /// A write is done and its answer waits.
    pub async fn reached(&self) {
        let permit = tokio::time::timeout(DEADLINE, self.reached.acquire()).await;
        permit.expect("in time").expect("open").forget();
    }

    /// One waiting answer goes on.
    pub fn go_on(&self) {
        self.go_on.add_permits(1);
    }

    async fn planned<T>(
        &self,
        write: impl Future<Output = Result<T, store::Error>>,
    ) -> Result<T, store::Error> {
        let plan = self.plans.lock().pop_front();
        let failed = || store::Error::Unavailable {
            operation: "do what was planned to fail",
            source: "planned".into(),
        };
        match plan {
            None => write.await,
            Some(Plan::WaitWritten) => {
                let written = write.await;
                self.reached.add_permits(1);
                self.go_on.acquire().await.expect("open").forget();
                written
            }
            Some(Plan::FailUnwritten) => Err(failed()),
            Some(Plan::FailWritten) => {
                write.await?;
                Err(store::Error::Unsaid {
                    operation: "say what it did",
                    source: "planned".into(),
                })
            }
            Some(Plan::LoseCode) => Err(store::Error::CodeMissing("planned".into())),
        }
    }
}

impl Events for Hooked {
    fn append(
        &self,
        event: Event,
        payload: Bytes,
        bounds: Bounds,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.append(event, payload, bounds))
            .boxed()
    }
    fn claim<'a>(
        &'a self,
        by: &'a str,
        most: usize,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, store::Error>> {
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.inner.claim(by, most, lease)
    }
    fn renew<'a>(
        &'a self,
        by: &'a str,
        claims: &'a [RequestId],
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<RequestId>, store::Error>> {
        self.inner.renew(by, claims, lease)
    }
    fn settle<'a>(
        &'a self,
        by: &'a str,
        claimed: &'a Claimed,
        settlement: Settlement,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.settles.fetch_add(1, Ordering::Relaxed);
        self.inner.settle(by, claimed, settlement, bounds)
    }
    fn record<'a>(
        &'a self,
        id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<Record>, store::Error>> {
        self.inner.record(id)
    }
    fn has_streams(&self) -> bool {
        self.inner.has_streams()
    }
    fn publish<'a>(
        &'a self,
        stream: &'a str,
        id: RequestId,
        document: Bytes,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        self.inner.publish(stream, id, document)
    }
    fn depth(&self) -> BoxFuture<'_, Result<Depth, store::Error>> {
        self.inner.depth()
    }
}

impl Answers for Hooked {
    fn begin<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: answers::Bounds,
    ) -> BoxFuture<'a, Result<Begun, store::Error>> {
        self.inner.begin(key, by, bounds)
    }
    fn hold<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: answers::Bounds,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.inner.hold(key, by, bounds)
    }
    fn end<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        answer: Option<&'a Answer>,
        bounds: answers::Bounds,
    ) -> BoxFuture<'a, Result<Ended, store::Error>> {
        self.planned(self.inner.end(key, by, answer, bounds))
            .boxed()
    }
    fn release<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.inner.release(key, by)
    }
    fn forget(&self) -> BoxFuture<'_, Result<bool, store::Error>> {
        self.inner.forget()
    }
}

impl Versions for Hooked {
    fn heads(&self) -> BoxFuture<'_, Result<Vec<Head>, store::Error>> {
        self.inner.heads()
    }
    fn published<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Published>, store::Error>> {
        self.inner.published(id)
    }
    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.edit(edit)).boxed()
    }
}

impl Layers for Hooked {
    fn layers(&self) -> BoxFuture<'_, Result<Vec<layer::Version>, store::Error>> {
        self.inner.layers()
    }
    fn layer<'a>(
        &'a self,
        id: &'a layer::Id,
    ) -> BoxFuture<'a, Result<Option<layer::Version>, store::Error>> {
        self.inner.layer(id)
    }
    fn last_of_layer<'a>(
        &'a self,
        name: &'a LayerName,
    ) -> BoxFuture<'a, Result<u64, store::Error>> {
        self.inner.last_of_layer(name)
    }
    fn edit_layer(&self, edit: layer::Edit) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.edit_layer(edit)).boxed()
    }
}

impl Signing for Hooked {
    fn signings(&self) -> BoxFuture<'_, Result<Vec<Config>, store::Error>> {
        self.inner.signings()
    }
    fn signing<'a>(
        &'a self,
        id: &'a SigningId,
    ) -> BoxFuture<'a, Result<Option<Config>, store::Error>> {
        self.inner.signing(id)
    }
    fn put_signing(
        &self,
        config: Config,
        from: Option<u64>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.put_signing(config, from)).boxed()
    }
    fn delete_signing<'a>(
        &'a self,
        id: &'a SigningId,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.planned(self.inner.delete_signing(id)).boxed()
    }
}

fn by_a_newer_version(id: MappingId) -> record::Fault {
    let what = format!("mapping {id}");
    record::Fault::Newer { what }
}

impl Mappings for Hooked {
    fn mappings(&self) -> BoxFuture<'_, Result<All, store::Error>> {
        async {
            let mut all = self.inner.mappings().await?;
            let newer = *self.newer.lock();
            let hidden = (all.mappings).extract_if(.., |mapping| newer == Some(mapping.id));
            all.unreadable.extend(hidden.map(|mapping| Unreadable {
                id: mapping.id.to_string(),
                why: by_a_newer_version(mapping.id),
            }));
            Ok(all)
        }
        .boxed()
    }
    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Found>, store::Error>> {
        async move {
            let found = self.inner.mapping(id).await?;
            let is_newer = *self.newer.lock() == Some(id);
            Ok(found.map(|found| match is_newer {
                true => Err(by_a_newer_version(id)),
                false => found,
            }))
        }
        .boxed()
    }
    fn edit_mapping(&self, edit: mapping::Edit) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.edit_mapping(edit)).boxed()
    }
}

impl DeadLetters for Hooked {
    fn dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(Place, Record)>, store::Error>> {
        self.inner.dead(after, most)
    }
    fn dead_letter<'a>(
        &'a self,
        id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<(Record, Bytes)>, store::Error>> {
        self.inner.dead_letter(id)
    }
    fn redrive<'a>(
        &'a self,
        id: &'a RequestId,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.inner.redrive(id, at, bounds)
    }
    fn discard<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.inner.discard(id)
    }
}

impl Store for Hooked {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<Function>, store::Error>> {
        self.inner.functions()
    }
    fn function<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Function>, store::Error>> {
        self.inner.function(id)
    }
    fn put(
        &self,
        function: Function,
        from: Option<u64>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        self.planned(self.inner.put(function, from)).boxed()
    }
    fn delete<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.planned(self.inner.delete(id)).boxed()
    }
    fn put_code<'a>(
        &'a self,
        sha256: &'a str,
        zip: Bytes,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        self.inner.put_code(sha256, zip)
    }
    fn code<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, store::Error>> {
        self.inner.code(sha256)
    }
    fn code_size<'a>(
        &'a self,
        sha256: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, store::Error>> {
        self.inner.code_size(sha256)
    }
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, store::Error>> {
        self.inner.keys()
    }
    fn put_key(&self, key: KeyRecord) -> BoxFuture<'_, Result<(), store::Error>> {
        self.inner.put_key(key)
    }

    fn delete_key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, store::Error>> {
        self.inner.delete_key(id)
    }

    fn changes(&self) -> store::change::Changes {
        self.inner.changes()
    }
}
