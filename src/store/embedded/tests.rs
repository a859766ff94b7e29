//! What only this store can do wrong: opening, crashes, disks. What every store must do is in `store::suite`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use futures_util::future::join_all;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::suite::{self, function, key, next, package};
use crate::store::versions::Versions;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir).expect("opens")
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn refused(dir: &Path) -> String {
    chain(&Embedded::open(dir).expect_err("is refused"))
}

async fn upload(store: &Embedded, content: &str) -> Result<String, Error> {
    let (sha256, bytes) = package(content);
    store.put_code(&sha256, bytes).await.map(|()| sha256)
}

fn files(dir: &Path) -> Vec<String> {
    let list = std::fs::read_dir(dir.join("packages")).expect("is there");
    let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("is readable").file_name();
    let mut names: Vec<_> = list
        .map(|e| name(e).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn passes_the_suite() {
    let root = temp();
    let make = async || {
        let store: Arc<dyn Store> = open(&root.path().join(Uuid::new_v4().to_string()));
        store
    };
    suite::run(make).await;
}

#[tokio::test]
async fn passes_the_suite_of_permits() {
    let root = temp();
    let make = async || {
        let ledger: Arc<dyn crate::store::permits::Permits> =
            open(&root.path().join(Uuid::new_v4().to_string()));
        ledger
    };
    crate::store::permits::suite::run(make).await;
}

#[tokio::test]
async fn who_only_looks_sees_everything_and_changes_nothing() {
    let dir = temp();
    let nothing = look(dir.path()).expect("is looked at");
    assert!(nothing.functions.is_empty() && nothing.keys.is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).expect("is read").count(), 0);
    let store = open(dir.path());
    let function = function("f", &upload(&store, "code").await.expect("is kept"));
    store.put(function.clone(), None).await.expect("is written");
    let edit = suite::versions::first(&function);
    store.edit(edit.clone()).await.expect("is written");
    store.put_key(key("k")).await.expect("is written");
    let taken = chain(&look(dir.path()).expect_err("somebody has it open"));
    assert!(taken.contains("open"), "{taken}");
    drop(store);
    let before = std::fs::read(dir.path().join(DATABASE)).expect("is read");
    let seen = look(dir.path()).expect("is looked at");
    assert_eq!(
        (seen.functions, seen.keys),
        (vec![function], vec![key("k")])
    );
    assert_eq!(seen.versions, [edit.publish.expect("one")]);
    let after = std::fs::read(dir.path().join(DATABASE)).expect("is read");
    assert!(before == after, "it was changed");
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = temp();
    let store = open(dir.path());
    let code = upload(&store, "code").await.expect("is kept");
    let waiting = upload(&store, "waiting").await.expect("is kept");
    let first = function("f", &code);
    store.put(first.clone(), None).await.expect("is created");
    store.put_key(key("k")).await.expect("is written");
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.functions().await.expect("lists"), [first]);
    assert_eq!(store.keys().await.expect("lists"), [key("k")]);
    // Also the package no function uses yet: it was acknowledged.
    assert!(store.code(&code).await.expect("reads").is_some());
    assert!(store.code(&waiting).await.expect("reads").is_some());
}

#[tokio::test]
async fn what_a_crash_left_is_removed_when_it_opens() {
    let dir = temp();
    let store = open(dir.path());
    let code = upload(&store, "code").await.expect("is kept");
    drop(store);
    let (orphan, bytes) = package("orphan");
    let packages = dir.path().join("packages");
    for name in [format!("{orphan}.zip"), ".staged-1".into(), "README".into()] {
        std::fs::write(packages.join(name), &bytes).expect("is written");
    }
    drop(open(dir.path()));
    assert_eq!(files(dir.path()), [format!("{code}.zip"), "README".into()]);
}

#[tokio::test]
async fn uploads_nobody_follows_up_are_bounded() {
    let dir = temp();
    let store = open(dir.path());
    let code = upload(&store, "used").await.expect("is kept");
    store
        .put(function("f", &code), None)
        .await
        .expect("is created");
    let mut uploads = Vec::new();
    for i in 0..tables::UPLOADS_MAX + 2 {
        uploads.push(
            upload(&store, &format!("unused {i}"))
                .await
                .expect("is kept"),
        );
    }
    let there = join_all(uploads.iter().map(|sha256| store.code(sha256))).await;
    let there: Vec<_> = there
        .into_iter()
        .map(|code| code.expect("reads").is_some())
        .collect();
    assert_eq!(there[..2], [false, false], "the oldest go");
    assert!(there[2..].iter().all(|there| *there), "the others stay");
    assert!(store.code(&code).await.expect("reads").is_some());
}

#[tokio::test]
async fn damaged_code_is_not_handed_out() {
    let dir = temp();
    let store = open(dir.path());
    let code = upload(&store, "code").await.expect("is kept");
    let path = dir.path().join("packages").join(format!("{code}.zip"));
    std::fs::write(path, "c0de").expect("is written");
    let text = chain(&store.code(&code).await.expect_err("is damaged"));
    assert!(text.contains("is damaged"), "{text}");
    upload(&store, "code")
        .await
        .expect("uploading again mends it");
    assert!(store.code(&code).await.expect("reads").is_some());
}

#[test]
fn only_the_owner_can_read_it() {
    let dir = temp();
    drop(open(dir.path()));
    for (name, expected) in [
        ("hearth.redb", 0o600),
        ("hearth.lock", 0o600),
        ("packages", 0o700),
    ] {
        let mode = std::fs::metadata(dir.path().join(name))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[test]
fn a_store_in_use_is_refused_and_free_when_dropped() {
    let dir = temp();
    let store = open(dir.path());
    let text = refused(dir.path());
    let expected = format!("in use by another process, pid {}", std::process::id());
    assert!(text.contains(&expected), "{text}");
    drop(store);
    drop(open(dir.path()));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = temp();
    drop(open(dir.path()));
    let database = Database::create(dir.path().join(DATABASE)).expect("opens");
    tables::set_format(&database, 2).expect("is written");
    drop(database);
    let text = refused(dir.path());
    assert!(
        text.contains("newer version (format 2, this version knows up to 1)"),
        "{text}"
    );
    // And is left as it was.
    let database = Database::create(dir.path().join(DATABASE)).expect("opens");
    assert_eq!(tables::format(&database).expect("is read"), 2);
}

/// Or else its code would be removed, because nothing says that it is needed.
#[tokio::test]
async fn a_store_that_was_lost_is_not_begun_anew_over_its_code() {
    let dir = temp();
    let store = open(dir.path());
    let code = upload(&store, "code").await.expect("is kept");
    let put = store.put(function("f", &code), None).await;
    put.expect("is created");
    drop(store);
    let (database, kept) = (dir.path().join(DATABASE), files(dir.path()));
    let whole = std::fs::read(&database).expect("is there");
    std::fs::write(&database, "").expect("is emptied");
    assert!(refused(dir.path()).contains("is missing or empty"));
    std::fs::remove_file(&database).expect("is removed");
    assert!(refused(dir.path()).contains("is missing or empty"));
    assert_eq!((files(dir.path()), database.exists()), (kept, false));
    std::fs::write(&database, whole).expect("is put back");
    let functions = open(dir.path()).functions().await.expect("are there");
    assert_eq!(functions.len(), 1);
    // What never had any code is not lost.
    std::fs::remove_file(&database).expect("is removed");
    std::fs::remove_dir_all(dir.path().join("packages")).expect("are removed");
    drop(open(dir.path()));
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = temp();
    std::fs::write(dir.path().join(DATABASE), "not a database ".repeat(1000)).expect("is written");
    let text = refused(dir.path());
    assert!(
        text.contains("hearth.redb cannot be used as a store: "),
        "{text}"
    );
    let file = std::fs::read_to_string(dir.path().join(DATABASE)).expect("is readable");
    assert!(
        file.starts_with("not a database"),
        "a file that is not ours is left alone"
    );
}

/// A store with something in it, closed, as bytes.
fn sample() -> Vec<u8> {
    let dir = temp();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(dir.path());
        let code = upload(&store, "code").await.expect("is kept");
        for i in 0..20 {
            let made = store.put(function(&format!("f{i}"), &code), None).await;
            made.expect("is created");
        }
    });
    std::fs::read(dir.path().join(DATABASE)).expect("is readable")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// A damaged file is refused, or what is in it is what was written; it is never a crash.
    #[test]
    fn a_damaged_database_is_refused_or_right(at in any::<prop::sample::Index>(), bytes in any::<[u8; 16]>(), cut in any::<bool>()) {
        static SAMPLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(sample);
        let mut damaged = SAMPLE.clone();
        let at = at.index(damaged.len() - bytes.len());
        match cut {
            true => damaged.truncate(at),
            false => damaged[at..at + bytes.len()].copy_from_slice(&bytes),
        }
        let dir = temp();
        std::fs::write(dir.path().join(DATABASE), damaged).expect("is written");
        match Embedded::open(dir.path()) {
            Err(e) => prop_assert!(chain(&e).contains("hearth.redb cannot be used as a store"), "{}", chain(&e)),
            Ok(store) => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let found = runtime.block_on(store.functions());
                // An empty file is a new store.
                prop_assert!(found.is_ok_and(|all| all.len() == 20 || all.len() == 19 || cut && at == 0));
            }
        }
    }
}

/// A writer that is not on a thread, so that a test can say what one batch is.
fn writer(dir: &Path) -> Writer {
    Writer {
        path: dir.join(DATABASE),
        database: None,
        packages: Arc::new(Packages::open(&dir.join("packages")).expect("opens")),
    }
}

fn written(request: impl Into<Change>) -> (Request, oneshot::Receiver<Result<bool, Error>>) {
    let (answer, answered) = oneshot::channel();
    (Request::Write(request.into(), answer), answered)
}

fn put(function: &Function, from: Option<u64>) -> Change {
    let function = Box::new(function.clone());
    Change::Put { function, from }
}

#[test]
fn one_batch_sees_its_own_changes_in_order() {
    let dir = temp();
    let mut writer = writer(dir.path());
    let (sha256, bytes) = package("code");
    let stage = || Change::PutCode(writer.packages.stage(&sha256, &bytes).expect("is staged"));
    let (f, g, h) = (
        function("f", &sha256),
        function("g", &sha256),
        function("h", &sha256),
    );
    let twin = function("f", &sha256);
    let (requests, answers): (Vec<_>, Vec<_>) = [
        put(&f, None),
        stage(),
        put(&f, None),
        put(&twin, None),
        put(&next(&f), Some(1)),
        // The last user goes, another comes, and it goes while the code was uploaded again.
        Change::Delete(f.id.clone()),
        put(&g, None),
        stage(),
        Change::Delete(g.id.clone()),
        put(&h, None),
        Change::Delete(g.id.clone()),
    ]
    .into_iter()
    .map(written)
    .unzip();
    writer.serve(requests);
    let mut results = answers
        .into_iter()
        .map(|answered| answered.blocking_recv().expect("is answered"));
    let mut result = || results.next().expect("one per request");
    assert!(
        matches!(result(), Err(Error::CodeMissing(_))),
        "before the upload"
    );
    assert!(matches!(result(), Ok(true)), "the upload");
    assert!(matches!(result(), Ok(true)), "after it");
    assert!(matches!(result(), Err(Error::NameTaken(by)) if by == f.id));
    for what in [
        "update",
        "deletion",
        "g",
        "second upload",
        "deletion of g",
        "h",
    ] {
        assert!(matches!(result(), Ok(true)), "{what}");
    }
    assert!(matches!(result(), Ok(false)), "deleted already");
    assert!(writer.packages.has(&sha256), "h uses it");

    let (request, answered) = written(Change::Delete(h.id));
    writer.serve(vec![request]);
    assert!(answered.blocking_recv().expect("is answered").is_ok());
    assert!(!writer.packages.has(&sha256), "nobody uses it");
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

#[test]
fn a_failed_batch_fails_for_all_and_the_next_one_goes_on() {
    let dir = temp();
    let mut writer = writer(dir.path());
    // Something in the way of the database: it cannot be opened.
    std::fs::create_dir(dir.path().join(DATABASE)).expect("is made");
    let (requests, answers): (Vec<_>, Vec<_>) = ["a", "b"]
        .map(|id| written(Change::PutKey(key(id))))
        .into_iter()
        .unzip();
    writer.serve(requests);
    for answered in answers {
        let e = answered
            .blocking_recv()
            .expect("is answered")
            .expect_err("cannot be written");
        assert!(
            chain(&e).starts_with("the store cannot write the key: cannot open "),
            "{}",
            chain(&e)
        );
    }
    std::fs::remove_dir(dir.path().join(DATABASE)).expect("is removed");
    let (request, answered) = written(Change::PutKey(key("c")));
    writer.serve(vec![request]);
    answered
        .blocking_recv()
        .expect("is answered")
        .expect("is written");
    let found = writer
        .with_database(|database, _| tables::keys(database))
        .expect("lists");
    assert_eq!(found, [key("c")]);
}

#[tokio::test]
async fn a_panicking_batch_costs_only_itself() {
    let dir = temp();
    let store = open(dir.path());
    store.put_key(key("a")).await.expect("is written");
    let failed = store.ask("panic", Request::Panic).await;
    assert!(
        matches!(failed, Err(Error::Unavailable { .. })),
        "{failed:?}"
    );
    store.put_key(key("b")).await.expect("is written");
    assert_eq!(store.keys().await.expect("lists"), [key("a"), key("b")]);
}

#[tokio::test]
async fn a_full_queue_is_an_answer_not_a_wait() {
    let dir = temp();
    let (queue, _requests) = mpsc::channel(1);
    let store = Embedded {
        queue: Some(queue),
        packages: Arc::new(Packages::open(dir.path()).expect("opens")),
        writer: None,
        lock: Embedded::hold(dir.path()).expect("is free"),
        changes: Teller::default(),
        granted: Granted::default(),
    };
    let mut waits = store.put_key(key("a"));
    assert!(futures_util::poll!(&mut waits).is_pending());
    let e = store.put_key(key("b")).await.expect_err("is refused");
    assert!(chain(&e).contains("requests are waiting"), "{}", chain(&e));
}

/// A small disk of its own, or `None` where mounting is not permitted.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let dir = temp();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "hearth-test"])
            .arg(dir.path());
        let mounted = mount.stderr(Stdio::null()).status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{:?} is still mounted",
            self.0
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_got_over() {
    let Some(disk) = Disk::mount("4m") else {
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here, so the disk cannot be filled");
        return;
    };
    let dir = disk.0.path().join("state");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1024 * 1024]).expect("there is room");
    let store = open(&dir);
    let code = upload(&store, "code").await.expect("there is room");

    let mut kept = Vec::new();
    let refused = loop {
        let big = Function {
            description: "x".repeat(60_000),
            ..function(&format!("f{}", kept.len()), &code)
        };
        match store.put(big.clone(), None).await {
            Ok(()) => kept.push(big),
            Err(e) => break (big, e),
        }
        assert!(kept.len() < 100, "the disk never fills");
    };
    let (big, error) = refused;
    assert!(matches!(error, Error::DiskFull { .. }));
    assert!(
        chain(&error).contains("No space left on device"),
        "{}",
        chain(&error)
    );
    let (sha256, _) = package(&"y".repeat(2 * 1024 * 1024));
    let error = upload(&store, &"y".repeat(2 * 1024 * 1024))
        .await
        .expect_err("no room");
    assert!(
        chain(&error).contains("No space left on device"),
        "{}",
        chain(&error)
    );
    assert_eq!(
        files(&dir),
        [format!("{code}.zip")],
        "nothing half-written stays"
    );

    let readable = store
        .functions()
        .await
        .expect("a full disk can still be read");
    assert!(readable == kept);

    std::fs::remove_file(&ballast).expect("is removed");
    store
        .put(big.clone(), None)
        .await
        .expect("there is room again");
    kept.push(big);
    assert!(store.functions().await.expect("lists") == kept);
    assert!(store.code(&sha256).await.expect("reads").is_none());
    drop(store);
    let store = open(&dir);
    assert!(store.functions().await.expect("lists") == kept);
}

/// Where the process that is going to be killed writes.
const CHILD_DIR: &str = "HEARTH_TEST_STORE_DIR";

#[test]
#[ignore = "is run by `what_was_acknowledged_survives_kill_9`, as a process of its own"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(Path::new(&dir));
        join_all((0..6).map(|_| write_until_killed(&store))).await;
    });
}

/// Says what it is going to do only where that could look like a loss; says everything that was acknowledged.
async fn write_until_killed(store: &Embedded) {
    loop {
        let id = FunctionId::generate();
        let mut current = None;
        for _ in 0..3 {
            let code = upload(store, &Uuid::new_v4().to_string())
                .await
                .expect("is kept");
            println!("code {id} {code}");
            let written = match &current {
                None => Function {
                    id: id.clone(),
                    ..function(&format!("f-{id}"), &code)
                },
                Some(current) => Function {
                    code: function("x", &code).code,
                    ..next(current)
                },
            };
            let from = current.map(|current: Function| current.revision);
            store.put(written.clone(), from).await.expect("is written");
            println!("put {id} {}", written.revision);
            current = Some(written);
        }
        store.put_key(key(id.as_str())).await.expect("is written");
        println!("key {id}");
        if id
            .as_str()
            .ends_with(['0', '1', '2', '3', '4', '5', '6', '7'])
        {
            println!("deleting {id}");
            assert!(store.delete(&id).await.expect("is deleted"));
            println!("deleted {id}");
        }
    }
}

/// What the child was told about one function.
#[derive(Debug, Default)]
struct Told {
    revision: u64,
    /// Code that was uploaded for the revision after that.
    uploaded: Option<String>,
    deleting: bool,
    deleted: bool,
    key: bool,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = temp();
    let mut told = BTreeMap::<String, Told>::new();
    for _ in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("is running"))
            .args([
                "--exact",
                "store::embedded::tests::child",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let acknowledged = hear(&mut child, rand::random_range(1..120), &mut told);
        assert!(acknowledged > 0, "the child wrote nothing");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(compare(&open(dir.path()), &told));
    }
}

/// Listens for a number of lines, kills, and hears what was said until then.
fn hear(child: &mut Child, lines: usize, told: &mut BTreeMap<String, Told>) -> usize {
    let mut heard = 0;
    let output = BufReader::new(child.stdout.take().expect("is piped"));
    for line in output.lines() {
        let line = line.expect("is text");
        let words: Vec<_> = line.split(' ').collect();
        let [what, id, rest @ ..] = &words[..] else {
            continue;
        };
        // The test harness talks too.
        if !["code", "put", "key", "deleting", "deleted"].contains(what) {
            continue;
        }
        let entry = told.entry((*id).to_owned()).or_default();
        match (*what, rest) {
            ("code", [sha256]) => entry.uploaded = Some((*sha256).to_owned()),
            ("put", [revision]) => {
                entry.revision = revision.parse().expect("is a number");
                entry.uploaded = None;
            }
            ("key", []) => entry.key = true,
            ("deleting", []) => entry.deleting = true,
            ("deleted", []) => entry.deleted = true,
            _ => unreachable!("{line:?} was not written by the child"),
        }
        heard += 1;
        if heard == lines {
            child.kill().expect("is killed");
        }
    }
    child.wait().expect("ends");
    heard
}

async fn compare(store: &Embedded, told: &BTreeMap<String, Told>) {
    let functions = store.functions().await.expect("lists");
    let keys = store.keys().await.expect("lists");
    for function in &functions {
        let code = store.code(&function.code.sha256).await.expect("reads");
        assert!(code.is_some(), "{} has lost its code", function.id);
    }
    for (id, told) in told {
        let stored = functions.iter().find(|function| function.id.as_str() == id);
        match stored {
            Some(_) => assert!(!told.deleted, "{id} is back: {told:?}"),
            None => assert!(
                told.deleting || told.revision == 0,
                "{id} is lost: {told:?}"
            ),
        }
        if let Some(stored) = stored {
            // One more may have been written without anybody having been told.
            let expected = told.revision..=told.revision + 1;
            assert!(
                expected.contains(&stored.revision),
                "{id}: {} {told:?}",
                stored.revision
            );
        }
        if let Some(sha256) = &told.uploaded {
            assert!(
                store.code(sha256).await.expect("reads").is_some(),
                "{id}: {told:?}"
            );
        }
        assert!(!told.key || keys.contains(&key(id)), "{id}: {told:?}");
    }
}
