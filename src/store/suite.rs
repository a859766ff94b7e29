//! What every store must do. An implementation's tests call `run` with a way to make an empty store; a new one passes unchanged.
//! Cases speak to the trait only. What a crash or a full disk does is each implementation's own to test.

mod answers;
mod dead_letters;
pub mod events;
mod layers;
pub mod mappings;
pub mod signing;
pub mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use crate::clock;
use crate::domain::destination::{Asynchronous, Destination};
use crate::domain::environment::{self, Environment};
use crate::domain::function::{Code, Function, Network, Origin};
use crate::domain::id::{FunctionId, FunctionName, RuntimeId};
use crate::domain::key::{KeyRecord, Scope};
use crate::domain::limits::{Mebibytes, PACKAGE_PACKED_MAX};
use crate::domain::pattern::Pattern;
use crate::store::{Error, Store};

/// Runs every case on a store of its own; the name of the case that runs is printed, so that a failing one is known.
pub async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        an_empty_store_is_empty,
        what_was_put_is_listed_word_for_word,
        a_revision_follows_the_one_it_was_made_from,
        a_refused_change_leaves_no_trace,
        deleting_frees_everything,
        names_are_unique_and_follow_a_rename,
        routes_are_unique_and_follow_a_change,
        of_two_changes_from_one_revision_one_wins,
        of_many_creations_of_one_name_one_wins,
        of_many_creations_of_one_route_one_wins,
        an_update_races_a_deletion,
        a_function_needs_its_code,
        code_stays_while_anybody_uses_it,
        uploaded_code_waits_for_its_function,
        uploading_races_the_deletion_of_the_last_user,
        big_code_comes_back_whole,
        what_is_no_hash_is_not_there,
        keys_are_kept_replaced_and_deleted,
        unicode_comes_back_as_it_was,
        many_functions_are_all_listed,
    ];
    versions::run(&make).await;
    layers::run(&make).await;
    signing::run(&make).await;
    mappings::run(&make).await;
    events::run(&make).await;
    answers::run(&make).await;
    dead_letters::run(&make).await;
}

/// Asks again and again until there is an answer.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = clock::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(clock::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A package and its hash. The store does not look inside.
pub fn package(content: &str) -> (String, Bytes) {
    let bytes = Bytes::copy_from_slice(content.as_bytes());
    (hex::encode(Sha256::digest(&bytes)), bytes)
}

/// A function at its first revision.
pub fn function(name: &str, sha256: &str) -> Function {
    let at: jiff::Timestamp = "2026-01-02T03:04:05.678901234Z".parse().expect("is a time");
    Function {
        id: FunctionId::generate(),
        name: FunctionName::parse(name).expect("is a name"),
        revision: 1,
        runtime: RuntimeId::new("lang1.0"),
        handler: "app.handler".into(),
        timeout_seconds: 3,
        memory: Mebibytes(128),
        code: Code {
            sha256: sha256.into(),
            size: 4,
            unpacked_size: Some(4),
            origin: Origin::Zip,
        },
        layers: Vec::new(),
        environment: Environment::default(),
        description: String::new(),
        tags: BTreeMap::new(),
        route: None,
        max_concurrency: None,
        reserved_concurrency: None,
        asynchronous: Default::default(),
        network: Network::None,
        aws: Default::default(),
        created_at: at,
        updated_at: at,
    }
}

/// One as it is written now, or as old versions wrote them.
fn variable((name, text): (String, String)) -> (String, environment::Value) {
    let value = match name.len() % 2 {
        0 => environment::Value::Plain(text),
        _ => environment::Value::Sealed { sealed: text },
    };
    (name, value)
}

/// The next revision, otherwise the same.
pub fn next(function: &Function) -> Function {
    Function {
        revision: function.revision + 1,
        ..function.clone()
    }
}

pub fn key(id: &str) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        name: format!("key {id}"),
        sha256: hex::encode(crate::domain::key::hash(id)),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        scopes: vec![Scope::Invoke, Scope::Deploy],
        functions: vec![Pattern::parse("orders-*").expect("a pattern")],
        expires_at: Some("2026-01-02T03:04:05.678901234Z".parse().expect("is a time")),
        last_four: "wxyz".into(),
        sealed: Some("x1:00:AAAA".into()),
    }
}

async fn upload(store: &dyn Store, content: &str) -> String {
    let (sha256, bytes) = package(content);
    store.put_code(&sha256, bytes).await.expect("is kept");
    sha256
}

async fn create(store: &dyn Store, function: &Function) {
    let put = store.put(function.clone(), None).await;
    put.expect("is created");
}

async fn listed(store: &dyn Store) -> Vec<Function> {
    let mut all = store.functions().await.expect("can be listed");
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

async fn has_code(store: &dyn Store, sha256: &str) -> bool {
    store.code(sha256).await.expect("can be read").is_some()
}

fn is_stale(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Stale))
}

async fn an_empty_store_is_empty(store: Arc<dyn Store>) {
    assert!(listed(&*store).await.is_empty());
    assert!(store.keys().await.expect("can be listed").is_empty());
    assert!(!has_code(&*store, &package("none").0).await);
    let deleted = store.delete(&FunctionId::generate()).await;
    assert!(!deleted.expect("nothing to delete is no error"));
}

async fn what_was_put_is_listed_word_for_word(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let pairs = |n: usize| (0..n).map(|i| (format!("KEY_{i}"), format!("value {i}")));
    let full = Function {
        description: "does \"everything\"\n".into(),
        environment: Environment(pairs(20).map(variable).collect()),
        tags: pairs(3).collect(),
        route: Some("/a/b".into()),
        max_concurrency: Some(7),
        reserved_concurrency: Some(5),
        asynchronous: Asynchronous {
            max_retries: Some(1),
            max_event_age_seconds: Some(60),
            on_success: Some(Destination::Stream("a:b".into())),
            on_failure: Some(Destination::Webhook("https://example.org/".into())),
        }
        .into(),
        network: Network::Egress,
        code: Code {
            sha256: sha256.clone(),
            size: u64::from(u32::MAX) + 1,
            unpacked_size: None,
            origin: Origin::Path(PathBuf::from("/srv/code")),
        },
        ..function("full", &sha256)
    };
    let bare = function("bare", &sha256);
    create(&*store, &full).await;
    create(&*store, &bare).await;
    assert_eq!(listed(&*store).await, [full, bare]);
}

async fn a_revision_follows_the_one_it_was_made_from(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let first = function("f", &sha256);
    create(&*store, &first).await;
    let second = next(&first);
    let put = store.put(second.clone(), Some(1)).await;
    put.expect("the revision is current");

    let again = store.put(second.clone(), Some(1)).await;
    assert!(is_stale(&again), "an old revision: {again:?}");
    let ahead = store.put(next(&next(&second)), Some(3)).await;
    assert!(is_stale(&ahead), "a revision that never was: {ahead:?}");
    let created = store.put(first.clone(), None).await;
    assert!(is_stale(&created), "an id that exists: {created:?}");
    let unknown = store.put(next(&function("g", &sha256)), Some(1)).await;
    assert!(
        is_stale(&unknown),
        "a function that is not there: {unknown:?}"
    );
    assert_eq!(listed(&*store).await, std::slice::from_ref(&second));

    assert!(store.delete(&second.id).await.expect("is deleted"));
    let late = store.put(next(&second), Some(2)).await;
    assert!(is_stale(&late), "a function that is gone: {late:?}");
}

async fn a_refused_change_leaves_no_trace(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let held = Function {
        route: Some("/held".into()),
        ..function("held", &sha256)
    };
    let mine = Function {
        route: Some("/mine".into()),
        ..function("mine", &sha256)
    };
    create(&*store, &held).await;
    create(&*store, &mine).await;
    // Each is right in everything but one thing, the last thing an implementation may look at.
    let refused = [
        Function {
            name: held.name.clone(),
            route: Some("/new".into()),
            ..next(&mine)
        },
        Function {
            name: FunctionName::parse("new").expect("is a name"),
            route: held.route.clone(),
            ..next(&mine)
        },
        Function {
            name: FunctionName::parse("new").expect("is a name"),
            route: Some("/new".into()),
            code: function("x", &package("missing").0).code,
            ..next(&mine)
        },
    ];
    for change in refused {
        store.put(change, Some(1)).await.expect_err("is refused");
    }
    assert_eq!(listed(&*store).await, [held, mine]);
    assert!(has_code(&*store, &sha256).await);
    // Neither the new name nor the new route is held by anybody.
    let free = Function {
        route: Some("/new".into()),
        ..function("new", &sha256)
    };
    create(&*store, &free).await;
}

async fn deleting_frees_everything(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let first = Function {
        route: Some("/r".into()),
        ..function("f", &sha256)
    };
    create(&*store, &first).await;
    assert!(store.delete(&first.id).await.expect("is deleted"));
    assert!(!store.delete(&first.id).await.expect("is gone already"));
    assert!(listed(&*store).await.is_empty());
    assert!(!has_code(&*store, &sha256).await);

    upload(&*store, "code").await;
    let second = Function {
        route: Some("/r".into()),
        ..function("f", &sha256)
    };
    create(&*store, &second).await;
    assert_eq!(listed(&*store).await, [second]);
}

async fn names_are_unique_and_follow_a_rename(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let (a, b) = (function("a", &sha256), function("b", &sha256));
    create(&*store, &a).await;
    create(&*store, &b).await;
    let named = |name: &str, of: &Function| Function {
        name: FunctionName::parse(name).expect("is a name"),
        ..next(of)
    };
    let taken = |result, by: &FunctionId| match result {
        Err(Error::NameTaken(id)) => assert_eq!(id, *by),
        other => unreachable!("the name is taken by {by}, not {other:?}"),
    };
    taken(store.put(function("a", &sha256), None).await, &a.id);
    taken(store.put(named("a", &b), Some(1)).await, &a.id);
    // Keeping one's own name is no clash, and a name that was given up is free.
    store.put(next(&a), Some(1)).await.expect("its own name");
    let c = named("c", &next(&a));
    store.put(c.clone(), Some(2)).await.expect("a free name");
    let moved = named("a", &b);
    store.put(moved.clone(), Some(1)).await.expect("it is free");
    taken(store.put(function("c", &sha256), None).await, &a.id);
    create(&*store, &function("b", &sha256)).await;
    assert_eq!(listed(&*store).await[..2], [c, moved]);
}

async fn routes_are_unique_and_follow_a_change(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let routed = |route: Option<&str>, of: Function| Function {
        route: route.map(Into::into),
        ..of
    };
    let a = routed(Some("/a"), function("a", &sha256));
    create(&*store, &a).await;
    // No route is not a route two functions could share.
    let b = function("b", &sha256);
    create(&*store, &b).await;
    create(&*store, &function("c", &sha256)).await;
    match store.put(routed(Some("/a"), next(&b)), Some(1)).await {
        Err(Error::RouteTaken(id)) => assert_eq!(id, a.id),
        other => unreachable!("the route is taken, not {other:?}"),
    }
    store.put(next(&a), Some(1)).await.expect("its own route");
    let gave_up = routed(None, next(&next(&a)));
    store.put(gave_up, Some(2)).await.expect("gives it up");
    let took = store.put(routed(Some("/a"), next(&b)), Some(1)).await;
    took.expect("it is free");
    // Routes that match the same paths are one, whatever their parameters are called.
    let d = routed(Some("/a/{x}/{y+}"), function("d", &sha256));
    create(&*store, &d).await;
    for (route, taken) in [
        ("/a/{p}/{q+}", true),
        ("/a/{p}/{q}", false),
        ("/a/{p}", false),
    ] {
        let other = routed(Some(route), function(&format!("e{}", route.len()), &sha256));
        match store.put(other, None).await {
            Err(Error::RouteTaken(id)) if taken => assert_eq!(id, d.id),
            Ok(()) if !taken => {}
            other => unreachable!("{route}: {other:?}"),
        }
    }
    let renamed = routed(Some("/a/{z}/{y+}"), next(&d));
    store
        .put(renamed.clone(), Some(1))
        .await
        .expect("its own shape");
    store.delete(&d.id).await.expect("is deleted");
    let f = routed(Some("/a/{p}/{q+}"), function("f", &sha256));
    store.put(f, None).await.expect("it is free");
}

async fn of_two_changes_from_one_revision_one_wins(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let mut current = function("f", &sha256);
    create(&*store, &current).await;
    for _ in 0..20 {
        let changes = ["one", "two", "three"].map(|description| Function {
            description: description.into(),
            ..next(&current)
        });
        let puts = changes
            .iter()
            .map(|change| store.put(change.clone(), Some(current.revision)));
        let results = join_all(puts).await;
        let won: Vec<_> = changes
            .into_iter()
            .zip(&results)
            .filter(|(_, r)| r.is_ok())
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        assert_eq!(
            results.iter().filter(|r| is_stale(r)).count(),
            2,
            "{results:?}"
        );
        current = won.into_iter().next().expect("there is one").0;
        assert_eq!(listed(&*store).await, [current.clone()]);
    }
}

async fn of_many_creations_of_one_name_one_wins(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let all: Vec<_> = (0..20).map(|_| function("same", &sha256)).collect();
    let results = join_all(all.iter().map(|f| store.put(f.clone(), None))).await;
    let listed = listed(&*store).await;
    assert_eq!(listed.len(), 1);
    for (function, result) in all.iter().zip(results) {
        match result {
            Ok(()) => assert_eq!(*function, listed[0]),
            Err(Error::NameTaken(by)) => assert_eq!(by, listed[0].id),
            Err(e) => unreachable!("the name is taken, not {e:?}"),
        }
    }
}

async fn of_many_creations_of_one_route_one_wins(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let all = (0..20).map(|i| Function {
        route: Some("/same".into()),
        ..function(&format!("f{i}"), &sha256)
    });
    let results = join_all(all.map(|f| store.put(f, None))).await;
    let listed = listed(&*store).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    let taken =
        |r: &Result<(), Error>| matches!(r, Err(Error::RouteTaken(by)) if *by == listed[0].id);
    assert_eq!(
        results.iter().filter(|r| taken(r)).count(),
        19,
        "{results:?}"
    );
}

async fn an_update_races_a_deletion(store: Arc<dyn Store>) {
    for _ in 0..20 {
        let sha256 = upload(&*store, "code").await;
        let first = function("f", &sha256);
        create(&*store, &first).await;
        let update = store.put(next(&first), Some(1));
        let (updated, deleted) = futures_util::join!(update, store.delete(&first.id));
        // It was there all the time, so it was deleted, whichever came first.
        assert!(deleted.expect("is deleted"));
        assert!(updated.is_ok() || is_stale(&updated), "{updated:?}");
        assert!(listed(&*store).await.is_empty());
        assert!(!has_code(&*store, &sha256).await);
    }
}

async fn a_function_needs_its_code(store: Arc<dyn Store>) {
    let (missing, _) = package("missing");
    match store.put(function("f", &missing), None).await {
        Err(Error::CodeMissing(sha256)) => assert_eq!(sha256, missing),
        other => unreachable!("the code is missing, not {other:?}"),
    }
    let sha256 = upload(&*store, "code").await;
    let first = function("f", &sha256);
    create(&*store, &first).await;
    let changed = Function {
        code: function("f", &missing).code,
        ..next(&first)
    };
    let refused = store.put(changed, Some(1)).await;
    assert!(matches!(refused, Err(Error::CodeMissing(_))), "{refused:?}");
    assert_eq!(listed(&*store).await, [first]);
}

async fn code_stays_while_anybody_uses_it(store: Arc<dyn Store>) {
    let (old, new) = (upload(&*store, "old").await, upload(&*store, "new").await);
    let with = |sha256: &str, of: Function| Function {
        code: function("x", sha256).code,
        ..of
    };
    let (a, b) = (function("a", &old), function("b", &old));
    create(&*store, &a).await;
    create(&*store, &b).await;
    // The same code in the next revision.
    store.put(next(&a), Some(1)).await.expect("is current");
    assert!(has_code(&*store, &old).await);
    // Other code in one of two functions.
    let a = with(&new, next(&next(&a)));
    store.put(a.clone(), Some(2)).await.expect("is current");
    assert!(has_code(&*store, &old).await);
    assert!(has_code(&*store, &new).await);
    // In the other too: nobody uses the old one any more.
    let b = with(&new, next(&b));
    store.put(b.clone(), Some(1)).await.expect("is current");
    assert!(!has_code(&*store, &old).await);
    store.delete(&a.id).await.expect("is deleted");
    assert!(has_code(&*store, &new).await);
    store.delete(&b.id).await.expect("is deleted");
    assert!(!has_code(&*store, &new).await);
}

async fn uploaded_code_waits_for_its_function(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    // The same again is no change.
    upload(&*store, "code").await;
    let first = function("first", &sha256);
    create(&*store, &first).await;
    // Uploaded once more for a second function, which is not there yet when the first goes.
    upload(&*store, "code").await;
    store.delete(&first.id).await.expect("is deleted");
    assert!(has_code(&*store, &sha256).await);
    let second = function("second", &sha256);
    create(&*store, &second).await;
    store.delete(&second.id).await.expect("is deleted");
    assert!(!has_code(&*store, &sha256).await);
}

async fn uploading_races_the_deletion_of_the_last_user(store: Arc<dyn Store>) {
    let (sha256, bytes) = package("code");
    for _ in 0..20 {
        upload(&*store, "code").await;
        let old = function("old", &sha256);
        create(&*store, &old).await;
        let upload = store.put_code(&sha256, bytes.clone());
        let (uploaded, deleted) = futures_util::join!(upload, store.delete(&old.id));
        uploaded.expect("is kept");
        assert!(deleted.expect("is deleted"));
        // Whichever came first, who uploaded was told it is kept.
        assert!(has_code(&*store, &sha256).await);
        let new = function("new", &sha256);
        create(&*store, &new).await;
        assert!(has_code(&*store, &sha256).await);
        store.delete(&new.id).await.expect("is deleted");
    }
}

async fn big_code_comes_back_whole(store: Arc<dyn Store>) {
    // Bytes that do not repeat with any block size.
    let bytes: Vec<u8> = (0..8_000_003u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    // And more than may be sent.
    let larger = bytes.repeat((PACKAGE_PACKED_MAX + 16 * 1024 * 1024) / bytes.len());
    for bytes in [Bytes::from(bytes), larger.into()] {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        store
            .put_code(&sha256, bytes.clone())
            .await
            .expect("is kept");
        let read = store.code(&sha256).await.expect("can be read");
        assert!(read.as_ref() == Some(&bytes), "other bytes came back");
        let size = store.code_size(&sha256).await.expect("can be read");
        let over = size.expect("is there").checked_sub(bytes.len() as u64);
        assert!(over.is_some_and(|over| over < 1024 * 1024), "{over:?}");
    }
    let none = store.code_size(&package("none").0).await;
    assert_eq!(none.expect("can be asked"), None);
    let (empty, nothing) = package("");
    store.put_code(&empty, nothing).await.expect("is kept");
    assert_eq!(
        store.code(&empty).await.expect("can be read"),
        Some(Bytes::new())
    );
}

async fn what_is_no_hash_is_not_there(store: Arc<dyn Store>) {
    let (sha256, bytes) = package("code");
    let upper = sha256.to_uppercase();
    for no_hash in ["", "x", "../../etc/passwd", &upper, &format!("{sha256}\0")] {
        assert!(!has_code(&*store, no_hash).await, "{no_hash:?}");
        let kept = store.put_code(no_hash, bytes.clone()).await;
        assert!(kept.is_err(), "{no_hash:?}");
    }
    let (other, _) = package("other");
    store
        .put_code(&other, bytes)
        .await
        .expect_err("these bytes have another hash");
    assert!(!has_code(&*store, &other).await);
}

async fn keys_are_kept_replaced_and_deleted(store: Arc<dyn Store>) {
    for id in ["b", "a"] {
        store.put_key(key(id)).await.expect("is written");
    }
    let renamed = KeyRecord {
        name: "renamed".into(),
        ..key("a")
    };
    store.put_key(renamed.clone()).await.expect("is written");
    let mut keys = store.keys().await.expect("can be listed");
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(keys, [renamed, key("b")]);
    assert!(store.delete_key("a").await.expect("is deleted"));
    assert!(!store.delete_key("a").await.expect("can be asked"), "gone");
    assert_eq!(store.keys().await.expect("can be listed"), [key("b")]);
}

async fn unicode_comes_back_as_it_was(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let text = "žluťoučký 🐎 \u{0} \u{7f} \u{feff} \u{10ffff} \"\\/ \r\n\t قفز";
    let strange = Function {
        description: text.into(),
        handler: text.into(),
        environment: Environment([variable((text.into(), text.into()))].into()),
        tags: BTreeMap::from([(String::new(), text.into())]),
        route: Some("/ěšč/{x}".into()),
        ..function("f", &sha256)
    };
    create(&*store, &strange).await;
    assert_eq!(listed(&*store).await, [strange]);
}

async fn many_functions_are_all_listed(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let mut all: Vec<_> = (0..300)
        .map(|i| Function {
            description: "x".repeat(3_000),
            ..function(&format!("f{i}"), &sha256)
        })
        .collect();
    for result in join_all(all.iter().map(|f| store.put(f.clone(), None))).await {
        result.expect("is created");
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(listed(&*store).await == all);
}
