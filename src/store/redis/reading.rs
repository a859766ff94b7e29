//! Reads, from the Redis that is meant. Those of one moment are made by a script and not by MULTI: a Redis that is full refuses that, whatever is in it,
//! and what was revoked or deleted then, for which there is always room, would go unnoticed by everybody else.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{FromRedisValue, RedisError, Script};
use serde::de::DeserializeOwned;

use crate::store::redis::pool::Connection;
use crate::store::redis::{Calls, Fault, Redis};
use crate::store::{key, record};

/// Of so many at once when all are read: more would hold up whoever else asks Redis, and be in memory twice.
pub(super) const PAGE: usize = 500;

/// Values that are decoded in one turn.
const TURN: usize = 50;

/// A hash.
pub(super) type Values = Vec<(String, Bytes)>;

const READ: &str = r"
local answers, at = {}, 1
for n = 2, #KEYS do
  local last = at + 1 + tonumber(ARGV[at + 1])
  answers[n - 1] = redis.call(ARGV[at], KEYS[n], unpack(ARGV, at + 2, last))
  at = last + 1
end
return {redis.call('GET', KEYS[1]), answers}
";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(READ));

/// A command that changes nothing.
pub(super) struct Ask<'a> {
    command: &'static str,
    key: &'a str,
    arguments: &'a [&'a str],
}

impl<'a> Ask<'a> {
    pub(super) fn new(command: &'static str, key: &'a str, arguments: &'a [&'a str]) -> Self {
        Self {
            command,
            key,
            arguments,
        }
    }
}

/// Which store it is, if it is one, and the answers, in order.
pub(super) async fn ask<T: FromRedisValue>(
    connection: &mut Connection,
    asks: &[Ask<'_>],
) -> Result<(Option<String>, T), RedisError> {
    let mut call = SCRIPT.prepare_invoke();
    call.key(key::IDENTITY);
    for ask in asks {
        call.key(ask.key);
        call.arg(ask.command).arg(ask.arguments.len());
        for argument in ask.arguments {
            call.arg(*argument);
        }
    }
    call.invoke_async(connection).await
}

impl Calls {
    /// The answers, in order.
    pub(super) async fn read<T: FromRedisValue>(&self, asks: &[Ask<'_>]) -> Result<T, Fault> {
        let identity = self.identity().await?;
        let (found, answers) = self
            .call(async |connection| Ok(ask(connection, asks).await?))
            .await?;
        match found.as_deref() == Some(identity) {
            true => Ok(answers),
            false => Err(Fault::Replaced),
        }
    }
}

impl Redis {
    /// Every value of a hash.
    pub(super) async fn values<T: DeserializeOwned>(
        &self,
        of: &str,
        what: &str,
    ) -> Result<Vec<T>, Fault> {
        let (values,): (Values,) = self.calls.read(&[Ask::new("HGETALL", of, &[])]).await?;
        decoded(values, what)
    }

    /// The same a page at a time, for what there may be very many of: one is read while the one before is decoded. Not all of one moment: what
    /// changes meanwhile is told of afterwards, and may be there as it was, as it is, or both.
    pub(super) async fn scanned<T: DeserializeOwned>(
        &self,
        of: &str,
        what: &str,
    ) -> Result<Vec<T>, Fault> {
        let (mut all, (mut cursor, mut page)) = (Vec::new(), self.page(of, 0).await?);
        loop {
            let decoding = decoded_in_turns(page, what, &mut all);
            if cursor == 0 {
                decoding.await?;
                return Ok(all);
            }
            ((), (cursor, page)) = tokio::try_join!(decoding, self.page(of, cursor))?;
        }
    }

    /// Some values, and where the next are; 0 is where the first are, and after the last.
    async fn page(&self, of: &str, cursor: u64) -> Result<(u64, Values), Fault> {
        let (from, most) = (cursor.to_string(), PAGE.to_string());
        let arguments = [from.as_str(), "COUNT", most.as_str()];
        let ask = Ask::new("HSCAN", of, &arguments);
        let (page,): ((u64, Values),) = self.calls.read(&[ask]).await?;
        Ok(page)
    }

    /// One value of a hash.
    pub(super) async fn value<T: DeserializeOwned>(
        &self,
        of: &str,
        id: &str,
        what: &str,
    ) -> Result<Option<T>, Fault> {
        let (value,): (Option<Bytes>,) = self.calls.read(&[Ask::new("HGET", of, &[id])]).await?;
        let decoded = value.map(|value| record::decode(format_args!("{what} {id}"), &value));
        Ok(decoded.transpose()?)
    }
}

pub(super) fn decoded<T: DeserializeOwned>(values: Values, what: &str) -> Result<Vec<T>, Fault> {
    let values = values.into_iter();
    let decoded = values.map(|value| decode(&value, what));
    decoded.collect()
}

/// The same beside others: between some and the next they have their turn, and whoever sends what was asked for meanwhile is one of them.
async fn decoded_in_turns<T: DeserializeOwned>(
    values: Values,
    what: &str,
    into: &mut Vec<T>,
) -> Result<(), Fault> {
    for some in values.chunks(TURN) {
        tokio::task::yield_now().await;
        for value in some {
            into.push(decode(value, what)?);
        }
    }
    Ok(())
}

fn decode<T: DeserializeOwned>((id, value): &(String, Bytes), what: &str) -> Result<T, Fault> {
    Ok(record::decode(format_args!("{what} {id}"), value)?)
}
