//! A Redis that has no room left: what only reads or takes away is done as ever, and so is what keeps a promise that was given.

use super::*;
use crate::domain::id::{AliasName, RequestId};
use crate::domain::idempotency::{self, Key};
use crate::domain::signing::{Config, Policy};
use crate::domain::url;
use crate::domain::version::{Edit, Published, VersionId, Wish};
use crate::store::answers::{Answers, Begun, Bounds, Ended};
use crate::store::layers::Layers;
use crate::store::permits::suite::ask;
use crate::store::permits::{Answer, Permits};
use crate::store::signing::Signing;
use crate::store::suite::signing::{config, held};

const LONG: Duration = Duration::from_secs(300);
const ANSWERS: Bounds = Bounds {
    lease: LONG,
    keep: LONG,
    keys: 10,
    bytes: 1 << 20,
};

impl Server {
    /// Anything more is too much, and nothing is thrown away for it.
    async fn fill(&self) {
        self.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }
}

#[tokio::test]
async fn a_full_redis_is_read_and_things_are_taken_from_it() {
    let server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let (f, g) = (function("f", &sha256), function("g", &sha256));
    for function in [&f, &g] {
        store.put(function.clone(), None).await.expect("is created");
    }
    let edit = suite::versions::first(&f);
    store.edit(edit.clone()).await.expect("is published");
    for id in ["kept", "revoked"] {
        store.put_key(api_key(id)).await.expect("is written");
    }
    server.fill().await;

    let refused = cause(store.put_key(api_key("more")).await);
    assert!(refused.contains("OOM"), "{refused}");
    assert!(store.delete_key("revoked").await.expect("is revoked"));
    assert!(store.delete(&g.id).await.expect("is deleted"));
    // One that is started only now as well.
    for store in [store, server.store().await] {
        assert_eq!(store.keys().await.expect("are read"), [api_key("kept")]);
        let functions = store.functions().await.expect("are read");
        assert_eq!(functions, std::slice::from_ref(&f));
        assert_eq!(store.function(&g.id).await.expect("is read"), None);
        let published = store.published(&f.id).await.expect("is read");
        assert_eq!(published.expect("is there").head, edit.head);
        assert!(store.layers().await.expect("are read").is_empty());
    }
    let found = look(&options(&server.url(), PATIENCE, PATIENCE)).await;
    assert_eq!(found.expect("is looked at").functions, [f]);
}

/// A version, an alias and a URL are taken back, which frees memory; what takes as much as before is written, what takes more is refused.
#[tokio::test]
async fn what_is_published_is_taken_back_from_a_full_redis() {
    let server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let f = function("f", &sha256);
    store.put(f.clone(), None).await.expect("is created");
    let now: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().expect("is a time");
    let mut all = Published::none(f.id.clone());
    let write = async |all: &mut Published, edit: Edit| {
        let written = store.edit(edit.clone()).await;
        if written.is_ok() {
            *all = all.after(edit);
        }
        written
    };
    // So many that the count of changes gets a digit more while they are taken back.
    let first = suite::versions::publish(&all, &f);
    write(&mut all, first).await.expect("is published");
    let alias = |name: &str| AliasName::parse(name).expect("is a name");
    let wish = || Wish {
        version: Some(VersionId::Number(1)),
        ..Wish::default()
    };
    let make = |all: &Published, name| {
        let made = all.create_alias(alias(name), wish(), now);
        made.expect("is right").1
    };
    for name in ["a", "b", "c", "d", "e"] {
        let edit = make(&all, name);
        write(&mut all, edit).await.expect("is made");
    }
    let url = url::Wish {
        auth: Some(url::AuthType::Anybody),
        ..url::Wish::default()
    };
    let made = all.create_url("a", url::UrlId::generate(), url, now);
    let (_, edit) = made.expect("is right");
    write(&mut all, edit).await.expect("is made");
    server.fill().await;

    let more = make(&all, "more");
    let refused = cause(write(&mut all, more).await);
    assert!(refused.contains("OOM"), "{refused}");
    // One byte is more.
    let described = |all: &Published, text: &str| {
        let wish = Wish {
            description: Some(text.into()),
            ..Wish::default()
        };
        all.update_alias("a", wish, now).expect("is right").1
    };
    let more = described(&all, "x");
    let refused = cause(write(&mut all, more).await);
    assert!(refused.contains("OOM"), "{refused}");
    let as_much = described(&all, "");
    write(&mut all, as_much).await.expect("is written");
    let edit = all.delete_url("a").expect("is there");
    write(&mut all, edit).await.expect("is taken back");
    for name in ["a", "b", "c", "d", "e"] {
        let edit = all.delete_alias(name, None).expect("is there");
        write(&mut all, edit).await.expect("is taken back");
    }
    assert!(all.head.revision > 10);
    let edit = all.delete_version(1).expect("nobody uses it");
    write(&mut all, edit).await.expect("is taken back");
    let published = store.published(&f.id).await.expect("is read");
    assert_eq!(published.expect("is there"), all);
    let refused = cause(write(&mut all.clone(), suite::versions::publish(&all, &f)).await);
    assert!(refused.contains("OOM"), "{refused}");
}

#[tokio::test]
async fn a_full_redis_goes_on_with_what_it_promised() {
    let server = Server::start().await;
    let store = server.store().await;
    let granted = |answer| matches!(answer, Ok(Answer::Granted(grants)) if grants[0].held == 10);
    assert!(granted(store.exchange(&ask("p", 1, 0, 1)).await));
    let key = Key::of(&FunctionId::from_stored("f"), "key", "", b"{}");
    let by = RequestId::generate();
    let begun = store.begin(&key, by, ANSWERS).await.expect("is begun");
    assert_eq!(begun, Begun::Yours { first: by });
    // Its time is over as soon as it is kept.
    let at_once = Bounds {
        keep: Duration::ZERO,
        ..ANSWERS
    };
    let answered = Key::of(&FunctionId::from_stored("f"), "answered", "", b"{}");
    store.begin(&answered, by, at_once).await.expect("is begun");
    let answer = idempotency::Answer {
        status: 200,
        headers: Vec::new(),
        body: "an answer".into(),
    };
    let kept = store.end(&answered, by, Some(&answer), at_once).await;
    assert_eq!(kept.expect("is kept"), Ended::Kept);
    server.fill().await;

    // Or else what fills it would never go.
    assert!(store.forget().await.expect("is forgotten"));
    // Or else no call would be let in any more when the lease is over.
    assert!(granted(store.exchange(&ask("p", 2, 10, 1)).await));
    // Or else the call would be run once more beside the one that runs.
    assert!(store.hold(&key, by, ANSWERS).await.expect("is held"));
    let other = Key::of(&FunctionId::from_stored("f"), "other", "", b"{}");
    let refused = cause(store.begin(&other, by, ANSWERS).await);
    assert!(refused.contains("OOM"), "{refused}");
    assert!(store.release(&key, by).await.expect("is released"));
}

#[tokio::test]
async fn what_code_is_held_to_is_taken_back_from_a_full_redis() {
    let server = Server::start().await;
    let store = server.store().await;
    let sha256 = upload(&store, "code").await;
    let (one, two) = (config(Policy::Warn), config(Policy::Warn));
    for config in [&one, &two] {
        let put = store.put_signing(config.clone(), None).await;
        put.expect("is created");
    }
    let f = held(function("f", &sha256), Some(&one));
    store.put(f.clone(), None).await.expect("is created");
    server.fill().await;

    let refused = cause(store.put_signing(config(Policy::Warn), None).await);
    assert!(refused.contains("OOM"), "{refused}");
    let longer = Config {
        revision: 2,
        policy: Policy::Enforce,
        ..one.clone()
    };
    let refused = cause(store.put_signing(longer, Some(1)).await);
    assert!(refused.contains("OOM"), "{refused}");
    let as_long = Config {
        revision: 2,
        ..one.clone()
    };
    let written = store.put_signing(as_long.clone(), Some(1)).await;
    written.expect("is written");
    let read = store.signing(&one.id).await.expect("is read");
    assert_eq!(read, Some(as_long));
    assert!(store.delete_signing(&two.id).await.expect("is deleted"));
    let used = store.delete_signing(&one.id).await;
    assert!(matches!(used, Err(Error::SigningInUse(_))), "{used:?}");
    assert!(store.delete(&f.id).await.expect("is deleted"));
    assert!(store.delete_signing(&one.id).await.expect("is deleted"));
}
