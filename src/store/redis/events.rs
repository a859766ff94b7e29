//! Asynchronous calls in Redis: a stream with a consumer group says who has which event, a sorted set which ones wait for their time, and
//! a hash for each event has the rest. Every step is one script, with Redis's own clock, so that no two processes need to agree on the time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Script;

use crate::clock;
use crate::domain::event::{
    Claimed, Event, Failure, Passed, Ran, Record, Settlement, State, Verdict,
};
use crate::domain::id::RequestId;
use crate::store::events::{Bounds, Depth, Events};
use crate::store::redis::scripts::Asked;
use crate::store::redis::{Fault, Redis, unavailable, unsaid};
use crate::store::{Error, key, record};

/// Entries a stream of somebody else is cut to, about.
const STREAM_MAX: usize = 100_000;

/// What every script begins with. What it knows of an event: `record` (what was accepted), `payload`, `state`, `attempts`, `ended` (of
/// those, the ones that ended and count), `by` (whose it is), `entry` (its place in the stream), `failure`, `finished`, `ran`.
pub(super) const HEAD: &str = r"
local identity, stream, later, done, dead = unpack(KEYS)
local expected, prefix = ARGV[1], ARGV[2]
if redis.call('GET', identity) ~= expected then return {'replaced'} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function queue(id)
  redis.call('HSET', prefix .. id, 'entry', redis.call('XADD', stream, '*', 'id', id))
end
";

const APPEND: &str = r"
local id, value, payload, most = unpack(ARGV, 3, 6)
if redis.call('EXISTS', prefix .. id) == 1 then return {'done'} end
if redis.call('XLEN', stream) + redis.call('ZCARD', later) >= tonumber(most) then return {'full'} end
redis.call('HSET', prefix .. id, 'record', value, 'payload', payload, 'state', 'queued', 'attempts', 0)
queue(id)
return {'done'}
";

const CLAIM: &str = r"
local by, most, lease = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', stream) == 0 or #redis.call('XINFO', 'GROUPS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, 'hearth', '0', 'MKSTREAM')
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', later, id)
  queue(id)
end
local answer = {'done'}
local found = 0
local function take(entry)
  local id = entry[2][2]
  local hash = prefix .. id
  if redis.call('EXISTS', hash) == 0 then
    redis.call('XACK', stream, 'hearth', entry[1])
    redis.call('XDEL', stream, entry[1])
    return
  end
  local attempts = redis.call('HINCRBY', hash, 'attempts', 1)
  redis.call('HSET', hash, 'state', 'running', 'by', by)
  local kept = redis.call('HMGET', hash, 'record', 'payload', 'ended', 'failure')
  local lost = math.max(0, attempts - 1 - (tonumber(kept[3]) or 0))
  for _, text in ipairs({id, kept[1], kept[2], tostring(attempts), tostring(lost), kept[4] or ''}) do table.insert(answer, text) end
  found = found + 1
end
-- What somebody had for too long; then what nobody has had.
local from = '0-0'
repeat
  if found >= most then break end
  local old = redis.call('XAUTOCLAIM', stream, 'hearth', by, lease, from, 'COUNT', most - found)
  from = old[1]
  for _, entry in ipairs(old[2]) do take(entry) end
until from == '0-0'
if found < most then
  local new = redis.call('XREADGROUP', 'GROUP', 'hearth', by, 'COUNT', most - found, 'STREAMS', stream, '>')
  if new then for _, entry in ipairs(new[1][2]) do take(entry) end end
end
-- Names of processes that are gone.
if found == 0 then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, 'hearth')) do
    if consumer[4] == 0 -- has an end of its own: empty
      and consumer[6] > 10 * lease and consumer[2] ~= by then
      redis.call('XGROUP', 'DELCONSUMER', stream, 'hearth', consumer[2])
    end
  end
end
return answer
";

const RENEW: &str = r"
local by = ARGV[3]
local answer = {'done'}
for at = 4, #ARGV do
  local known = redis.call('HMGET', prefix .. ARGV[at], 'state', 'by', 'entry')
  if known[1] == 'running' and known[2] == by then
    redis.call('XCLAIM', stream, 'hearth', by, 0, known[3], 'JUSTID')
  else
    table.insert(answer, ARGV[at])
  end
end
return answer
";

const SETTLE: &str = r"
local by, id, attempt, verdict, failure, after, finished = unpack(ARGV, 3, 9)
local most, keep, most_dead = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local hash = prefix .. id
local known = redis.call('HMGET', hash, 'state', 'by', 'attempts', 'entry')
if known[1] ~= 'running' or known[2] ~= by or known[3] ~= attempt then return {'lost'} end
redis.call('XACK', stream, 'hearth', known[4])
redis.call('XDEL', stream, known[4])
redis.call('HDEL', hash, 'by', 'entry')
if failure ~= '' then redis.call('HSET', hash, 'failure', failure) end
if ARGV[13] ~= '' then redis.call('HSET', hash, 'ran', ARGV[13]) end
if verdict == 'again' or verdict == 'once_more' then
  if verdict == 'once_more' then
    redis.call('HINCRBY', hash, 'attempts', -1)
  else
    redis.call('HINCRBY', hash, 'ended', 1)
  end
  redis.call('HSET', hash, 'state', 'queued')
  redis.call('ZADD', later, now + tonumber(after), id)
  return {'done'}
end
redis.call('HSET', hash, 'state', verdict, 'finished', finished)
redis.call('ZADD', done, now, id)
-- Who is told of it: id, record and payload of each.
local passed = false
for at = 14, #ARGV, 3 do
  redis.call('HSET', prefix .. ARGV[at], 'record', ARGV[at + 1], 'payload', ARGV[at + 2], 'state', 'queued', 'attempts', 0)
  queue(ARGV[at])
  passed = true
end
if verdict == 'succeeded' then
  redis.call('HDEL', hash, 'payload', 'failure')
elseif passed then
  redis.call('HDEL', hash, 'payload')
else
  redis.call('ZADD', dead, now, id)
  local many = redis.call('ZCARD', dead) - most_dead
  if many > 0 then
    for at, old in ipairs(redis.call('ZPOPMIN', dead, many)) do
      if at % 2 == 1 then redis.call('HDEL', prefix .. old, 'payload') end
    end
  end
end
local function forget(old)
  redis.call('ZREM', done, old)
  redis.call('ZREM', dead, old)
  redis.call('UNLINK', prefix .. old)
end
-- A few at a time, so that no script takes long.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', done, '-inf', now - keep, 'LIMIT', 0, 100)) do forget(old) end
local many = redis.call('ZCARD', done) - most
if many > 0 then
  for _, old in ipairs(redis.call('ZRANGE', done, 0, math.min(many, 100) - 1)) do forget(old) end
end
return {'done'}
";

const RECORD: &str = r"
local known = redis.call('HMGET', prefix .. ARGV[3], 'record', 'state', 'attempts', 'finished', 'failure', 'ran')
if not known[1] then return {'done'} end
local answer = {'done'}
for field = 1, 6 do table.insert(answer, known[field] or '') end
return answer
";

const DEPTH: &str = r"
local running, since, last = 0, nil, nil
if redis.call('EXISTS', stream) == 1 then
  local group = redis.call('XINFO', 'GROUPS', stream)[1]
  if group then
    for at = 1, #group, 2 do
      if group[at] == 'pending' then running = group[at + 1] end
      if group[at] == 'last-delivered-id' then last = group[at + 1] end
    end
  end
  local next = redis.call('XRANGE', stream, last and '(' .. last or '-', '+', 'COUNT', 1)[1]
  if next then since = tonumber(string.match(next[1], '^%d+')) end
end
local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
local at = tonumber(first[2])
if at and at <= now and not (since and since < at) then since = at end
local unfinished = redis.call('XLEN', stream) + redis.call('ZCARD', later)
local answer = {}
for n, count in ipairs({unfinished, running, since or 0, redis.call('ZCARD', dead)}) do answer[n] = string.format('%.0f', count) end
return answer
";

pub(super) struct EventScripts {
    append: Script,
    claim: Script,
    renew: Script,
    settle: Script,
    record: Script,
    depth: Script,
}

impl EventScripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            append: script(APPEND),
            claim: script(CLAIM),
            renew: script(RENEW),
            settle: script(SETTLE),
            record: script(RECORD),
            depth: script(DEPTH),
        }
    }
}

impl Redis {
    pub(super) async fn run_for_events(
        &self,
        script: &Script,
        arguments: &[&[u8]],
    ) -> Result<Vec<Bytes>, Fault> {
        let run = self.calls.script(async |asked: &mut Asked<'_>| {
            let mut call = script.prepare_invoke();
            for table in [
                key::IDENTITY,
                key::EVENTS,
                key::EVENTS_LATER,
                key::EVENTS_DONE,
                key::EVENTS_DEAD,
            ] {
                call.key(table);
            }
            call.arg(asked.identity).arg(key::EVENT);
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

    async fn try_claim(
        &self,
        by: &str,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, Fault> {
        let (most, lease) = (most.to_string(), lease.as_millis().to_string());
        let arguments: [&[u8]; 3] = [by.as_bytes(), most.as_bytes(), lease.as_bytes()];
        let answer = self.run_for_events(&self.events.claim, &arguments).await?;
        let claimed = done(&answer)?.chunks_exact(6).map(|fields| {
            let event: Event = record::decode("event", &fields[1])?;
            Ok(Claimed {
                event,
                payload: fields[2].clone(),
                attempt: number(&fields[3])?,
                lost: number(&fields[4])?,
                failure: last_failure(&fields[5])?,
            })
        });
        claimed.collect()
    }

    async fn try_record(&self, id: &RequestId) -> Result<Option<Record>, Fault> {
        let id = id.to_string();
        let answer = self
            .run_for_events(&self.events.record, &[id.as_bytes()])
            .await?;
        match done(&answer)? {
            [] => Ok(None),
            fields => read(fields).map(Some),
        }
    }
}

/// What is known of an event: record, state, attempts, finished, failure, ran.
pub(super) fn read(fields: &[Bytes]) -> Result<Record, Fault> {
    let [event, text, attempts, finished, failure, ran, ..] = fields else {
        return Err(unexpected(fields));
    };
    Ok(Record {
        event: record::decode("event", event)?,
        state: state(text)?,
        attempts: number(attempts)?,
        finished_at: match &finished[..] {
            b"" => None,
            text => Some(time(text)?),
        },
        failure: last_failure(failure)?,
        ran: match &ran[..] {
            b"" => None,
            value => Some(record::decode("attempt", value)?),
        },
    })
}

fn last_failure(kept: &[u8]) -> Result<Option<Failure>, Fault> {
    Ok(match kept {
        b"" => None,
        value => Some(record::decode("failure", value)?),
    })
}

impl Events for Redis {
    fn append(
        &self,
        event: Event,
        payload: Bytes,
        bounds: Bounds,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let (id, most) = (event.request_id.to_string(), bounds.unfinished.to_string());
            let value = record::encode(&event);
            let arguments: [&[u8]; 4] = [id.as_bytes(), &value, &payload, most.as_bytes()];
            let answer = self.run_for_events(&self.events.append, &arguments).await;
            match answer.map_err(unsaid("keep the event"))?.first() {
                Some(word) if word == "full" => Err(Error::Full),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        by: &'a str,
        most: usize,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, Error>> {
        async move {
            let claimed = self.try_claim(by, most, lease).await;
            claimed.map_err(unavailable("claim events"))
        }
        .boxed()
    }

    fn renew<'a>(
        &'a self,
        by: &'a str,
        claims: &'a [RequestId],
        _lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<RequestId>, Error>> {
        async move {
            let ids: Vec<String> = claims.iter().map(ToString::to_string).collect();
            let arguments: Vec<&[u8]> = std::iter::once(by.as_bytes())
                .chain(ids.iter().map(|id| id.as_bytes()))
                .collect();
            let answer = self.run_for_events(&self.events.renew, &arguments).await;
            let answer = answer.map_err(unavailable("renew claims"))?;
            let lost = |id: &RequestId| answer.iter().skip(1).any(|l| *l == id.to_string());
            Ok(claims.iter().copied().filter(lost).collect())
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        by: &'a str,
        claimed: &'a Claimed,
        settlement: Settlement,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let mut passed: Vec<[Bytes; 3]> = Vec::new();
            let (word, failure, after) = match settlement.verdict {
                Verdict::PassedOn { failure, to } => {
                    let parts = |Passed { event, payload }| {
                        let id = event.request_id.to_string();
                        [id.into(), record::encode(&event).into(), payload]
                    };
                    passed.extend(to.into_iter().map(parts));
                    let word = match failure {
                        None => "succeeded",
                        Some(_) => "failed",
                    };
                    (word, failure, Duration::ZERO)
                }
                Verdict::Succeeded => ("succeeded", None, Duration::ZERO),
                Verdict::Failed(failure) => ("failed", Some(failure), Duration::ZERO),
                Verdict::Again {
                    after,
                    counts,
                    failure,
                } => match counts {
                    true => ("again", Some(failure), after),
                    false => ("once_more", Some(failure), after),
                },
            };
            let texts = [
                by.to_owned(),
                claimed.event.request_id.to_string(),
                claimed.attempt.to_string(),
                word.to_owned(),
            ];
            let failure: Vec<u8> = failure
                .as_ref()
                .map(record::encode::<&Failure>)
                .unwrap_or_default();
            let ran = settlement.ran.as_ref().map(record::encode::<&Ran>);
            let rest = [
                after.as_millis().to_string(),
                clock::wall().to_string(),
                bounds.finished.to_string(),
                bounds.keep.as_millis().to_string(),
                bounds.dead.to_string(),
            ];
            let arguments: Vec<&[u8]> = texts
                .iter()
                .map(String::as_bytes)
                .chain([&failure[..]])
                .chain(rest.iter().map(String::as_bytes))
                .chain([ran.as_deref().unwrap_or_default()])
                .chain(passed.iter().flatten().map(|part| &part[..]))
                .collect();
            let answer = self.run_for_events(&self.events.settle, &arguments).await;
            let answer = answer.map_err(unavailable("settle the event"))?;
            Ok(answer.first().is_some_and(|word| word == "done"))
        }
        .boxed()
    }

    fn record<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        async move {
            let found = self.try_record(id).await;
            found.map_err(unavailable("read the invocation"))
        }
        .boxed()
    }

    fn has_streams(&self) -> bool {
        true
    }

    fn publish<'a>(
        &'a self,
        stream: &'a str,
        id: RequestId,
        document: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let added = self.calls.call(async |connection| {
                let mut add = redis::cmd("XADD");
                add.arg(stream).arg("MAXLEN").arg("~").arg(STREAM_MAX);
                add.arg("*").arg("request_id").arg(id.to_string());
                add.arg("record").arg(&document[..]);
                Ok(add.exec_async(connection).await?)
            });
            added.await.map_err(unavailable("add to the stream"))
        }
        .boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, Error>> {
        async move {
            let read = async {
                let answer = self.run_for_events(&self.events.depth, &[]).await?;
                match &answer[..] {
                    [unfinished, running, since, dead] => {
                        let since = Some(number::<i64>(since)?).filter(|since| *since > 0);
                        Ok(Depth {
                            unfinished: number(unfinished)?,
                            running: number(running)?,
                            due_since: since
                                .and_then(|since| jiff::Timestamp::from_millisecond(since).ok()),
                            dead: number(dead)?,
                        })
                    }
                    other => Err(unexpected(other)),
                }
            };
            read.await.map_err(unavailable("count the events"))
        }
        .boxed()
    }
}

/// What comes after the word that it is done.
pub(super) fn done(answer: &[Bytes]) -> Result<&[Bytes], Fault> {
    match answer {
        [word, rest @ ..] if word == "done" => Ok(rest),
        other => Err(unexpected(other)),
    }
}

pub(super) fn unexpected(answer: &[Bytes]) -> Fault {
    let words = answer.iter().take(4);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    Fault::Unexpected(words.collect())
}

pub(super) fn number<T: std::str::FromStr>(text: &Bytes) -> Result<T, Fault> {
    let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    parsed.ok_or_else(|| unexpected(std::slice::from_ref(text)))
}

fn time(text: &[u8]) -> Result<jiff::Timestamp, Fault> {
    let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    parsed.ok_or_else(|| unexpected(&[Bytes::copy_from_slice(text)]))
}

fn state(text: &Bytes) -> Result<State, Fault> {
    let states = [
        State::Queued,
        State::Running,
        State::Succeeded,
        State::Failed,
    ];
    let found = states.into_iter().find(|s| s.as_str().as_bytes() == text);
    found.ok_or_else(|| unexpected(std::slice::from_ref(text)))
}
