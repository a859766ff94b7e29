//! What only this store can do wrong: a Redis that goes, stops, forgets or was changed by others. Each test has a Redis of its own. What
//! every store must do is in `store::suite`.

mod full;
mod places;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::clock;
use crate::store::change::Change;
use crate::store::events::Events;
use crate::store::suite::{self, function, key as api_key, next, package};
use crate::store::versions::Versions;

/// Generous, because the machine may be busy; waits end as soon as what they wait for is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// A real Redis that keeps what it acknowledged. It ends with this.
pub(super) struct Server {
    dir: tempfile::TempDir,
    options: Vec<String>,
    password: Option<String>,
    child: Child,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|&o| o.to_owned()).collect();
        Self::with_login(None, options).await
    }

    async fn with_login(password: impl Into<Option<&str>>, options: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let password = password.into().map(str::to_owned);
        let child = Self::spawn(dir.path(), &options);
        let server = Self {
            dir,
            options,
            password,
            child,
        };
        server.wait().await;
        server
    }

    fn spawn(dir: &Path, options: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.args(options).current_dir(dir).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.expect("redis-server is installed")
    }

    /// Waits until it answers, which it does when it has read what it kept.
    async fn wait(&self) {
        eventually("Redis to answer", async || {
            let mut connection = self.connection().await.ok()?;
            cmd("PING").exec_async(&mut connection).await.ok()
        })
        .await;
    }

    fn url(&self) -> String {
        let login = self.password.as_ref().map(|p| format!("?pass={p}"));
        format!(
            "redis+unix://{}{}",
            self.dir.path().join("redis.sock").display(),
            login.unwrap_or_default()
        )
    }

    pub(super) async fn connection(&self) -> Result<Connection, RedisError> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_multiplexed_async_connection().await;
        connection.map(Connection::One)
    }

    /// Asks it something behind the store's back.
    pub(super) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.connection().await.expect("it is there");
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query_async(&mut connection).await.expect("answers")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("is a pid"));
        kill(pid, signal).expect("it is there");
    }

    fn crash(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }

    async fn restart(&mut self) {
        drop(std::fs::remove_file(self.dir.path().join("redis.sock")));
        self.child = Self::spawn(self.dir.path(), &self.options);
        self.wait().await;
    }

    pub(super) async fn store(&self) -> Arc<Redis> {
        self.store_within(Duration::from_secs(20)).await
    }

    async fn store_within(&self, deadline: Duration) -> Arc<Redis> {
        let store = self.store_with(deadline, Duration::from_secs(1));
        store.calls.identity().await.expect("answers");
        store
    }

    fn store_with(&self, deadline: Duration, look_again: Duration) -> Arc<Redis> {
        let options = options(&self.url(), deadline, look_again);
        Redis::new(&options, CancellationToken::new()).expect("is a URL")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn options(url: &str, deadline: Duration, look_again: Duration) -> Options {
    Options {
        place: url::read(url).expect("is a URL"),
        authority: None,
        deadline,
        look_again,
    }
}

/// The next change that was told.
async fn told(changes: &mut Changes) -> Change {
    let next = tokio::time::timeout(PATIENCE, changes.next()).await;
    next.expect("in time").expect("the store is there")
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(clock::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn upload(store: &Redis, content: &str) -> String {
    let (sha256, bytes) = package(content);
    store.put_code(&sha256, bytes).await.expect("is kept");
    sha256
}

/// The cause of an `Unavailable`.
fn cause<T: fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unavailable { source, .. }) => format!("{source:?} {source}"),
        other => unreachable!("expected it to be unavailable, not {other:?}"),
    }
}

async fn suite_passes(server: &Server) {
    suite::run(async || {
        server.ask::<()>(&["FLUSHALL"]).await;
        let store: Arc<dyn Store> = server.store().await;
        store
    })
    .await;
}

#[tokio::test]
async fn passes_the_suite() {
    suite_passes(&Server::start().await).await;
}

/// One node of a Redis Cluster, which refuses a command or script whose keys are not in one slot.
#[tokio::test]
async fn passes_the_suite_under_the_rules_of_a_cluster() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
        .to_string();
    let bus = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
        .to_string();
    let server = Server::with(&[
        "--cluster-enabled",
        "yes",
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--cluster-port",
        &bus,
    ])
    .await;
    server
        .ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    eventually("the cluster to be up", async || {
        let info: String = server.ask(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    suite_passes(&server).await;
}

#[tokio::test]
async fn what_is_deleted_leaves_no_key_behind() {
    let server = Server::start().await;
    let store = server.store().await;
    let with_route = |sha256: &str| Function {
        route: Some("/r".into()),
        ..function("f", sha256)
    };
    let first = with_route(&upload(&store, "one").await);
    store.put(first.clone(), None).await.expect("is created");
    let second = Function {
        code: with_route(&upload(&store, "two").await).code,
        ..next(&first)
    };
    store.put(second, Some(1)).await.expect("is current");
    assert!(store.delete(&first.id).await.expect("is deleted"));
    let mut left: Vec<String> = server.ask(&["KEYS", "*"]).await;
    left.sort();
    assert_eq!(left, [key::CHANGES, key::FORMAT, key::IDENTITY]);
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_crash_and_the_store_heals() {
    let mut server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let kept = function("kept", &sha256);
    store.put(kept.clone(), None).await.expect("is created");
    store.put_key(api_key("k")).await.expect("is written");

    server.crash();
    cause(store.functions().await);
    cause(store.put(next(&kept), Some(1)).await);
    server.restart().await;
    // Nobody opened it again, and no first call is lost.
    let found = store.functions().await.expect("is there again");
    assert_eq!(found, std::slice::from_ref(&kept));
    assert_eq!(store.keys().await.expect("are there"), [api_key("k")]);
    assert!(store.code(&sha256).await.expect("is read").is_some());
    store.put(next(&kept), Some(1)).await.expect("is current");
}

#[tokio::test]
async fn a_redis_that_hangs_is_given_up_at_the_deadline() {
    let server = Server::start().await;
    let deadline = Duration::from_millis(500);
    let store = server.store_within(deadline).await;
    let sha256 = upload(&store, "code").await;
    let f = function("f", &sha256);
    server.signal(Signal::SIGSTOP);
    let (listed, put, deleted, code, kept, keys, key) = futures_util::join!(
        store.functions(),
        store.put(f.clone(), None),
        store.delete(&f.id),
        store.code(&sha256),
        store.put_code(&sha256, package("code").1),
        store.keys(),
        store.put_key(api_key("k")),
    );
    server.signal(Signal::SIGCONT);
    for cause in [
        cause(listed),
        cause(put),
        cause(deleted),
        cause(code),
        cause(kept),
        cause(keys),
        cause(key),
    ] {
        assert!(
            ["Timeout", "Deadline", "Unasked", "timed out"]
                .iter()
                .any(|word| cause.contains(word)),
            "{cause}"
        );
    }
    eventually("the store to heal", async || store.functions().await.ok()).await;
}

#[tokio::test]
async fn changes_by_others_are_told_by_their_announcement() {
    let server = Server::start().await;
    // It never looks: what it knows it was told.
    let mine = server.store_with(PATIENCE, Duration::from_secs(3600));
    // Before anything is waited for, in which it may begin to listen and say so.
    let mut changes = mine.changes();
    let theirs = server.store().await;
    // It listens from now on.
    assert_eq!(told(&mut changes).await, Change::Anything);
    let f = function("f", &upload(&theirs, "code").await);
    let written = |revision| Change::Function {
        id: f.id.clone(),
        revision,
    };
    theirs.put(f.clone(), None).await.expect("is created");
    assert_eq!(told(&mut changes).await, written(Some(1)));
    assert_eq!(mine.functions().await.expect("is listed").len(), 1);
    theirs.put(next(&f), Some(1)).await.expect("is current");
    assert_eq!(told(&mut changes).await, written(Some(2)));
    let second = theirs.function(&f.id).await.expect("is read");
    let edit = suite::versions::first(&second.expect("is there"));
    theirs.edit(edit).await.expect("is written");
    let published = Change::Versions {
        id: f.id.clone(),
        revision: 1,
    };
    assert_eq!(told(&mut changes).await, published);
    let found = mine.published(&f.id).await.expect("is read");
    assert_eq!(found.expect("is there").versions.len(), 1);
    theirs.put_key(api_key("k")).await.expect("is written");
    assert_eq!(told(&mut changes).await, Change::Keys);
    // One announcement is lost; the next one shows it.
    server.ask::<u64>(&["INCR", key::CHANGES]).await;
    theirs.delete(&f.id).await.expect("is deleted");
    assert_eq!(told(&mut changes).await, Change::Anything);
}

#[tokio::test]
async fn changes_that_were_not_announced_are_noticed() {
    let server = Server::start().await;
    let (mine, theirs) = (server.store().await, server.store().await);
    let mut changes = mine.changes();
    let f = function("f", &upload(&theirs, "code").await);
    theirs.put(f.clone(), None).await.expect("is created");
    let created = Change::Function {
        id: f.id.clone(),
        revision: Some(1),
    };
    // It may have begun to listen before this or after it.
    while !matches!(told(&mut changes).await, change if change == created || change == Change::Anything)
    {
    }
    // The connection goes, and a change with it.
    let listeners = async || {
        let list: String = server.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        (list.lines().count() == 2).then_some(())
    };
    eventually("both to listen", listeners).await;
    let killed: u64 = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 2);
    theirs.delete(&f.id).await.expect("is deleted");
    while told(&mut changes).await != Change::Anything {}
    // An announcement that is lost although the connection stays.
    server.ask::<u64>(&["INCR", key::CHANGES]).await;
    while told(&mut changes).await != Change::Anything {}
    // As after a crash of a Redis that keeps its last moments in memory only.
    server.ask::<()>(&["SET", key::CHANGES, "1"]).await;
    while told(&mut changes).await != Change::Anything {}
}

#[tokio::test]
async fn a_redis_that_comes_late_is_the_store_as_soon_as_it_is_there() {
    let mut server = Server::start().await;
    server.crash();
    let store = server.store_with(Duration::from_secs(20), Duration::from_secs(1));
    let mut changes = store.changes();
    cause(store.functions().await);
    cause(store.put_key(api_key("k")).await);
    server.restart().await;
    store.put_key(api_key("k")).await.expect("is written");
    assert_eq!(store.keys().await.expect("are listed"), [api_key("k")]);
    while told(&mut changes).await != Change::Anything {}
}

/// What was asked and not answered may be done later: that is another answer than a refusal.
#[tokio::test]
async fn an_event_of_which_nothing_was_said_is_not_said_to_be_refused() {
    let server = Server::start().await;
    let store = server.store().await;
    let hasty = server.store_within(Duration::from_millis(500)).await;
    let append = async |to: &Redis| {
        let (event, bounds) = (suite::events::event(), suite::events::BOUNDS);
        to.append(event, "{}".into(), bounds).await
    };
    // It answers whatever changes nothing.
    server
        .ask::<()>(&["CLIENT", "PAUSE", "600000", "WRITE"])
        .await;
    let unsaid = append(&hasty).await;
    assert!(matches!(unsaid, Err(Error::Unsaid { .. })), "{unsaid:?}");
    server.ask::<()>(&["CLIENT", "UNPAUSE"]).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(cause(append(&store).await).contains("OOM"));
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    append(&store).await.expect("is kept");
}

#[test]
fn a_redis_that_may_lose_things_is_known_by_what_it_says() {
    let good = "# Memory\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n";
    assert_eq!(risks(good), [""; 0]);
    assert_eq!(risks("something else"), [""; 0]);
    let evicts = good.replace("noeviction", "allkeys-lru");
    assert!(risks(&evicts)[0].contains("noeviction"));
    // Nothing of ours but packages that are still arriving has a time to live.
    assert_eq!(risks(&good.replace("noeviction", "volatile-lru")), [""; 0]);
    assert!(risks(&good.replace("aof_enabled:1", "aof_enabled:0"))[0].contains("appendonly"));
}

#[tokio::test]
async fn what_redis_says_of_itself_is_understood() {
    let server = Server::start().await;
    let info = async || server.ask::<String>(&["INFO"]).await;
    assert_eq!(risks(&info().await), [""; 0]);
    server
        .ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"])
        .await;
    server
        .ask::<()>(&["CONFIG", "SET", "appendonly", "no"])
        .await;
    assert_eq!(risks(&info().await).len(), 2);
    // What the doctor finds, and that it leaves nothing behind.
    server.ask::<()>(&["FLUSHALL"]).await;
    let options = options(&server.url(), PATIENCE, PATIENCE);
    assert_eq!(examine(&options).await.expect("answers").len(), 2);
    for (name, value) in [("maxmemory-policy", "noeviction"), ("appendonly", "yes")] {
        server.ask::<()>(&["CONFIG", "SET", name, value]).await;
    }
    assert_eq!(examine(&options).await.expect("answers"), [""; 0]);
    server
        .ask::<()>(&["CONFIG", "SET", "appendfsync", "everysec"])
        .await;
    assert_eq!(examine(&options).await.expect("answers"), [LAZY]);
    assert!(look(&options).await.expect("answers").keys.is_empty());
    let left: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert_eq!(left, [""; 0]);
    let store = server.store().await;
    store.put_key(api_key("k")).await.expect("is written");
    let (sha256, code) = package("code");
    store.put_code(&sha256, code).await.expect("is kept");
    let function = function("f", &sha256);
    store.put(function.clone(), None).await.expect("is written");
    let edit = suite::versions::first(&function);
    store.edit(edit.clone()).await.expect("is written");
    let seen = look(&options).await.expect("answers");
    assert_eq!(seen.keys, [api_key("k")]);
    assert_eq!(seen.functions, [function]);
    assert_eq!(seen.versions, [edit.publish.expect("one")]);
}

#[tokio::test]
async fn changes_are_noticed_again_after_a_crash() {
    let mut server = Server::start().await;
    let mine = server.store().await;
    let mut changes = mine.changes();
    server.crash();
    server.restart().await;
    let theirs = server.store().await;
    theirs.put_key(api_key("k")).await.expect("is written");
    while !matches!(told(&mut changes).await, Change::Anything | Change::Keys) {}
}

#[tokio::test]
async fn an_emptied_redis_is_refused() {
    let server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let f = function("f", &sha256);
    store.put(f.clone(), None).await.expect("is created");
    server.ask::<()>(&["FLUSHALL"]).await;
    for cause in [
        cause(store.functions().await),
        cause(store.keys().await),
        cause(store.put(next(&f), Some(1)).await),
        cause(store.delete(&f.id).await),
        cause(store.put_code(&sha256, package("code").1).await),
        cause(store.put_key(api_key("k")).await),
    ] {
        assert!(cause.contains("has lost its data"), "{cause}");
    }
    let left: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert_eq!(left, [""; 0]);
    assert!(
        server
            .store()
            .await
            .functions()
            .await
            .expect("is new")
            .is_empty()
    );
}

#[tokio::test]
async fn documents_are_added_to_streams_and_to_nothing_else() {
    let server = Server::start().await;
    let store = server.store().await;
    let id = crate::domain::id::RequestId::generate();
    for text in ["one", "two"] {
        let added = store.publish("told", id, Bytes::from(text)).await;
        added.expect("is added");
    }
    let entries: Vec<(String, Vec<String>)> = server.ask(&["XRANGE", "told", "-", "+"]).await;
    let fields: Vec<_> = entries.into_iter().map(|(_, fields)| fields).collect();
    let entry = |text: &str| ["request_id", &id.to_string(), "record", text].map(str::to_owned);
    assert_eq!(fields, [entry("one"), entry("two")]);
    server.ask::<()>(&["SET", "other", "x"]).await;
    let refused = cause(store.publish("other", id, Bytes::new()).await);
    assert!(refused.contains("WRONGTYPE"), "{refused}");
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_sent_again() {
    let server = Server::start().await;
    let store = server.store().await;
    store.put_key(api_key("a")).await.expect("is written");
    server.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    store.put_key(api_key("b")).await.expect("is written");
    assert_eq!(store.keys().await.expect("are listed").len(), 2);
}

#[tokio::test]
async fn more_functions_than_a_page_are_each_there_once_and_in_order() {
    let server = Server::start().await;
    let store = server.store().await;
    let functions: Vec<_> = (0..3 * reading::PAGE)
        .map(|n| function(&format!("f{n}"), "code"))
        .collect();
    let mut all = cmd("HSET");
    all.arg(key::FUNCTIONS);
    for function in &functions {
        all.arg(function.id.as_str()).arg(record::encode(function));
    }
    let mut connection = server.connection().await.expect("it is there");
    let _new: u64 = all.query_async(&mut connection).await.expect("answers");
    let mut want: Vec<_> = functions.iter().map(|function| &function.id).collect();
    want.sort();
    let found = store.functions().await.expect("are listed");
    assert!(found.iter().map(|function| &function.id).eq(want));
    // On whichever page something is that nobody can read.
    server.ask::<u64>(&["HSET", key::FUNCTIONS, "x", "{"]).await;
    let unreadable = cause(store.functions().await);
    assert!(
        unreadable.contains("function x is not readable"),
        "{unreadable}"
    );
}

#[tokio::test]
async fn damage_is_told_from_absence() {
    let server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let code = key::code(&sha256);
    server.ask::<u64>(&["HSET", &code, "0", "other"]).await;
    let damaged = cause(store.code(&sha256).await);
    assert!(damaged.contains("damaged"), "{damaged}");
    server
        .ask::<u64>(&["HSET", &code, key::PIECES, "many"])
        .await;
    let damaged = cause(store.code(&sha256).await);
    assert!(damaged.contains("damaged"), "{damaged}");
    server.ask::<u64>(&["HSET", key::FUNCTIONS, "x", "{"]).await;
    let unreadable = cause(store.functions().await);
    assert!(
        unreadable.contains("function x is not readable"),
        "{unreadable}"
    );
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused() {
    let server = Server::start().await;
    let store = server.store().await;
    server
        .ask::<u64>(&["HSET", key::KEYS, "x", r#"{"v":2,"value":{}}"#])
        .await;
    let newer = cause(store.keys().await);
    assert!(
        newer.contains("key x was written by a newer version"),
        "{newer}"
    );
    server.ask::<()>(&["SET", key::FORMAT, "2"]).await;
    let url = server.url();
    let options = options(&url, PATIENCE, PATIENCE);
    let store = Redis::new(&options, CancellationToken::new()).expect("is a URL");
    let newer = cause(store.functions().await);
    assert!(newer.contains("format 2"), "{newer}");
}

#[tokio::test]
async fn uploads_nobody_follows_up_are_bounded() {
    let server = Server::start().await;
    let store = server.store().await;
    let used = upload(&store, "used").await;
    store
        .put(function("f", &used), None)
        .await
        .expect("is created");
    let first = upload(&store, "first").await;
    for n in 1..UPLOADS_MAX {
        upload(&store, &n.to_string()).await;
    }
    assert!(store.code(&first).await.expect("is read").is_some());
    upload(&store, "one more").await;
    assert!(store.code(&first).await.expect("is read").is_none());
    assert!(store.code(&used).await.expect("is read").is_some());
}

#[tokio::test]
async fn a_package_that_never_became_whole_goes_by_itself() {
    let server = Server::start().await;
    let store = server.store().await;
    let (sha256, _) = package("code");
    let staged = key::staged("x");
    server
        .ask::<u64>(&["HSET", &staged, key::PIECES, "1"])
        .await;
    // Its time is over between the last piece and the end.
    server.ask::<u64>(&["DEL", &staged]).await;
    let kept = store
        .calls
        .script(async |c| store.scripts.keep(c, &sha256, "x", 1).await)
        .await;
    assert_eq!(kept.expect("answers"), scripts::Kept::No);
    // The time a package has is set before its first piece.
    let big = Bytes::from(vec![1; 3 * key::PIECE_BYTES + 1]);
    let sha256 = hex::encode(Sha256::digest(&big));
    store.put_code(&sha256, big.clone()).await.expect("is kept");
    let code = key::code(&sha256);
    assert_eq!(server.ask::<i64>(&["TTL", &code]).await, -1);
    assert_eq!(server.ask::<u64>(&["HLEN", &code]).await, 5);
    assert_eq!(store.code(&sha256).await.expect("is read"), Some(big));
}

#[tokio::test]
async fn where_no_redis_is_opening_fails_and_tells_no_password() {
    let options = options("redis://:secret@127.0.0.1:1/", PATIENCE, PATIENCE);
    let store = Redis::new(&options, CancellationToken::new()).expect("is a URL");
    let cause = cause(store.functions().await);
    assert!(cause.contains("Connection refused"), "{cause}");
    assert!(!cause.contains("secret"), "{cause}");
    let server = Server::start().await;
    assert_eq!(format!("{:?}", server.store().await), "Redis { .. }");
}
