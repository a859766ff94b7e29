//! Reads of one moment, from the Redis that is meant. By a script and not by MULTI: a Redis that is full refuses that, whatever is in it,
//! and what was revoked or deleted then, for which there is always room, would go unnoticed by everybody else.

use std::sync::LazyLock;

use redis::{FromRedisValue, RedisError, Script};

use crate::store::key;
use crate::store::redis::pool::Connection;
use crate::store::redis::{Calls, Fault};

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
