//! Event source mappings in Redis: a hash of them by id, one of what a script has to know of each, and one of the places they have. Every
//! change is a script, and announced.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Script;

use crate::domain::mapping::{Edit, Mapping, MappingId};
use crate::store::mappings::{All, Mappings};
use crate::store::redis::reading::Ask;
use crate::store::redis::scripts::Asked;
use crate::store::redis::{Fault, Redis, Values, unavailable};
use crate::store::{Error, key, record};

/// What every script begins with. A head is revision and place.
const HEAD: &str = r"
local identity, mappings, heads, places, changes = unpack(KEYS)
local expected, announced, id = unpack(ARGV, 1, 3)
if redis.call('GET', identity) ~= expected then return {'replaced'} end
local old = redis.call('HGET', heads, id)
old = old and cjson.decode(old)
local function changed()
  redis.call('PUBLISH', announced, redis.call('INCR', changes) .. ' mappings')
end
";

const PUT: &str = r"
local from, head, place, value = unpack(ARGV, 4, 7)
if (old and old[1] or '0') ~= from then return {'stale'} end
local by = redis.call('HGET', places, place)
if by and by ~= id then return {'taken', by} end
if old then redis.call('HDEL', places, old[2]) end
redis.call('HSET', places, place, id)
redis.call('HSET', heads, id, head)
redis.call('HSET', mappings, id, value)
changed()
return {'done'}
";

const DELETE: &str = r"
if not old then return {'done'} end
redis.call('HDEL', places, old[2])
redis.call('HDEL', heads, id)
redis.call('HDEL', mappings, id)
changed()
return {'done'}
";

pub(super) struct MappingScripts {
    put: Script,
    delete: Script,
}

impl MappingScripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            put: script(PUT),
            delete: script(DELETE),
        }
    }

    async fn edit(&self, asked: &mut Asked<'_>, edit: &Edit) -> Result<Result<(), Error>, Fault> {
        let (script, id) = match edit {
            Edit::Put(mapping) => (&self.put, mapping.id),
            Edit::Delete(id) => (&self.delete, *id),
        };
        let mut call = script.prepare_invoke();
        for table in [
            key::IDENTITY,
            key::MAPPINGS,
            key::MAPPING_HEADS,
            key::MAPPING_PLACES,
            key::CHANGES,
        ] {
            call.key(table);
        }
        call.arg(asked.identity).arg(key::ANNOUNCED);
        call.arg(id.to_string());
        if let Edit::Put(mapping) = edit {
            let place = mapping.place();
            let head = [mapping.revision.to_string(), place.clone()];
            call.arg(mapping.revision.saturating_sub(1).to_string())
                .arg(serde_json::to_string(&head).expect("texts are JSON"))
                .arg(place)
                .arg(record::encode(&**mapping));
        }
        let answer: Vec<String> = call.invoke_async(asked.connection).await?;
        let words: Vec<_> = answer.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["done"] => Ok(()),
            ["stale"] => Err(Error::Stale),
            ["taken", by] => match MappingId::parse(by) {
                Some(by) => Err(Error::PlaceTaken(by)),
                None => return Err(Fault::Unexpected(answer)),
            },
            ["replaced"] => return Err(Fault::Replaced),
            _ => return Err(Fault::Unexpected(answer)),
        })
    }
}

impl Mappings for Redis {
    fn mappings(&self) -> BoxFuture<'_, Result<All, Error>> {
        async {
            let asks = [Ask::new("HGETALL", key::MAPPINGS, &[])];
            let read = self.calls.read::<(Values,)>(&asks).await;
            let (values,) = read.map_err(unavailable("list the event source mappings"))?;
            let mut all = All::default();
            values.iter().for_each(|(id, value)| all.add(id, value));
            Ok(all)
        }
        .boxed()
    }

    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Mapping>, Error>> {
        async move {
            let read = self.value(key::MAPPINGS, &id.to_string(), "mapping").await;
            read.map_err(unavailable("read the event source mapping"))
        }
        .boxed()
    }

    fn edit_mapping(&self, edit: Edit) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let write = self
                .calls
                .script(async |asked| self.mapping_scripts.edit(asked, &edit).await);
            write
                .await
                .map_err(unavailable("write the event source mapping"))?
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use crate::store::key;
    use crate::store::redis::tests::Server;
    use crate::store::suite;

    #[tokio::test]
    async fn one_that_cannot_be_read_is_alone_in_that() {
        let server = Server::start().await;
        let store = server.store().await;
        suite::mappings::one_that_cannot_be_read(&*store, async |id, value| {
            let id = id.to_string();
            server
                .ask::<u64>(&["HSET", key::MAPPINGS, &id, &value])
                .await;
        })
        .await;
    }
}
