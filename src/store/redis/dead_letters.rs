//! Dead letters in Redis: the sorted set of them, and the hashes of their events. Every step is one script.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Script;

use crate::domain::event::{Event, Record};
use crate::domain::id::RequestId;
use crate::store::dead_letters::{DeadLetters, Place};
use crate::store::events::Bounds;
use crate::store::redis::events::{HEAD, done, number, read, unexpected};
use crate::store::redis::{Fault, Redis, unavailable};
use crate::store::{Error, record};

const LIST: &str = r"
local most, at, last = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local answer, found, offset = {'done'}, 0, 0
repeat
  local rows = redis.call('ZREVRANGEBYSCORE', dead, at, '-inf', 'WITHSCORES', 'LIMIT', offset, 100)
  for row = 1, #rows, 2 do
    local id, score = rows[row], rows[row + 1]
    local after = last == '' or tonumber(score) < tonumber(at) or id < last
    if after and found < most then
      local known = redis.call('HMGET', prefix .. id, 'record', 'state', 'attempts', 'finished', 'failure', 'ran')
      if known[1] then
        table.insert(answer, score)
        for field = 1, 6 do table.insert(answer, known[field] or '') end
        found = found + 1
      end
    end
  end
  offset = offset + 100
until found >= most or #rows < 200
return answer
";

const READ: &str = r"
local id = ARGV[3]
if not redis.call('ZSCORE', dead, id) then return {'absent'} end
local known = redis.call('HMGET', prefix .. id, 'record', 'state', 'attempts', 'finished', 'failure', 'ran', 'payload')
if not known[1] or not known[7] then return {'absent'} end
local answer = {'done'}
for field = 1, 7 do table.insert(answer, known[field] or '') end
return answer
";

const REDRIVE: &str = r"
local id, value, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
if not redis.call('ZSCORE', dead, id) then return {'absent'} end
if redis.call('XLEN', stream) + redis.call('ZCARD', later) >= most then return {'full'} end
redis.call('ZREM', dead, id)
redis.call('ZREM', done, id)
redis.call('HDEL', prefix .. id, 'finished', 'ended')
redis.call('HSET', prefix .. id, 'record', value, 'state', 'queued', 'attempts', 0)
queue(id)
return {'done'}
";

const DISCARD: &str = r"
local id = ARGV[3]
if redis.call('ZREM', dead, id) == 0 then return {'absent'} end
redis.call('HDEL', prefix .. id, 'payload')
return {'done'}
";

pub(super) struct DeadLetterScripts {
    list: Script,
    read: Script,
    redrive: Script,
    discard: Script,
}

impl DeadLetterScripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            list: script(LIST),
            read: script(READ),
            redrive: script(REDRIVE),
            discard: script(DISCARD),
        }
    }
}

impl Redis {
    async fn try_dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(Place, Record)>, Fault> {
        let (most, at, last) = match after {
            Some(place) => (most, place.at.to_string(), place.id.to_string()),
            None => (most, "+inf".into(), String::new()),
        };
        let most = most.to_string();
        let arguments = [&most, &at, &last].map(|text| text.as_bytes());
        let script = &self.dead_letters.list;
        let answer = self.run_for_events(script, &arguments).await?;
        let letters = done(&answer)?.chunks_exact(7).map(|fields| {
            let record = read(&fields[1..])?;
            let at = number(&fields[0])?;
            let id = record.event.request_id;
            Ok((Place { at, id }, record))
        });
        letters.collect()
    }

    async fn try_dead_letter(&self, id: &RequestId) -> Result<Option<(Record, Bytes)>, Fault> {
        let id = id.to_string();
        let script = &self.dead_letters.read;
        let answer = self.run_for_events(script, &[id.as_bytes()]).await?;
        if answer.first().is_some_and(|word| word == "absent") {
            return Ok(None);
        }
        match done(&answer)? {
            fields if fields.len() == 7 => Ok(Some((read(fields)?, fields[6].clone()))),
            other => Err(unexpected(other)),
        }
    }

    /// `None` if there is no room.
    async fn try_redrive(
        &self,
        id: &RequestId,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> Result<Option<bool>, Fault> {
        let Some((known, _)) = self.try_dead_letter(id).await? else {
            return Ok(Some(false));
        };
        let event = Event {
            redriven_at: Some(at),
            ..known.event
        };
        let (id, most) = (id.to_string(), bounds.unfinished.to_string());
        let value = record::encode(&event);
        let arguments: [&[u8]; 3] = [id.as_bytes(), &value, most.as_bytes()];
        let script = &self.dead_letters.redrive;
        let answer = self.run_for_events(script, &arguments).await?;
        match answer.first().map(|word| &word[..]) {
            Some(b"done") => Ok(Some(true)),
            // Somebody else was faster.
            Some(b"absent") => Ok(Some(false)),
            Some(b"full") => Ok(None),
            _ => Err(unexpected(&answer)),
        }
    }
}

impl DeadLetters for Redis {
    fn dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(Place, Record)>, Error>> {
        async move {
            let dead = self.try_dead(after, most).await;
            dead.map_err(unavailable("list the dead letters"))
        }
        .boxed()
    }

    fn dead_letter<'a>(
        &'a self,
        id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<(Record, Bytes)>, Error>> {
        async move {
            let found = self.try_dead_letter(id).await;
            found.map_err(unavailable("read the dead letter"))
        }
        .boxed()
    }

    fn redrive<'a>(
        &'a self,
        id: &'a RequestId,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let redriven = self.try_redrive(id, at, bounds).await;
            let redriven = redriven.map_err(unavailable("redrive the dead letter"))?;
            redriven.ok_or(Error::Full)
        }
        .boxed()
    }

    fn discard<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let id = id.to_string();
            let script = &self.dead_letters.discard;
            let answer = self.run_for_events(script, &[id.as_bytes()]).await;
            let answer = answer.map_err(unavailable("discard the dead letter"))?;
            Ok(answer.first().is_some_and(|word| word == "done"))
        }
        .boxed()
    }
}
