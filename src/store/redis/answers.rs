//! Answers to named calls in Redis: a hash for each key, and a sorted set that says when which is forgotten. Every step is one script, with
//! Redis's own clock. The keys of it never expire by themselves: a Redis that is full drops those first, and then a call would be run twice.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Script;

use crate::domain::id::RequestId;
use crate::domain::idempotency::{Answer, Key};
use crate::store::answers::{Answers, Begun, Bounds, Ended, Head};
use crate::store::redis::scripts::{Asked, WHEN_FULL};
use crate::store::redis::{Fault, Redis, unavailable};
use crate::store::{Error, key, record};

/// What every script begins with. What it knows of a key: `print`, `first`, while it runs `by` and `lease`, and in the end `done`, with
/// `head` and `body` if they are kept. `bytes` is how many all bodies have.
const HEAD: &str = r"
local identity, index, bytes = unpack(KEYS)
local expected, prefix, id, by = unpack(ARGV, 1, 4)
if redis.call('GET', identity) ~= expected then return {'replaced'} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local hash = prefix .. id

local function forget(old)
  local size = redis.call('HSTRLEN', prefix .. old, 'body')
  -- What takes away comes first, so that a full Redis lets the rest pass.
  redis.call('UNLINK', prefix .. old)
  redis.call('ZREM', index, old)
  if size > 0 then redis.call('DECRBY', bytes, size) end
end
local function has()
  local known = redis.call('HMGET', hash, 'by', 'done')
  return known[1] == by and not known[2]
end
";

const BEGIN: &str = r"
local print, lease, keep, most = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
-- A few at a time, so that no script takes long.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 100)) do forget(old) end
local ends = redis.call('ZSCORE', index, id)
if ends and tonumber(ends) <= now then forget(id) ends = nil end
local first = by
if ends then
  local known = redis.call('HMGET', hash, 'print', 'done', 'head', 'body', 'lease', 'first')
  if known[1] ~= print then return {'different'} end
  if known[2] then
    if known[3] then return {'answered', known[3], known[4]} end
    return {'unkept'}
  end
  if tonumber(known[5]) > now then return {'running'} end
  first = known[6]
elseif redis.call('ZCARD', index) >= most then
  return {'full'}
end
redis.call('HSET', hash, 'print', print, 'by', by, 'first', first, 'lease', now + lease)
redis.call('ZADD', index, now + math.max(keep, lease), id)
return {'yours', first}
";

const HOLD: &str = r"
local lease, keep = tonumber(ARGV[5]), tonumber(ARGV[6])
if not has() then return {'lost'} end
redis.call('HSET', hash, 'lease', now + lease)
redis.call('ZADD', index, now + math.max(keep, lease), id)
return {'done'}
";

const END: &str = r"
local head, body, keep, most = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
if not has() then return {'lost'} end
redis.call('HDEL', hash, 'by', 'lease')
redis.call('HSET', hash, 'done', '1')
redis.call('ZADD', index, now + keep, id)
if head == '' or #body + tonumber(redis.call('GET', bytes) or 0) > most then return {'unkept'} end
redis.call('HSET', hash, 'head', head, 'body', body)
if #body > 0 then redis.call('INCRBY', bytes, #body) end
return {'kept'}
";

const RELEASE: &str = r"
if not has() then return {'lost'} end
forget(id)
return {'done'}
";

const FORGET: &str = r"
local old = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 100)
for _, one in ipairs(old) do forget(one) end
return {#old > 0 and 'forgot' or 'none'}
";

pub(super) struct AnswerScripts {
    begin: Script,
    hold: Script,
    end: Script,
    release: Script,
    forget: Script,
}

impl AnswerScripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            begin: script(BEGIN),
            hold: Script::new(&format!("{WHEN_FULL}{HEAD}{HOLD}")),
            end: script(END),
            release: script(RELEASE),
            forget: script(FORGET),
        }
    }
}

impl Redis {
    async fn run_for_answers(
        &self,
        script: &Script,
        // The id of a key and who asks; nobody's, and nobody, where it is about all of them.
        (id, by): (&str, Option<RequestId>),
        arguments: &[&[u8]],
    ) -> Result<Vec<Bytes>, Fault> {
        let by = by.map(|by| by.to_string()).unwrap_or_default();
        let run = self.calls.script(async |asked: &mut Asked<'_>| {
            let mut call = script.prepare_invoke();
            for table in [key::IDENTITY, key::ANSWERS, key::ANSWERS_BYTES] {
                call.key(table);
            }
            call.arg(asked.identity).arg(key::ANSWER);
            call.arg(id).arg(&by);
            for argument in arguments {
                call.arg(*argument);
            }
            let answer: Vec<Bytes> = call.invoke_async(asked.connection).await?;
            match answer.first().map(|word| &word[..]) {
                Some(b"replaced") => Err(Fault::Replaced),
                _ => Ok(answer),
            }
        });
        run.await
    }

    async fn try_begin(
        &self,
        key: &Key,
        by: RequestId,
        bounds: Bounds,
    ) -> Result<Option<Begun>, Fault> {
        let numbers = [millis(bounds.lease), millis(bounds.keep), bounds.keys];
        let [lease, keep, most] = numbers.map(|number| number.to_string());
        let arguments = [&key.print, &lease, &keep, &most].map(|text| text.as_bytes());
        let script = &self.answers.begin;
        let whose = (key.id.as_str(), Some(by));
        let answer = self.run_for_answers(script, whose, &arguments).await?;
        let words: Vec<&[u8]> = answer.iter().map(|word| &word[..]).collect();
        Ok(Some(match words[..] {
            [b"full"] => return Ok(None),
            [b"running"] => Begun::Running,
            [b"different"] => Begun::Different,
            [b"unkept"] => Begun::Unkept,
            [b"answered", head, _] => {
                let head: Head = record::decode("answer", head)?;
                Begun::Answered(head.with(answer[2].clone()))
            }
            [b"yours", first] => {
                let first = std::str::from_utf8(first).ok().and_then(RequestId::parse);
                Begun::Yours {
                    first: first.ok_or_else(|| unexpected(&answer))?,
                }
            }
            _ => return Err(unexpected(&answer)),
        }))
    }

    /// Whether it is done; if not, it was lost.
    async fn done_for_answers(
        &self,
        script: &Script,
        key: &Key,
        by: RequestId,
        arguments: &[&[u8]],
    ) -> Result<bool, Fault> {
        let whose = (key.id.as_str(), Some(by));
        let answer = self.run_for_answers(script, whose, arguments).await?;
        match answer.first().map(|word| &word[..]) {
            Some(b"done") => Ok(true),
            Some(b"lost") => Ok(false),
            _ => Err(unexpected(&answer)),
        }
    }

    async fn try_end(
        &self,
        key: &Key,
        by: RequestId,
        answer: Option<&Answer>,
        bounds: Bounds,
    ) -> Result<Ended, Fault> {
        let head = answer.map(|answer| record::encode(Head::of(answer)));
        let head = head.unwrap_or_default();
        let body = answer.map_or(&b""[..], |answer| &answer.body[..]);
        let [keep, most] = [millis(bounds.keep), bounds.bytes].map(|number| number.to_string());
        let arguments: [&[u8]; 4] = [&head, body, keep.as_bytes(), most.as_bytes()];
        let script = &self.answers.end;
        let whose = (key.id.as_str(), Some(by));
        let answer = self.run_for_answers(script, whose, &arguments).await?;
        match answer.first().map(|word| &word[..]) {
            Some(b"kept") => Ok(Ended::Kept),
            Some(b"unkept") => Ok(Ended::Unkept),
            Some(b"lost") => Ok(Ended::Lost),
            _ => Err(unexpected(&answer)),
        }
    }

    async fn try_forget(&self) -> Result<bool, Fault> {
        let script = &self.answers.forget;
        let answer = self.run_for_answers(script, ("", None), &[]).await?;
        match answer.first().map(|word| &word[..]) {
            Some(b"forgot") => Ok(true),
            Some(b"none") => Ok(false),
            _ => Err(unexpected(&answer)),
        }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

fn unexpected(answer: &[Bytes]) -> Fault {
    let words = answer.iter().take(1);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    Fault::Unexpected(words.collect())
}

impl Answers for Redis {
    fn begin<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Begun, Error>> {
        async move {
            let begun = self.try_begin(key, by, bounds).await;
            let begun = begun.map_err(unavailable("begin the named call"))?;
            begun.ok_or(Error::Full)
        }
        .boxed()
    }

    fn hold<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let numbers = [bounds.lease, bounds.keep].map(|time| millis(time).to_string());
            let arguments = [numbers[0].as_bytes(), numbers[1].as_bytes()];
            let script = &self.answers.hold;
            let held = self.done_for_answers(script, key, by, &arguments).await;
            held.map_err(unavailable("hold the named call"))
        }
        .boxed()
    }

    fn end<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        answer: Option<&'a Answer>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        async move {
            let ended = self.try_end(key, by, answer, bounds).await;
            ended.map_err(unavailable("keep the answer"))
        }
        .boxed()
    }

    fn release<'a>(&'a self, key: &'a Key, by: RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let script = &self.answers.release;
            let released = self.done_for_answers(script, key, by, &[]).await;
            released.map_err(unavailable("release the named call"))
        }
        .boxed()
    }

    fn forget(&self) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            let forgotten = self.try_forget().await;
            forgotten.map_err(unavailable("forget old answers"))
        }
        .boxed()
    }
}
