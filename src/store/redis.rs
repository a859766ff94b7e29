//! The store several Hearth processes share: definitions, keys and code packages in Redis.
//!
//! Every rule that holds over more than one key (names and routes are unique, one revision follows another, code nobody uses goes)
//! is kept by a script, which Redis runs whole or not at all: see `scripts`. Every call takes a connection from a bounded pool and has
//! a deadline, waiting for the connection included. What came back as `Ok` is as safe as Redis was told to keep things: with
//! `appendonly yes` and `appendfsync always`, it survives `kill -9` and a power cut.
//!
//! A package is written in pieces under a name of its own, which goes by itself if the writer does, and is renamed when it is whole.
//!
//! A Redis that is not there yet is no fault: the first call that reaches it makes it a store, or finds which one it is.
//!
//! A Redis that lost its data, or another one at the same address, has another identity and is refused: taking its emptiness for
//! everybody's wish would withdraw every function there is.

mod answers;
mod dead_letters;
mod events;
mod layers;
mod leases;
mod mappings;
mod place;
mod pool;
mod reading;
mod scripts;
mod signing;
mod versions;
mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{RedisError, Value, cmd};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::clock;
use crate::config::redis as url;
use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::KeyRecord;
use crate::domain::limits::PACKAGE_FETCHED_MAX;
use crate::store::change::{Changes, Teller};
use crate::store::redis::answers::AnswerScripts;
use crate::store::redis::dead_letters::DeadLetterScripts;
use crate::store::redis::events::EventScripts;
use crate::store::redis::leases::Leases;
use crate::store::redis::mappings::MappingScripts;
use crate::store::redis::place::Place;
use crate::store::redis::pool::{Connection, Pool};
use crate::store::redis::reading::{Ask, Values, decoded};
use crate::store::redis::scripts::{Asked, Scripts};
use crate::store::{Content, Error, Store, key, record};
use crate::task;
use crate::telemetry::metrics;

/// The layout of the keys. A larger one is refused: writing with old rules would break what a newer version wrote.
const FORMAT: u64 = 1;
/// Connections at most, and so calls under way. More wait for one, within their deadline.
const CONNECTIONS: usize = 16;
/// Packages kept although no function uses them yet; the oldest goes when there are more.
const UPLOADS_MAX: usize = 100;
/// A package that has not become whole in this time never will.
const STAGED_FOR: Duration = Duration::from_secs(15 * 60);

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("its URL is not understood")]
    Url(#[source] RedisError),
    #[error("{path} cannot be read")]
    Authority {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Redis refused, or could not be asked")]
    Redis(#[from] RedisError),
    #[error("no connection to Redis could be had")]
    Connection(#[source] deadpool::managed::PoolError<RedisError>),
    #[error("the connections to Redis cannot be pooled")]
    Pool(#[source] deadpool::managed::BuildError),
    #[error("Redis did not answer within {0:?}")]
    Deadline(Duration),
    #[error("no connection to Redis was free, or could be had, within {0:?}")]
    Unasked(Duration),
    #[error("Redis closed the connection that announces changes")]
    Deaf,
    #[error("{0:?} was announced, which is no change")]
    Announced(String),
    #[error(
        "Redis has lost its data or is another one than before; start again to go on with what is there now"
    )]
    Replaced,
    #[error(
        "it was written by a newer version (format {found}, this version knows up to {FORMAT})"
    )]
    NewerFormat { found: u64 },
    #[error(transparent)]
    Record(#[from] record::Fault),
    #[error("the code package {0} is damaged: its content does not have this hash")]
    Damaged(String),
    #[error("{0:?} is not a SHA-256 in lower-case hex")]
    NoHash(String),
    #[error("the code package {0} took too long to arrive")]
    Expired(String),
    #[error("a script answered {0:?}")]
    Unexpected(Vec<String>),
}

impl Fault {
    /// Whether what was asked for may have been done all the same.
    fn is_unsaid(&self) -> bool {
        match self {
            Fault::Deadline(_) | Fault::Unexpected(_) => true,
            // What has a code is Redis's own word.
            Fault::Redis(error) => error.code().is_none(),
            _ => false,
        }
    }
}

/// Counted here, so that every way out of a call is.
fn unavailable(operation: &'static str) -> impl Fn(Fault) -> Error {
    move |fault| {
        metrics::store_error(operation);
        Error::Unavailable {
            operation,
            source: Box::new(fault),
        }
    }
}

/// The same for a step that may be made once only.
fn unsaid(operation: &'static str) -> impl Fn(Fault) -> Error {
    move |fault| {
        let unsaid = fault.is_unsaid();
        match unavailable(operation)(fault) {
            Error::Unavailable { operation, source } if unsaid => {
                Error::Unsaid { operation, source }
            }
            error => error,
        }
    }
}

/// The handle. Dropping it ends the task that listens for changes.
pub struct Redis {
    place: Arc<Place>,
    calls: Calls,
    scripts: Scripts,
    events: EventScripts,
    answers: AnswerScripts,
    dead_letters: DeadLetterScripts,
    mapping_scripts: MappingScripts,
    /// Told by the task that listens.
    changes: Teller,
    leases: Leases,
    _listening: DropGuard,
}

impl fmt::Debug for Redis {
    // Nothing of the URL: there may be a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

/// What is to be known of a Redis to use it.
#[derive(Debug, Clone)]
pub struct Options {
    pub place: url::Place,
    /// The certificates that are trusted, where there is TLS; `None` are the system's.
    pub authority: Option<PathBuf>,
    /// What a call may take, waiting for a connection included.
    pub deadline: Duration,
    /// Between two looks at whether an announcement was lost.
    pub look_again: Duration,
}

/// What every call needs. A cheap handle.
#[derive(Clone)]
struct Calls {
    pool: Pool,
    deadline: Duration,
    /// Which store it is; known once Redis has answered for the first time.
    identity: Arc<OnceCell<String>>,
}

impl Calls {
    fn new(options: &Options) -> Result<(Self, Arc<Place>), Fault> {
        let authority = options.authority.as_deref();
        let place = Arc::new(Place::new(&options.place, authority, options.deadline)?);
        let calls = Self {
            pool: pool::build(place.clone(), CONNECTIONS)?,
            deadline: options.deadline,
            identity: Arc::default(),
        };
        Ok((calls, place))
    }

    /// Runs `work` on a connection, both within the deadline.
    async fn call<T>(
        &self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let begun = clock::now();
        let until = (begun + self.deadline).into();
        let done = match tokio::time::timeout_at(until, self.pool.get()).await {
            Ok(Ok(mut connection)) => {
                let done = tokio::time::timeout_at(until, work(&mut connection)).await;
                done.unwrap_or(Err(Fault::Deadline(self.deadline)))
            }
            Ok(Err(error)) => Err(Fault::Connection(error)),
            Err(_elapsed) => Err(Fault::Unasked(self.deadline)),
        };
        let took = clock::now().saturating_duration_since(begun);
        metrics::store_call("redis", took, done.is_ok());
        done
    }

    /// The same for a script, which looks at whether this is the Redis that is meant.
    async fn script<T>(
        &self,
        work: impl AsyncFnOnce(&mut Asked<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let identity = self.identity().await?;
        let call = self.call(async |connection| {
            work(&mut Asked {
                connection,
                identity,
            })
            .await
        });
        call.await
    }

    /// Which store this is. Whoever asks first makes an empty Redis a store; a failure is not remembered.
    async fn identity(&self) -> Result<&str, Fault> {
        let identity = self.identity.get_or_try_init(|| self.introduce());
        identity.await.map(String::as_str)
    }

    async fn introduce(&self) -> Result<String, Fault> {
        // Looked for first: a Redis that is full, or only read from, is still the store it was.
        let known = self.call(async |connection| {
            let mut both = cmd("MGET");
            both.arg(key::FORMAT).arg(key::IDENTITY);
            Ok(both.query_async(connection).await?)
        });
        let (format, identity) = match known.await? {
            (Some(format), Some(identity)) => (format, identity),
            (None, _) | (_, None) => self.make().await?,
        };
        if format > FORMAT {
            return Err(Fault::NewerFormat { found: format });
        }
        // Who asked may not be allowed to see it; then nothing is known.
        for risk in self.risks().await.unwrap_or_default() {
            tracing::warn!(risk, "Redis may lose what it acknowledged");
        }
        Ok(identity)
    }

    /// Makes it a store, unless somebody else just did.
    async fn make(&self) -> Result<(u64, String), Fault> {
        self.call(async |connection| {
            let made = Uuid::new_v4().simple().to_string();
            let mut both = redis::pipe();
            both.atomic();
            both.cmd("SETNX").arg(key::FORMAT).arg(FORMAT).ignore();
            both.cmd("SETNX").arg(key::IDENTITY).arg(made).ignore();
            both.cmd("GET").arg(key::FORMAT);
            both.cmd("GET").arg(key::IDENTITY);
            Ok(both.query_async(connection).await?)
        })
        .await
    }

    /// What in its settings means that it may lose what it acknowledged.
    async fn risks(&self) -> Result<BTreeSet<&'static str>, Fault> {
        let asked = self.call(async |connection| {
            let info: Value = cmd("INFO").query_async(connection).await?;
            // Not everybody is allowed to see this.
            let mut sync = cmd("CONFIG");
            sync.arg("GET").arg("appendfsync");
            let sync: Result<Value, RedisError> = sync.query_async(connection).await;
            Ok((texts(info), sync.map(|sync| format!("{sync:?}"))))
        });
        let (info, sync) = asked.await?;
        let mut found: BTreeSet<_> = info.iter().flat_map(|info| risks(info)).collect();
        // Once it keeps no log, it does not matter how often the log is written.
        let lazy = sync.is_ok_and(|sync| sync.contains("everysec") || sync.contains("\"no\""));
        if lazy && found.is_empty() {
            found.insert(LAZY);
        }
        Ok(found)
    }

    /// The count of changes, from the Redis that is meant.
    async fn count(&self) -> Result<u64, Fault> {
        let identity = self.identity().await?;
        let (found, count): (Option<String>, Option<u64>) = self
            .call(async |connection| {
                let mut both = cmd("MGET");
                both.arg(key::IDENTITY).arg(key::CHANGES);
                Ok(both.query_async(connection).await?)
            })
            .await?;
        match found.as_deref() == Some(identity) {
            true => Ok(count.unwrap_or_default()),
            false => Err(Fault::Replaced),
        }
    }
}

impl Redis {
    /// The store, whether or not its Redis answers already. `stop` is told if nothing listens for changes any more.
    pub fn new(options: &Options, stop: CancellationToken) -> Result<Arc<Self>, Error> {
        Self::try_new(options, stop).map_err(unavailable("open"))
    }

    fn try_new(options: &Options, stop: CancellationToken) -> Result<Arc<Self>, Fault> {
        let (calls, place) = Calls::new(options)?;
        let changes = Teller::default();
        let ended = CancellationToken::new();
        let listener = watch::Listener {
            place: place.clone(),
            calls: calls.clone(),
            changes: changes.clone(),
            look_again: options.look_again,
        };
        let listening = ended.clone();
        task::spawn(task::Kind::Vital(stop), "store changes", async move {
            listening.run_until_cancelled(listener.run()).await;
        });
        Ok(Arc::new(Self {
            place,
            calls,
            scripts: Scripts::new(),
            events: EventScripts::new(),
            answers: AnswerScripts::new(),
            dead_letters: DeadLetterScripts::new(),
            mapping_scripts: MappingScripts::new(),
            leases: Leases::new(),
            changes,
            _listening: ended.drop_guard(),
        }))
    }

    async fn try_put_code(&self, sha256: &str, zip: Bytes) -> Result<(), Fault> {
        let (hash, bytes) = (sha256.to_owned(), zip.clone());
        let good = key::is_hash(sha256)
            && task::blocking("hash code", move || {
                hex::encode(Sha256::digest(&bytes)) == hash
            })
            .await;
        if !good {
            return Err(Fault::NoHash(sha256.into()));
        }
        let keep = async |staged: &str| {
            let call = self
                .calls
                .script(async |c| self.scripts.keep(c, sha256, staged, UPLOADS_MAX).await);
            call.await
        };
        // Most packages have been there before: then nothing is sent.
        if keep("").await? == scripts::Kept::Yes {
            return Ok(());
        }
        let name = Uuid::new_v4().simple().to_string();
        let staged = key::staged(&name);
        let pieces: Vec<Bytes> = (0..zip.len())
            .step_by(key::PIECE_BYTES)
            .map(|at| zip.slice(at..zip.len().min(at + key::PIECE_BYTES)))
            .collect();
        self.calls
            .call(async |connection| {
                let mut begin = redis::pipe();
                begin.atomic();
                begin
                    .cmd("HSET")
                    .arg(&staged)
                    .arg(key::PIECES)
                    .arg(pieces.len())
                    .ignore();
                begin
                    .cmd("EXPIRE")
                    .arg(&staged)
                    .arg(STAGED_FOR.as_secs())
                    .ignore();
                Ok(begin.exec_async(connection).await?)
            })
            .await?;
        for (number, piece) in pieces.iter().enumerate() {
            self.calls
                .call(async |connection| {
                    let mut write = cmd("HSET");
                    write.arg(&staged).arg(number).arg(&piece[..]);
                    Ok(write.exec_async(connection).await?)
                })
                .await?;
        }
        match keep(&name).await? {
            scripts::Kept::Yes => Ok(()),
            scripts::Kept::No => Err(Fault::Expired(sha256.into())),
        }
    }

    async fn try_code(&self, sha256: &str) -> Result<Option<Bytes>, Fault> {
        let Some(count) = self.pieces(sha256).await? else {
            return Ok(None);
        };
        let damaged = || Fault::Damaged(sha256.into());
        // At once, and no more than a package may have, whatever stands there: growing would take twice as much.
        let size = count.saturating_mul(key::PIECE_BYTES);
        let mut whole = Vec::with_capacity(size.min(PACKAGE_FETCHED_MAX));
        for number in 0..count {
            // Its last function went while it was read.
            let Some(piece) = self.of_code(sha256, &number.to_string()).await? else {
                return Ok(None);
            };
            whole.extend_from_slice(&piece);
        }
        let hash = sha256.to_owned();
        let checked = task::blocking("hash code", move || {
            (hex::encode(Sha256::digest(&whole)) == hash).then(|| Bytes::from(whole))
        });
        checked.await.map(Some).ok_or_else(damaged)
    }

    async fn pieces(&self, sha256: &str) -> Result<Option<usize>, Fault> {
        if !key::is_hash(sha256) {
            return Ok(None);
        }
        let Some(count) = self.of_code(sha256, key::PIECES).await? else {
            return Ok(None);
        };
        let count = std::str::from_utf8(&count).ok();
        let count = count.and_then(|n| n.parse::<usize>().ok());
        let count = count.ok_or_else(|| Fault::Damaged(sha256.into()))?;
        Ok(Some(count))
    }

    async fn of_code(&self, sha256: &str, field: &str) -> Result<Option<Bytes>, Fault> {
        let code = key::code(sha256);
        let read = self.calls.call(async |connection| {
            let mut read = cmd("HGET");
            Ok(read.arg(&code).arg(field).query_async(connection).await?)
        });
        read.await
    }
}

const LAZY: &str = "it writes its log to the disk a second late: set appendfsync always, or a power cut takes what it acknowledged last";

/// Looks at a Redis without making it a store: what of its settings means that it may lose things.
pub async fn examine(options: &Options) -> Result<Vec<&'static str>, Error> {
    let look = async {
        let calls = Calls::new(options)?.0;
        Ok(calls.risks().await?.into_iter().collect())
    };
    look.await.map_err(unavailable("examine"))
}

/// The same way: what it has.
pub async fn look(options: &Options) -> Result<Content, Error> {
    let look = async {
        let calls = Calls::new(options)?.0;
        let (functions, keys): (Values, Values) = calls
            .call(async |connection| {
                let all = [key::FUNCTIONS, key::KEYS].map(|of| Ask::new("HGETALL", of, &[]));
                Ok(reading::ask(connection, &all).await?.1)
            })
            .await?;
        let functions: Vec<Function> = decoded(functions, "function")?;
        let mut versions = Vec::new();
        for function in &functions {
            let id = &function.id;
            let found: Values = calls
                .call(async |connection| {
                    let found = cmd("HGETALL").arg(key::versions(id)).to_owned();
                    Ok(found.query_async(connection).await?)
                })
                .await?;
            versions.extend(decoded(found, &format!("function {id}, version"))?);
        }
        Ok(Content {
            functions,
            versions,
            keys: decoded(keys, "key")?,
        })
    };
    look.await.map_err(unavailable("look"))
}

/// What every server says: one of them, or all nodes of a cluster.
fn texts(info: Value) -> Vec<String> {
    match redis::from_redis_value::<String>(info.clone()) {
        Ok(text) => vec![text],
        Err(_) => redis::from_redis_value::<HashMap<String, String>>(info)
            .map(|nodes| nodes.into_values().collect())
            .unwrap_or_default(),
    }
}

/// What in Redis's own words means that it may forget functions, and what to set.
fn risks(info: &str) -> Vec<&'static str> {
    let says = |line: &str| info.lines().any(|l| l.trim_end().starts_with(line));
    let evicts = says("maxmemory_policy:allkeys");
    let forgets = says("aof_enabled:0");
    [
        evicts.then_some("it drops keys when it is full: set maxmemory-policy noeviction"),
        forgets.then_some("it keeps no log on the disk: set appendonly yes and appendfsync always"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Store for Redis {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<Function>, Error>> {
        async {
            let mut all: Vec<Function> = self
                .scanned(key::FUNCTIONS, "function")
                .await
                .map_err(unavailable("list the functions"))?;
            // They are large, and this way each is moved once.
            all.sort_by_cached_key(|f| (f.id.clone(), Reverse(f.revision)));
            all.dedup_by(|later, first| later.id == first.id);
            Ok(all)
        }
        .boxed()
    }

    fn revisions(&self) -> BoxFuture<'_, Result<HashMap<FunctionId, u64>, Error>> {
        /// Nothing else of it is read.
        #[derive(Deserialize)]
        struct Revised {
            id: FunctionId,
            revision: u64,
        }
        async {
            let all = self.scanned::<Revised>(key::FUNCTIONS, "function").await;
            let all = all.map_err(unavailable("list the functions' revisions"))?;
            // Of one that is there twice the newer is told of, too.
            Ok(all.into_iter().map(|f| (f.id, f.revision)).collect())
        }
        .boxed()
    }

    fn function<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Function>, Error>> {
        async move {
            let read = self.value(key::FUNCTIONS, id.as_str(), "function").await;
            read.map_err(unavailable("read the function"))
        }
        .boxed()
    }

    fn put(&self, function: Function, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let put = self
                .calls
                .script(async |c| self.scripts.put(c, &function, from).await);
            put.await.map_err(unavailable("write the function"))?
        }
        .boxed()
    }

    fn delete<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let delete = self
                .calls
                .script(async |c| self.scripts.delete(c, id).await);
            delete.await.map_err(unavailable("delete the function"))
        }
        .boxed()
    }

    fn put_code<'a>(&'a self, sha256: &'a str, zip: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let kept = self.try_put_code(sha256, zip).await;
            kept.map_err(unavailable("keep the code package"))
        }
        .boxed()
    }

    fn code<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        async move {
            let read = self.try_code(sha256).await;
            read.map_err(unavailable("read the code package"))
        }
        .boxed()
    }

    fn code_size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        async move {
            let pieces = self.pieces(sha256).await;
            let pieces = pieces.map_err(unavailable("read the code package"))?;
            Ok(pieces.map(|count| count.saturating_mul(key::PIECE_BYTES) as u64))
        }
        .boxed()
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, Error>> {
        async {
            let all = self.values(key::KEYS, "key").await;
            all.map_err(unavailable("list the keys"))
        }
        .boxed()
    }

    fn put_key(&self, record: KeyRecord) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let put = self
                .calls
                .script(async |c| self.scripts.put_key(c, &record).await);
            put.await.map_err(unavailable("write the key"))
        }
        .boxed()
    }

    fn delete_key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let delete = self
                .calls
                .script(async |c| self.scripts.delete_key(c, id).await);
            delete.await.map_err(unavailable("delete the key"))
        }
        .boxed()
    }

    fn changes(&self) -> Changes {
        self.changes.changes()
    }
}

#[cfg(test)]
mod tests;
