//! The rules a change has to keep, as scripts that Redis runs with nothing else in between. Each looks first and writes then, so that
//! what it refuses leaves no trace. Scripts are sent by their hash, and whole where Redis does not know them (any more).
//!
//! Tables are named as keys. Keys that follow from what a table says (the code a function had before) are made up in the script:
//! on a Cluster they are in the same slot as the tables, see `store::key`.

use redis::Script;

use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::KeyRecord;
use crate::domain::layer;
use crate::domain::route;
use crate::domain::signing;
use crate::domain::version::Edit;
use crate::store::redis::Fault;
use crate::store::redis::pool::Connection;
use crate::store::{Error, key, record};

/// In front of a script that a full Redis has to run too: what runs by its word runs on, and what it writes is bounded by other limits.
/// Those without it are refused there, unless what they write first only takes away.
pub(super) const WHEN_FULL: &str = "#!lua flags=allow-oom\n";

/// What every script begins with.
const HEAD: &str = r"
local identity, functions, heads, names, routes, uploads, keys, changes, published, revisions,
  layers, layers_last, layers_code, layers_of, signings, signed = unpack(KEYS)
local expected, code, uses, staged, announced, versions, version_code = unpack(ARGV, 1, 7)
if redis.call('GET', identity) ~= expected then return {'replaced'} end

local function changed(what)
  redis.call('PUBLISH', announced, redis.call('INCR', changes) .. ' ' .. what)
end
-- Whether a record takes no more than the one it replaces, each without its revision: that has become a digit longer at times.
local function is_no_more(value, revision, old, from)
  return old and #value - #revision <= #old - #from
end
-- A head is revision, name, hash of the code and, if there is one, shape of the route.
local function head_of(id)
  local head = redis.call('HGET', heads, id)
  return head and cjson.decode(head)
end
local function unlink(id, head)
  redis.call('HDEL', names, head[2])
  if head[4] then redis.call('HDEL', routes, head[4]) end
  redis.call('SREM', uses .. head[3], id)
end
local function drop_unused(hash)
  if redis.call('EXISTS', uses .. hash) == 0 and not redis.call('ZSCORE', uploads, hash) then
    redis.call('UNLINK', code .. hash)
  end
end
-- What a function or a version has of layers, as a list of hashes.
local function attach(user, list)
  if list == '[]' then return end
  redis.call('HSET', layers_of, user, list)
  for _, hash in ipairs(cjson.decode(list)) do redis.call('SADD', uses .. hash, user) end
end
local function detach(user)
  local list = redis.call('HGET', layers_of, user)
  if not list then return {} end
  redis.call('HDEL', layers_of, user)
  list = cjson.decode(list)
  for _, hash in ipairs(list) do redis.call('SREM', uses .. hash, user) end
  return list
end
-- What a function's code is held to, or nothing.
local function sign(id, signing)
  local before = redis.call('HGET', signed, id)
  if before == signing then return end
  if before then
    redis.call('HDEL', signed, id)
    redis.call('SREM', signed .. ':' .. before, id)
  end
  if signing ~= '' then
    redis.call('HSET', signed, id, signing)
    redis.call('SADD', signed .. ':' .. signing, id)
  end
end
local function drop_all_unused(list)
  for _, hash in ipairs(list) do drop_unused(hash) end
end
local function drop_version(id, number)
  local hash = redis.call('HGET', version_code .. id, number)
  if not hash then return end
  redis.call('HDEL', versions .. id, number)
  redis.call('HDEL', version_code .. id, number)
  redis.call('SREM', uses .. hash, id .. '/' .. number)
  local had = detach(id .. '/' .. number)
  drop_unused(hash)
  drop_all_unused(had)
end
";

const PUT: &str = r"
local id, from, value, text, list, signing = unpack(ARGV, 8, 13)
local old, new = head_of(id), cjson.decode(text)
if (old and old[1] or '') ~= from then return {'stale'} end
local by = redis.call('HGET', names, new[2])
if by and by ~= id then return {'name', by} end
by = new[4] and redis.call('HGET', routes, new[4])
if by and by ~= id then return {'route', by} end
if redis.call('EXISTS', code .. new[3]) == 0 then return {'code', new[3]} end
for _, hash in ipairs(cjson.decode(list)) do
  if redis.call('EXISTS', code .. hash) == 0 then return {'code', hash} end
end
if signing ~= '' and redis.call('HEXISTS', signings, signing) == 0 then return {'signing'} end

if old then unlink(id, old) end
local had = detach(id)
redis.call('HSET', functions, id, value)
redis.call('HSET', heads, id, text)
redis.call('HSET', names, new[2], id)
if new[4] then redis.call('HSET', routes, new[4], id) end
redis.call('SADD', uses .. new[3], id)
redis.call('ZREM', uploads, new[3])
attach(id, list)
sign(id, signing)
if old then drop_unused(old[3]) end
drop_all_unused(had)
changed('function ' .. id .. ' ' .. new[1])
return {'done'}
";

const DELETE: &str = r"
local id = ARGV[8]
local old = head_of(id)
if not old then return {'absent'} end
unlink(id, old)
sign(id, '')
local had = detach(id)
for _, number in ipairs(redis.call('HKEYS', version_code .. id)) do drop_version(id, number) end
redis.call('HDEL', published, id)
redis.call('HDEL', revisions, id)
redis.call('HDEL', functions, id)
redis.call('HDEL', heads, id)
drop_unused(old[3])
drop_all_unused(had)
changed('function ' .. id)
return {'done'}
";

/// Writes what is published of a function; a number of `''` is no version. What takes no more than what was there is let through where Redis
/// is full, so that versions, aliases and URLs are taken back there: once something was removed the rest may be written.
const EDIT: &str = r"
local id, from, revision, value, number, version, basis, hash, gone, list = unpack(ARGV, 8, 17)
local head = head_of(id)
if not head or (redis.call('HGET', revisions, id) or '0') ~= from then return {'stale'} end
if number ~= '' and head[1] ~= basis then return {'stale'} end

if number == '' and is_no_more(value, revision, redis.call('HGET', published, id), from) then
  redis.call('HDEL', published, id)
end
redis.call('HSET', revisions, id, revision)
redis.call('HSET', published, id, value)
if number ~= '' then
  redis.call('HSET', versions .. id, number, version)
  redis.call('HSET', version_code .. id, number, hash)
  redis.call('SADD', uses .. hash, id .. '/' .. number)
  attach(id .. '/' .. number, list)
end
if gone ~= '' then drop_version(id, gone) end
changed('versions ' .. id .. ' ' .. revision)
return {'done'}
";

/// A new version of a layer.
const PUBLISH_LAYER: &str = r"
local id, name, number, before, value, hash, user = unpack(ARGV, 8, 14)
if (redis.call('HGET', layers_last, name) or '0') ~= before then return {'stale'} end
if redis.call('EXISTS', code .. hash) == 0 then return {'code', hash} end
redis.call('HSET', layers, id, value)
redis.call('HSET', layers_last, name, number)
redis.call('HSET', layers_code, id, hash)
redis.call('SADD', uses .. hash, user)
redis.call('ZREM', uploads, hash)
return {'done'}
";

/// Another policy of one, from the value there was. Where Redis is full, one that takes no more.
const REPLACE_LAYER: &str = r"
local id, from, revision, value = unpack(ARGV, 8, 11)
local stored = redis.call('HGET', layers, id)
if not stored or cjson.decode(stored).value.revision ~= tonumber(from) then return {'stale'} end
if is_no_more(value, revision, stored, from) then redis.call('HDEL', layers, id) end
redis.call('HSET', layers, id, value)
return {'done'}
";

const DELETE_LAYER: &str = r"
local id, user = ARGV[8], ARGV[9]
local hash = redis.call('HGET', layers_code, id)
if not hash then return {'done'} end
redis.call('HDEL', layers, id)
redis.call('HDEL', layers_code, id)
redis.call('SREM', uses .. hash, user)
drop_unused(hash)
return {'done'}
";

/// From the configuration there was. Where Redis is full, one that takes no more.
const PUT_SIGNING: &str = r"
local id, from, revision, value = unpack(ARGV, 8, 11)
local stored, now = redis.call('HGET', signings, id), nil
if stored then now = cjson.decode(stored).value.revision end
if now ~= tonumber(from) then return {'stale'} end
if is_no_more(value, revision, stored, from) then redis.call('HDEL', signings, id) end
redis.call('HSET', signings, id, value)
return {'done'}
";

const DELETE_SIGNING: &str = r"
local id = ARGV[8]
if redis.call('EXISTS', signed .. ':' .. id) == 1 then return {'used'} end
if redis.call('HDEL', signings, id) == 0 then return {'absent'} end
return {'done'}
";

/// Notes a package as uploaded; with the name of a staged one, puts that in its place first.
const KEEP: &str = r"
local hash, name, most = ARGV[8], ARGV[9], tonumber(ARGV[10])
if redis.call('EXISTS', code .. hash) == 0 then
  if name == '' or redis.call('EXISTS', staged .. name) == 0 then return {'absent'} end
  redis.call('RENAME', staged .. name, code .. hash)
  redis.call('PERSIST', code .. hash)
elseif name ~= '' then
  redis.call('UNLINK', staged .. name)
end
local last = redis.call('ZREVRANGE', uploads, 0, 0, 'WITHSCORES')
redis.call('ZADD', uploads, (tonumber(last[2]) or 0) + 1, hash)
if redis.call('ZCARD', uploads) > most then
  drop_unused(redis.call('ZPOPMIN', uploads)[1])
end
return {'done'}
";

const PUT_KEY: &str = r"
redis.call('HSET', keys, ARGV[8], ARGV[9])
changed('keys')
return {'done'}
";

const DELETE_KEY: &str = r"
if redis.call('HDEL', keys, ARGV[8]) == 0 then return {'absent'} end
changed('keys')
return {'done'}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// It is not there, neither in its place nor under the name it was staged under.
    No,
}

/// Who is asked, and which store it is expected to be: a script changes no other.
pub(super) struct Asked<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) identity: &'a str,
}

pub(super) struct Scripts {
    put: Script,
    delete: Script,
    edit: Script,
    publish_layer: Script,
    replace_layer: Script,
    delete_layer: Script,
    put_signing: Script,
    delete_signing: Script,
    keep: Script,
    put_key: Script,
    delete_key: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            put: script(PUT),
            delete: script(DELETE),
            edit: script(EDIT),
            publish_layer: script(PUBLISH_LAYER),
            replace_layer: script(REPLACE_LAYER),
            delete_layer: script(DELETE_LAYER),
            put_signing: script(PUT_SIGNING),
            delete_signing: script(DELETE_SIGNING),
            keep: script(KEEP),
            put_key: script(PUT_KEY),
            delete_key: script(DELETE_KEY),
        }
    }

    pub(super) async fn put(
        &self,
        asked: &mut Asked<'_>,
        function: &Function,
        from: Option<u64>,
    ) -> Result<Result<(), Error>, Fault> {
        let sha256 = function.code.sha256.as_str();
        let from = from.map_or(String::new(), |revision| revision.to_string());
        let (name, route) = (function.name.as_str(), function.route.as_deref());
        let shape = route.map(route::shape);
        let head = key::head(function.revision, name, sha256, shape.as_deref());
        let value = record::encode(function);
        let layers = layers(function);
        let signing = function.aws.signing.as_ref();
        let arguments: [&[u8]; 6] = [
            function.id.as_str().as_bytes(),
            from.as_bytes(),
            &value,
            head.as_bytes(),
            layers.as_bytes(),
            signing.map_or("", |id| id.as_str()).as_bytes(),
        ];
        let answer = self.run(&self.put, asked, &arguments).await?;
        Ok(match words(&answer)[..] {
            ["done"] => Ok(()),
            ["stale"] => Err(Error::Stale),
            ["name", by] => Err(Error::NameTaken(FunctionId::from_stored(by))),
            ["route", by] => Err(Error::RouteTaken(FunctionId::from_stored(by))),
            ["code", sha256] => Err(Error::CodeMissing(sha256.into())),
            ["signing"] => match signing {
                Some(id) => Err(Error::NoSigning(id.clone())),
                None => return Err(Fault::Unexpected(answer)),
            },
            _ => return Err(Fault::Unexpected(answer)),
        })
    }

    /// Whether there was one.
    pub(super) async fn delete(
        &self,
        asked: &mut Asked<'_>,
        id: &FunctionId,
    ) -> Result<bool, Fault> {
        let arguments = [id.as_str().as_bytes()];
        let answer = self.run(&self.delete, asked, &arguments).await?;
        match words(&answer)[..] {
            ["done"] => Ok(true),
            ["absent"] => Ok(false),
            _ => Err(Fault::Unexpected(answer)),
        }
    }

    pub(super) async fn edit(
        &self,
        asked: &mut Asked<'_>,
        edit: &Edit,
    ) -> Result<Result<(), Error>, Fault> {
        let Edit {
            head,
            publish,
            delete,
        } = edit;
        let from = head.revision.saturating_sub(1).to_string();
        let (number, basis, hash, version, layers) = match publish {
            Some(version) => (
                version.number.to_string(),
                version.function.revision.to_string(),
                version.function.code.sha256.as_str(),
                record::encode(version),
                layers(&version.function),
            ),
            None => Default::default(),
        };
        let gone = delete.map_or(String::new(), |number| number.to_string());
        let (revision, value) = (head.revision.to_string(), record::encode(head));
        let arguments: [&[u8]; 10] = [
            head.function.as_str().as_bytes(),
            from.as_bytes(),
            revision.as_bytes(),
            &value,
            number.as_bytes(),
            &version,
            basis.as_bytes(),
            hash.as_bytes(),
            gone.as_bytes(),
            layers.as_bytes(),
        ];
        let answer = self.run(&self.edit, asked, &arguments).await?;
        Ok(match words(&answer)[..] {
            ["done"] => Ok(()),
            ["stale"] => Err(Error::Stale),
            _ => return Err(Fault::Unexpected(answer)),
        })
    }

    pub(super) async fn edit_layer(
        &self,
        asked: &mut Asked<'_>,
        edit: &layer::Edit,
    ) -> Result<Result<(), Error>, Fault> {
        let answer = match edit {
            layer::Edit::Publish(version) => {
                let layer::Id { name, number } = &version.id;
                let (id, user) = (version.id.to_string(), key::layer_user(&version.id));
                let before = number.saturating_sub(1).to_string();
                let (number, value) = (number.to_string(), record::encode(version));
                let arguments: [&[u8]; 7] = [
                    id.as_bytes(),
                    name.as_str().as_bytes(),
                    number.as_bytes(),
                    before.as_bytes(),
                    &value,
                    version.content.sha256.as_bytes(),
                    user.as_bytes(),
                ];
                self.run(&self.publish_layer, asked, &arguments).await?
            }
            layer::Edit::Policy(version) => {
                let from = version.revision.saturating_sub(1).to_string();
                let (id, revision) = (version.id.to_string(), version.revision.to_string());
                let value = record::encode(version);
                let arguments: [&[u8]; 4] =
                    [id.as_bytes(), from.as_bytes(), revision.as_bytes(), &value];
                self.run(&self.replace_layer, asked, &arguments).await?
            }
            layer::Edit::Delete(id) => {
                let (user, id) = (key::layer_user(id), id.to_string());
                let arguments: [&[u8]; 2] = [id.as_bytes(), user.as_bytes()];
                self.run(&self.delete_layer, asked, &arguments).await?
            }
        };
        Ok(match words(&answer)[..] {
            ["done"] => Ok(()),
            ["stale"] => Err(Error::Stale),
            ["code", sha256] => Err(Error::CodeMissing(sha256.into())),
            _ => return Err(Fault::Unexpected(answer)),
        })
    }

    pub(super) async fn put_signing(
        &self,
        asked: &mut Asked<'_>,
        config: &signing::Config,
        from: Option<u64>,
    ) -> Result<Result<(), Error>, Fault> {
        let from = from.map_or(String::new(), |revision| revision.to_string());
        let (revision, value) = (config.revision.to_string(), record::encode(config));
        let arguments: [&[u8]; 4] = [
            config.id.as_str().as_bytes(),
            from.as_bytes(),
            revision.as_bytes(),
            &value,
        ];
        let answer = self.run(&self.put_signing, asked, &arguments).await?;
        Ok(match words(&answer)[..] {
            ["done"] => Ok(()),
            ["stale"] => Err(Error::Stale),
            _ => return Err(Fault::Unexpected(answer)),
        })
    }

    /// Whether there was one.
    pub(super) async fn delete_signing(
        &self,
        asked: &mut Asked<'_>,
        id: &signing::Id,
    ) -> Result<Result<bool, Error>, Fault> {
        let arguments = [id.as_str().as_bytes()];
        let answer = self.run(&self.delete_signing, asked, &arguments).await?;
        Ok(match words(&answer)[..] {
            ["done"] => Ok(true),
            ["absent"] => Ok(false),
            ["used"] => Err(Error::SigningInUse(id.clone())),
            _ => return Err(Fault::Unexpected(answer)),
        })
    }

    pub(super) async fn keep(
        &self,
        asked: &mut Asked<'_>,
        sha256: &str,
        staged: &str,
        most: usize,
    ) -> Result<Kept, Fault> {
        let most = most.to_string();
        let arguments = [sha256.as_bytes(), staged.as_bytes(), most.as_bytes()];
        let answer = self.run(&self.keep, asked, &arguments).await?;
        match words(&answer)[..] {
            ["done"] => Ok(Kept::Yes),
            ["absent"] => Ok(Kept::No),
            _ => Err(Fault::Unexpected(answer)),
        }
    }

    pub(super) async fn put_key(
        &self,
        asked: &mut Asked<'_>,
        record: &KeyRecord,
    ) -> Result<(), Fault> {
        let value = record::encode(record);
        let arguments = [record.id.as_bytes(), &value];
        let answer = self.run(&self.put_key, asked, &arguments).await?;
        match words(&answer)[..] {
            ["done"] => Ok(()),
            _ => Err(Fault::Unexpected(answer)),
        }
    }

    /// Whether there was one.
    pub(super) async fn delete_key(&self, asked: &mut Asked<'_>, id: &str) -> Result<bool, Fault> {
        let arguments = [id.as_bytes()];
        let answer = self.run(&self.delete_key, asked, &arguments).await?;
        match words(&answer)[..] {
            ["done"] => Ok(true),
            ["absent"] => Ok(false),
            _ => Err(Fault::Unexpected(answer)),
        }
    }

    async fn run(
        &self,
        script: &Script,
        asked: &mut Asked<'_>,
        arguments: &[&[u8]],
    ) -> Result<Vec<String>, Fault> {
        let mut call = script.prepare_invoke();
        for table in [
            key::IDENTITY,
            key::FUNCTIONS,
            key::HEADS,
            key::NAMES,
            key::ROUTES,
            key::UPLOADS,
            key::KEYS,
            key::CHANGES,
            key::HEADS_OF_VERSIONS,
            key::REVISIONS_OF_VERSIONS,
            key::LAYERS,
            key::LAYERS_LAST,
            key::LAYERS_CODE,
            key::LAYERS_OF,
            key::SIGNINGS,
            key::SIGNED,
        ] {
            call.key(table);
        }
        for argument in [
            asked.identity,
            key::CODE,
            key::USES,
            key::STAGED,
            key::ANNOUNCED,
            key::VERSIONS,
            key::VERSION_CODE,
        ] {
            call.arg(argument);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        let answer: Vec<String> = call.invoke_async(asked.connection).await?;
        match answer.iter().any(|word| word == "replaced") {
            true => Err(Fault::Replaced),
            false => Ok(answer),
        }
    }
}

/// The hashes of a function's layers, as a JSON list.
fn layers(function: &Function) -> String {
    let layers = function.layers.iter();
    let hashes: Vec<_> = layers.map(|layer| &layer.content.sha256).collect();
    serde_json::to_string(&hashes).expect("texts are JSON")
}

fn words(answer: &[String]) -> Vec<&str> {
    answer.iter().map(String::as_str).collect()
}
