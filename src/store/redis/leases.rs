//! The ledger of permits in Redis: the rules of `store::permits::ledger` as a script, with Redis's clock, and the channel on which a
//! process is told to ask again. Tests run the script and the machine side by side.
//!
//! A process is a hash: what is known of it, and for each of its scopes what it holds and needs. Nothing is added up and kept, so
//! nothing can drift; the others' parts are read for the scopes an ask names. On a Cluster a subscription may be at another node than the
//! ledger. Then nobody is ever seen listening there, and permits return only after the tail.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use redis::{RedisError, Script, ScriptInvocation, ServerErrorKind};

use crate::store::key;
use crate::store::permits::{Answer, Ask, Error, Grant, Permits, ledger};
use crate::store::redis::pool::Connection;
use crate::store::redis::scripts::WHEN_FULL;
use crate::store::redis::{Fault, Redis};

/// What the ledger sees.
const SIGHT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local function listens(id)
  return redis.call('PUBSUB', 'NUMSUB', ARGV[1] .. id)[2] > 0
end
local function tell(id)
  redis.call('PUBLISH', ARGV[1] .. id, 'ask')
end
";

const EXCHANGE: &str = r"
local members, clock = KEYS[1], KEYS[2]
local prefix, me, incarnation = ARGV[2], ARGV[3], ARGV[4]
local sequence, lease, tail = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local holds, whole, account = ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])
local turn_millis, stale_millis, answered = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local claims = {}
for n = 1, tonumber(ARGV[14]) do
  local at = 9 + 6 * n
  claims[n] = {scope = ARGV[at], limit = tonumber(ARGV[at + 1]), counted = ARGV[at + 2] == '1',
    held = tonumber(ARGV[at + 3]), need = tonumber(ARGV[at + 4]), lately = tonumber(ARGV[at + 5])}
end

local all, others = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', members)) do
  local m = redis.call('HMGET', prefix .. id, '.incarnation', '.sequence', '.until', '.tail', '.heard', '.seen',
    '.counted')
  if m[1] then
    all[id] = {incarnation = m[1], sequence = tonumber(m[2]), ends = tonumber(m[3]), tail = tonumber(m[4]), heard = m[5], seen = m[6],
      counted = tonumber(m[7] or 0)}
    if id ~= me then table.insert(others, id) end
  end
end
table.sort(others)

local function forget(id)
  redis.call('DEL', prefix .. id)
  redis.call('SREM', members, id)
end
if lease == 0 then
  if all[me] and all[me].incarnation == incarnation then
    redis.call('DEL', prefix .. me)
    redis.call('HSET', prefix .. me, '.incarnation', incarnation, '.sequence', math.max(all[me].sequence, sequence),
      '.until', now, '.tail', all[me].tail, '.heard', run, '.seen', '', '.counted', 0)
    for _, id in ipairs(others) do tell(id) end
  end
  return {'granted'}
end

local c = redis.call('HMGET', clock, 'last', 'run', 'settle', 'quiet')
local last, settle, quiet = tonumber(c[1] or 0), tonumber(c[3] or 0), tonumber(c[4] or 0)
local absent = c[2] ~= run or now < last or now - last > math.floor(lease / 2)
if absent and next(all) then
  settle = now + lease
  for id, m in pairs(all) do
    if m.ends > settle then
      m.ends = settle
      redis.call('HSET', prefix .. id, '.until', settle)
    end
  end
end
redis.call('HSET', clock, 'last', now, 'run', run, 'settle', settle)

local function grow_later()
  quiet = now + lease
  redis.call('HSET', clock, 'quiet', quiet)
end
local mine = all[me]
if mine and mine.incarnation == incarnation then
  if sequence <= mine.sequence then return {'late'} end
  if answered > mine.sequence then grow_later() end
elseif mine and sequence > 1 and mine.heard == run then
  return {'superseded'}
elseif not whole then
  return {'unknown'}
else
  if mine then forget(me) end
  for _, claim in ipairs(claims) do
    if holds and claim.held > 0 then grow_later() end
  end
end

local left, unheard = {}, false
for _, id in ipairs(others) do
  local m = all[id]
  local dead = m.seen == run and not listens(id)
  local ended = now >= math.max(m.ends, settle) + m.tail
  if now > m.ends and (dead or ended) then
    forget(id)
  else
    table.insert(left, id)
    if m.heard ~= run then unheard = true end
  end
end
local growth = now >= quiet and (now >= settle or not unheard)

local function part(id, scope)
  local text = redis.call('HGET', prefix .. id, '=' .. scope)
  if not text then return nil end
  local held, need, lately, counted = string.match(text, '(%d+),(%d+),(%d+),?(%d*)')
  return tonumber(held), tonumber(need), tonumber(lately), counted == '1'
end

-- Gives from `rest` in equal parts to those who have less than the field `of` of their need, and returns what is left.
local function fill(got, rest, needs, of, turn)
  while true do
    local wanting = {}
    for i = 1, #needs do
      if needs[i][of] > got[i] then table.insert(wanting, i) end
    end
    if rest == 0 or #wanting == 0 then return rest end
    local share = math.floor(rest / #wanting)
    if share == 0 then
      local first = turn % #wanting
      for n = 0, rest - 1 do
        local i = wanting[(first + n) % #wanting + 1]
        got[i] = got[i] + 1
      end
      return 0
    end
    for _, i in ipairs(wanting) do
      local more = math.min(share, needs[i][of] - got[i])
      got[i] = got[i] + more
      rest = rest - more
    end
  end
end

-- What each of `needs` gets, by its place in the list.
local function fair(total, needs, turn)
  local got = {}
  for i = 1, #needs do got[i] = 0 end
  local rest = fill(got, total, needs, 2, turn)
  rest = fill(got, rest, needs, 3, turn)
  local spare = math.floor(rest / #needs)
  for i = 1, #needs do got[i] = got[i] + spare end
  return got
end

-- What is held of the account's limit: kept with each process, and counted anew whenever one names all its scopes.
local my_counted, of_account = 0, 0
if mine and mine.incarnation == incarnation and not whole then my_counted = mine.counted end
for _, claim in ipairs(claims) do
  local known, _, _, counted = part(me, claim.scope)
  claim.known = known or 0
  if not holds then claim.held = math.min(claim.held, claim.known) end
  if counted and not whole then my_counted = my_counted - claim.known end
  if claim.counted then my_counted = my_counted + claim.held end
end
for _, id in ipairs(left) do of_account = of_account + all[id].counted end

local answer, told, kept = {'granted'}, {}, {}
if not mine then
  for _, id in ipairs(left) do told[id] = true end
end
for _, claim in ipairs(claims) do
  local scope, limit, held, known, need, lately = claim.scope, claim.limit, claim.held, claim.known, claim.need, claim.lately
  local with_others, with_lost, live, needs = 0, 0, {}, {}
  for _, id in ipairs(left) do
    local theirs, theirs_need, theirs_lately = part(id, scope)
    if theirs then
      with_others = with_others + theirs
      if all[id].ends >= now then
        live[id] = theirs
        table.insert(needs, {id, theirs_need, theirs_lately})
      else
        with_lost = with_lost + theirs
      end
    end
  end
  table.insert(needs, {me, need, lately})
  table.sort(needs, function(a, b) return a[1] < b[1] end)
  local parts = fair(math.max(0, limit - with_lost), needs, math.floor(now / turn_millis))
  local share
  for i, n in ipairs(needs) do
    if n[1] == me then share = parts[i] end
  end
  local available = math.max(0, limit - with_others)
  if claim.counted then
    my_counted = my_counted - held
    available = math.min(available, math.max(0, account - of_account - my_counted))
  end
  local granted = math.max(held, growth and math.min(share, available) or 0)
  if claim.counted then my_counted = my_counted + granted end
  local pressed = with_others + granted > limit
  local lacks, idle, unsure = math.max(0, need - granted), 0, 0
  for i, n in ipairs(needs) do
    local id = n[1]
    if live[id] then
      if n[2] > live[id] then pressed = true end
      local stale = all[id].ends + stale_millis < now + lease
      if stale then
        unsure = unsure + live[id]
      else
        idle = idle + math.max(0, live[id] - math.max(n[2], parts[i]))
      end
      local has_some = live[id] > parts[i] or (stale and live[id] > 0)
      if (lacks > 0 and has_some) or (held < known and n[2] > live[id]) then told[id] = true end
    end
  end
  local keep = (pressed or whole) and math.min(granted, share) or granted
  table.insert(answer, tostring(granted))
  table.insert(answer, tostring(keep))
  local sure = math.min(math.max(0, available - granted) + idle, math.max(0, share - granted))
  table.insert(answer, tostring(math.min(lacks, sure + unsure)))
  table.insert(kept, '=' .. scope)
  table.insert(kept, granted .. ',' .. need .. ',' .. lately .. ',' .. (claim.counted and 1 or 0))
end

if whole then redis.call('DEL', prefix .. me) end
redis.call('SADD', members, me)
redis.call('HSET', prefix .. me, '.incarnation', incarnation, '.sequence', sequence, '.until', now + lease, '.tail', tail,
  '.heard', run, '.seen', listens(me) and run or '', '.counted', my_counted)
for at = 1, #kept, 2 do redis.call('HSET', prefix .. me, kept[at], kept[at + 1]) end
for id in pairs(told) do tell(id) end
return answer
";

pub(super) struct Leases {
    exchange: Script,
}

impl Leases {
    pub(super) fn new() -> Self {
        let exchange = Script::new(&format!("{WHEN_FULL}{SIGHT}{EXCHANGE}"));
        Self { exchange }
    }
}

async fn exchange(
    script: &Script,
    connection: &mut Connection,
    ask: &Ask,
) -> Result<Answer, Fault> {
    let words: Vec<String> = prepared(script, ask).invoke_async(connection).await?;
    read(&words, ask.claims.len()).ok_or(Fault::Unexpected(words))
}

fn prepared<'a>(script: &'a Script, ask: &Ask) -> ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    call.key(key::PROCESSES).key(key::LEDGER);
    call.arg(key::TOLD).arg(key::PROCESS);
    call.arg(&ask.process).arg(&ask.incarnation);
    call.arg(ask.sequence)
        .arg(millis(ask.lease))
        .arg(millis(ask.tail));
    call.arg(u8::from(ask.holds)).arg(u8::from(ask.whole));
    call.arg(ask.account);
    call.arg(ledger::TURN_MILLIS).arg(ledger::STALE_MILLIS);
    call.arg(ask.answered);
    call.arg(ask.claims.len());
    for claim in &ask.claims {
        call.arg(&claim.scope).arg(claim.limit);
        call.arg(u8::from(claim.counted));
        call.arg(claim.held).arg(claim.need).arg(claim.lately);
    }
    call
}

fn read(words: &[String], claims: usize) -> Option<Answer> {
    let (first, rest) = words.split_first()?;
    match first.as_str() {
        "late" => Some(Answer::Late),
        "unknown" => Some(Answer::Unknown),
        "superseded" => Some(Answer::Superseded),
        "granted" => {
            let numbers: Option<Vec<u32>> = rest.iter().map(|word| word.parse().ok()).collect();
            let grants: Vec<Grant> = numbers?
                .chunks_exact(3)
                .map(|three| Grant {
                    held: three[0],
                    keep: three[1],
                    coming: three[2],
                })
                .collect();
            let whole = rest.len() == 3 * grants.len();
            let expected = grants.len() == claims || grants.is_empty();
            (whole && expected).then_some(Answer::Granted(grants))
        }
        _ => None,
    }
}

/// Whether nobody is there, or nobody answers.
fn lost(fault: Fault) -> Error {
    let away = match &fault {
        Fault::Redis(error) => is_away(error),
        Fault::Connection(deadpool::managed::PoolError::Backend(error)) => is_away(error),
        _ => false,
    };
    match away {
        true => Error::Away(Box::new(fault)),
        false => Error::Silent(Box::new(fault)),
    }
}

fn is_away(error: &RedisError) -> bool {
    let starts = error.kind() == redis::ErrorKind::Server(ServerErrorKind::BusyLoading);
    starts || (error.is_io_error() && !error.is_timeout()) || error.is_connection_dropped()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

impl Permits for Redis {
    fn exchange<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let asked = self
                .calls
                .call(async |connection| exchange(&self.leases.exchange, connection, ask).await);
            asked.await.map_err(lost)
        }
        .boxed()
    }

    fn listen<'a>(
        &'a self,
        process: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, ()>, Error>> {
        async move {
            let subscribe = async {
                let mut subscription = self.place.listen().await?;
                subscription
                    .subscribe(format!("{}{process}", key::TOLD))
                    .await?;
                Ok(subscription.into_on_message().map(drop).boxed())
            };
            let deadline = self.calls.deadline;
            let subscribed = tokio::time::timeout(deadline, subscribe).await;
            subscribed
                .unwrap_or(Err(Fault::Deadline(deadline)))
                .map_err(lost)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;
    use crate::store::permits::Claim;
    use crate::store::permits::ledger::{Ledger, Sight};
    use crate::store::permits::suite;
    use crate::store::redis::tests::Server;

    #[tokio::test]
    async fn passes_the_suite_of_permits() {
        let server = Server::start().await;
        suite::run(async || {
            server.ask::<()>(&["FLUSHALL"]).await;
            let ledger: std::sync::Arc<dyn Permits> = server.store().await;
            ledger
        })
        .await;
    }

    /// Instead of Redis's own sight, one that is given.
    const GIVEN_SIGHT: &str = r"
local sight = cjson.decode(ARGV[#ARGV])
local now, run = sight.now, sight.run
local function listens(id) return sight.listening[id] ~= nil end
local told_list = 'told'
local function tell(id) redis.call('SADD', told_list, id) end
";

    #[derive(Debug, Clone)]
    struct Step {
        ask: Ask,
        pass: i64,
        run: u8,
        listening: BTreeSet<String>,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let name = || prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned);
        let counts = (0u32..12, 0u32..8, 0u32..15, 0u32..15);
        let claim = ("[xyz]", prop::bool::weighted(0.8), counts);
        let claim = claim.prop_map(|(scope, counted, (limit, held, need, lately))| Claim {
            scope,
            limit,
            counted,
            held,
            need,
            lately,
        });
        let claims = prop::collection::vec(claim, 0..4).prop_map(|mut claims| {
            claims.sort_by(|a, b| a.scope.cmp(&b.scope));
            claims.dedup_by(|a, b| a.scope == b.scope);
            claims
        });
        let flags = (any::<bool>(), any::<bool>(), 0u32..20);
        let sequences = (0u64..6, 0u64..4);
        let ask = (name(), 0u8..8, sequences, claims, flags, 0u32..16);
        let pass =
            prop_oneof![4 => 0i64..30, 4 => 0i64..400, 1 => 400i64..5_000, 1 => -2_000i64..0];
        let listening = prop::collection::btree_set(name(), 0..=3);
        let step = (ask, pass, 0u8..12, listening).prop_map(|(ask, pass, run, listening)| {
            let (process, incarnation, (sequence, answered), claims, flags, account) = ask;
            let (holds, whole, end) = flags;
            let ask = Ask {
                process,
                incarnation: (incarnation / 7).to_string(),
                sequence,
                answered,
                lease: Duration::from_millis(if end == 0 { 0 } else { 1_000 }),
                tail: Duration::from_millis(300),
                holds,
                whole,
                account,
                claims,
            };
            Step {
                ask,
                pass,
                run: run / 11,
                listening,
            }
        });
        prop::collection::vec(step, 1..40)
    }

    /// The script and the machine answer the same, whatever they are asked, and tell the same processes.
    #[tokio::test]
    async fn the_script_follows_the_rules() {
        let server = Server::with(&["--appendfsync", "no"]).await;
        let script = Script::new(&format!("{GIVEN_SIGHT}{EXCHANGE}"));
        let mut connection = server.connection().await.expect("is there");
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = steps();
        for _ in 0..300 {
            let steps = strategy.new_tree(&mut runner).expect("steps").current();
            redis::cmd("FLUSHALL")
                .exec_async(&mut connection)
                .await
                .expect("answers");
            let (mut ledger, mut now) = (Ledger::default(), 1_000_000u64);
            let mut sequences = [1u64; 3];
            for (number, mut step) in steps.into_iter().enumerate() {
                now = now.saturating_add_signed(step.pass);
                let of = usize::from(step.ask.process.as_bytes()[0] - b'a');
                // Mostly growing, at times late, at times the first of a new run.
                if step.ask.sequence > 0 {
                    sequences[of] += 1;
                    step.ask.sequence = sequences[of];
                } else {
                    step.ask.sequence = 1;
                }
                // At times it was answered what the ledger does not know.
                step.ask.answered = (sequences[of] + step.ask.answered).saturating_sub(4);
                let sight = Sight {
                    now,
                    run: format!("run{}", step.run),
                    listening: step.listening.clone(),
                };
                let (answer, told) = ledger.exchange(&step.ask, &sight);
                let listening: serde_json::Map<_, _> = step
                    .listening
                    .iter()
                    .map(|id| (id.clone(), true.into()))
                    .collect();
                let given =
                    serde_json::json!({"now": now, "run": sight.run, "listening": listening});
                let (found, found_told) =
                    ask_script(&script, &mut connection, &step.ask, &given.to_string()).await;
                assert_eq!(
                    (found, found_told),
                    (answer, told),
                    "step {number}: {step:?} at {now}"
                );
            }
        }
    }

    async fn ask_script(
        script: &Script,
        connection: &mut Connection,
        ask: &Ask,
        sight: &str,
    ) -> (Answer, BTreeSet<String>) {
        let mut call = prepared(script, ask);
        call.arg(sight);
        let words: Vec<String> = call.invoke_async(connection).await.expect("runs");
        let mut both = redis::pipe();
        both.cmd("SMEMBERS")
            .arg("told")
            .cmd("DEL")
            .arg("told")
            .ignore();
        let (told,): (BTreeSet<String>,) = both.query_async(connection).await.expect("answers");
        let answer = read(&words, ask.claims.len());
        (answer.unwrap_or_else(|| panic!("{words:?}")), told)
    }
}
