//! Event source mappings in Redis: a hash of them by id, one of what a script has to know of each, and one of the places they have. Every
//! change is a script, and announced.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Script;

use crate::domain::mapping::{Edit, MappingId};
use crate::store::mappings::{self, All, Found, Mappings};
use crate::store::redis::reading::Ask;
use crate::store::redis::scripts::Asked;
use crate::store::redis::{Fault, Redis, Values, unavailable};
use crate::store::{Error, key, record};

/// What every script begins with. A head is revision and place; one that is damaged is none.
const HEAD: &str = r"
local identity, mappings, heads, places, changes = unpack(KEYS)
local expected, announced, id = unpack(ARGV, 1, 3)
if redis.call('GET', identity) ~= expected then return {'replaced'} end
local old = redis.call('HGET', heads, id)
if old then
  local good, head = pcall(cjson.decode, old)
  old = good and type(head) == 'table' and type(head[2]) == 'string' and head
end
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

/// It reads nothing of the mapping itself, which may be unreadable. Of one without a head, the place is found by whose it is.
const DELETE: &str = r"
local gone = redis.call('HDEL', mappings, id) + redis.call('HDEL', heads, id)
if gone == 0 then return {'done'} end
if old then
  redis.call('HDEL', places, old[2])
else
  local all = redis.call('HGETALL', places)
  for at = 2, #all, 2 do
    if all[at] == id then redis.call('HDEL', places, all[at - 1]) end
  end
end
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

    fn mapping(&self, id: MappingId) -> BoxFuture<'_, Result<Option<Found>, Error>> {
        async move {
            let id = id.to_string();
            let field = [id.as_str()];
            let asks = [Ask::new("HGET", key::MAPPINGS, &field)];
            let read = self.calls.read::<(Option<Bytes>,)>(&asks).await;
            let (value,) = read.map_err(unavailable("read the event source mapping"))?;
            Ok(value.map(|value| mappings::read(&id, &value)))
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
    use super::*;
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

    #[tokio::test]
    async fn one_whose_head_is_damaged_too_can_be_deleted() {
        let server = Server::start().await;
        let store = server.store().await;
        for head in [Some("{"), Some("{}"), None] {
            let mapping = suite::mappings::mapping("q", "f");
            let edit = Edit::Put(Box::new(mapping.clone()));
            store.edit_mapping(edit).await.expect("the place is free");
            let id = mapping.id.to_string();
            match head {
                Some(head) => {
                    server
                        .ask::<u64>(&["HSET", key::MAPPING_HEADS, &id, head])
                        .await
                }
                None => server.ask(&["HDEL", key::MAPPING_HEADS, &id]).await,
            };
            let edit = Edit::Delete(mapping.id);
            store.edit_mapping(edit).await.expect("is deleted");
            let all = store.mappings().await.expect("can be listed");
            assert!(all.mappings.is_empty());
        }
    }
}
