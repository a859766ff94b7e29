//! A store with nothing but code packages in it, in memory: the pool asks it for no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::event::{Claimed, Event, Record, Settlement};
use crate::domain::function::Function;
use crate::domain::id::{FunctionId, LayerName, RequestId};
use crate::domain::idempotency::{Answer, Key};
use crate::domain::key::KeyRecord;
use crate::domain::layer;
use crate::domain::mapping::{self, MappingId};
use crate::domain::signing::{Config, Id as SigningId};
use crate::domain::version::{Edit, Head, Published};
use crate::sim::weather::{Operation, Weather};
use crate::store::answers::{self, Answers, Begun, Ended};
use crate::store::change::{Changes, Teller};
use crate::store::dead_letters::{DeadLetters, Place};
use crate::store::events::{Bounds, Depth, Events};
use crate::store::layers::Layers;
use crate::store::mappings::{self, Mappings};
use crate::store::signing::Signing;
use crate::store::versions::Versions;
use crate::store::{Error, Store};

#[derive(Debug)]
pub struct Packages {
    pub by_hash: BTreeMap<String, Bytes>,
    pub weather: Arc<Weather>,
}

/// Takes none and has none.
impl Events for Packages {
    fn append(&self, _: Event, _: Bytes, _: Bounds) -> BoxFuture<'_, Result<(), Error>> {
        async { Err(Error::Full) }.boxed()
    }
    fn claim<'a>(
        &'a self,
        _: &'a str,
        _: usize,
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn renew<'a>(
        &'a self,
        _: &'a str,
        claims: &'a [RequestId],
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<RequestId>, Error>> {
        async { Ok(claims.to_vec()) }.boxed()
    }
    fn settle<'a>(
        &'a self,
        _: &'a str,
        _: &'a Claimed,
        _: Settlement,
        _: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn record<'a>(&'a self, _: &'a RequestId) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn has_streams(&self) -> bool {
        false
    }
    fn publish<'a>(
        &'a self,
        _: &'a str,
        _: RequestId,
        _: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(Error::NoStreams) }.boxed()
    }
    fn depth(&self) -> BoxFuture<'_, Result<Depth, Error>> {
        async { Ok(Depth::default()) }.boxed()
    }
}

impl Answers for Packages {
    fn begin<'a>(
        &'a self,
        _: &'a Key,
        _: RequestId,
        _: answers::Bounds,
    ) -> BoxFuture<'a, Result<Begun, Error>> {
        async { Err(Error::Full) }.boxed()
    }
    fn hold<'a>(
        &'a self,
        _: &'a Key,
        _: RequestId,
        _: answers::Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn end<'a>(
        &'a self,
        _: &'a Key,
        _: RequestId,
        _: Option<&'a Answer>,
        _: answers::Bounds,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        async { Ok(Ended::Lost) }.boxed()
    }
    fn release<'a>(&'a self, _: &'a Key, _: RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn forget(&self) -> BoxFuture<'_, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
}

impl Versions for Packages {
    fn heads(&self) -> BoxFuture<'_, Result<Vec<Head>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn published<'a>(
        &'a self,
        _: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Published>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn edit(&self, _: Edit) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
}

impl Layers for Packages {
    fn layers(&self) -> BoxFuture<'_, Result<Vec<layer::Version>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn layer<'a>(
        &'a self,
        _: &'a layer::Id,
    ) -> BoxFuture<'a, Result<Option<layer::Version>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn last_of_layer<'a>(&'a self, _: &'a LayerName) -> BoxFuture<'a, Result<u64, Error>> {
        async { Ok(0) }.boxed()
    }
    fn edit_layer(&self, _: layer::Edit) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
}

impl Signing for Packages {
    fn signings(&self) -> BoxFuture<'_, Result<Vec<Config>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn signing<'a>(&'a self, _: &'a SigningId) -> BoxFuture<'a, Result<Option<Config>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn put_signing(&self, _: Config, _: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
    fn delete_signing<'a>(&'a self, _: &'a SigningId) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
}

impl Mappings for Packages {
    fn mappings(&self) -> BoxFuture<'_, Result<mappings::All, Error>> {
        async { Ok(mappings::All::default()) }.boxed()
    }
    fn mapping(&self, _: MappingId) -> BoxFuture<'_, Result<Option<mappings::Found>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn edit_mapping(&self, _: mapping::Edit) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
}

impl DeadLetters for Packages {
    fn dead(
        &self,
        _: Option<Place>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<(Place, Record)>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn dead_letter<'a>(
        &'a self,
        _: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<(Record, Bytes)>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn redrive<'a>(
        &'a self,
        _: &'a RequestId,
        _: jiff::Timestamp,
        _: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn discard<'a>(&'a self, _: &'a RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
}

impl Store for Packages {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<Function>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn function<'a>(&'a self, _: &'a FunctionId) -> BoxFuture<'a, Result<Option<Function>, Error>> {
        async { Ok(None) }.boxed()
    }
    fn put(&self, _: Function, _: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
    fn delete<'a>(&'a self, _: &'a FunctionId) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn put_code<'a>(&'a self, _: &'a str, _: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
    fn code<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        async move {
            let asked = self.weather.pass(Operation::FetchCode).await;
            asked.map_err(|error| Error::Unavailable {
                operation: "read code",
                source: error.into(),
            })?;
            Ok(self.by_hash.get(sha256).cloned())
        }
        .boxed()
    }
    fn code_size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        // Whether the store answers is asked with the code.
        let code = self.by_hash.get(sha256);
        async move { Ok(code.map(|code| code.len() as u64)) }.boxed()
    }
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn put_key(&self, _: KeyRecord) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
    fn delete_key<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async { Ok(false) }.boxed()
    }
    fn changes(&self) -> Changes {
        Teller::default().changes()
    }
}
