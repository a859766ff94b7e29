//! What every store must do with code signing configurations.

use std::sync::Arc;

use futures_util::future::{join, join_all};

use crate::domain::aws::Settings;
use crate::domain::function::Function;
use crate::domain::signing::{Config, Id, Policy};
use crate::store::suite::{create, function, is_stale, listed, next, upload, versions};
use crate::store::{Error, Store};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: signing: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        what_was_put_is_read_word_for_word,
        a_revision_follows_the_one_it_was_made_from,
        of_many_changes_from_one_revision_one_wins,
        a_function_has_one_that_there_is,
        one_that_a_function_has_stays,
        a_version_holds_none,
        giving_one_races_its_deletion,
    ];
}

pub fn config(policy: Policy) -> Config {
    Config {
        id: Id::generate(),
        revision: 1,
        description: None,
        publishers: vec!["arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/v".into()],
        policy,
        tags: Default::default(),
        modified_at: "2026-01-02T03:04:05.678901234Z".parse().expect("is a time"),
    }
}

fn changed(config: &Config, description: &str) -> Config {
    Config {
        revision: config.revision + 1,
        description: Some(description.into()),
        ..config.clone()
    }
}

/// A function that is held to this one, or to none.
pub fn held(function: Function, to: Option<&Config>) -> Function {
    let settings = Settings {
        signing: to.map(|config| config.id.clone()),
        ..(*function.aws).clone()
    };
    Function {
        aws: settings.into(),
        ..function
    }
}

async fn put(store: &dyn Store, config: &Config) {
    let put = store.put_signing(config.clone(), None).await;
    put.expect("is created");
}

async fn read(store: &dyn Store, config: &Config) -> Option<Config> {
    store.signing(&config.id).await.expect("can be read")
}

fn is_in_use(result: &Result<bool, Error>, config: &Config) -> bool {
    matches!(result, Err(Error::SigningInUse(id)) if *id == config.id)
}

async fn what_was_put_is_read_word_for_word(store: Arc<dyn Store>) {
    assert!(store.signings().await.expect("can be listed").is_empty());
    let bare = config(Policy::Warn);
    let full = Config {
        description: Some("who \"may\" sign\n".into()),
        publishers: (0..20).map(|n| format!("arn:aws:signer:::{n}")).collect(),
        tags: [("a".into(), "b".into())].into(),
        ..config(Policy::Enforce)
    };
    assert_eq!(read(&*store, &bare).await, None);
    put(&*store, &bare).await;
    put(&*store, &full).await;
    assert_eq!(read(&*store, &bare).await, Some(bare.clone()));
    assert_eq!(read(&*store, &full).await, Some(full.clone()));
    let mut all = store.signings().await.expect("can be listed");
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let mut wanted = [bare.clone(), full.clone()];
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(all, wanted);

    assert!(store.delete_signing(&bare.id).await.expect("is deleted"));
    assert!(!store.delete_signing(&bare.id).await.expect("is gone"));
    assert_eq!(store.signings().await.expect("can be listed"), [full]);
}

async fn a_revision_follows_the_one_it_was_made_from(store: Arc<dyn Store>) {
    let first = config(Policy::Warn);
    let second = changed(&first, "second");
    let put = async |config: &Config, from| store.put_signing(config.clone(), from).await;
    assert!(is_stale(&put(&second, Some(1)).await), "there is none");
    put(&first, None).await.expect("is created");
    assert!(is_stale(&put(&second, None).await), "it is there");
    put(&second, Some(1)).await.expect("it is the next");
    assert!(is_stale(&put(&second, Some(1)).await));
    assert!(is_stale(&put(&changed(&second, "fourth"), Some(3)).await));
    assert_eq!(read(&*store, &first).await, Some(second.clone()));
    assert!(store.delete_signing(&first.id).await.expect("is deleted"));
    assert!(is_stale(&put(&changed(&second, "late"), Some(2)).await));
    assert_eq!(read(&*store, &first).await, None);
}

async fn of_many_changes_from_one_revision_one_wins(store: Arc<dyn Store>) {
    let first = config(Policy::Warn);
    put(&*store, &first).await;
    let all: Vec<_> = (0..20).map(|n| changed(&first, &n.to_string())).collect();
    let puts = all.iter().map(|c| store.put_signing(c.clone(), Some(1)));
    let results = join_all(puts).await;
    let won: Vec<_> = all
        .iter()
        .zip(&results)
        .filter(|(_, result)| result.is_ok())
        .collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|r| is_stale(r)).count(), 19);
    assert_eq!(read(&*store, &first).await.as_ref(), Some(won[0].0));
}

async fn a_function_has_one_that_there_is(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let (one, gone) = (config(Policy::Warn), config(Policy::Warn));
    put(&*store, &one).await;
    let refused = |result: Result<(), Error>| match result {
        Err(Error::NoSigning(id)) => assert_eq!(id, gone.id),
        other => unreachable!("there is none: {other:?}"),
    };
    let f = held(function("f", &sha256), Some(&gone));
    refused(store.put(f.clone(), None).await);
    assert!(listed(&*store).await.is_empty());
    let f = held(f, Some(&one));
    create(&*store, &f).await;
    refused(store.put(held(next(&f), Some(&gone)), Some(1)).await);
    assert_eq!(listed(&*store).await, std::slice::from_ref(&f));
    let used = store.delete_signing(&one.id).await;
    assert!(is_in_use(&used, &one), "{used:?}");
}

async fn one_that_a_function_has_stays(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let (one, two) = (config(Policy::Warn), config(Policy::Enforce));
    put(&*store, &one).await;
    put(&*store, &two).await;
    let f = held(function("f", &sha256), Some(&one));
    let g = held(function("g", &sha256), Some(&one));
    create(&*store, &f).await;
    create(&*store, &g).await;
    let delete = async |config: &Config| store.delete_signing(&config.id).await;
    let used = delete(&one).await;
    assert!(is_in_use(&used, &one), "{used:?}");
    // It can be changed all the same.
    let other = changed(&one, "other");
    let put = store.put_signing(other.clone(), Some(1)).await;
    put.expect("is changed");

    // Other settings of a function change nothing of it; another configuration does, and none.
    let same = next(&f);
    store.put(same.clone(), Some(1)).await.expect("is put");
    let moved = held(next(&g), Some(&two));
    store.put(moved.clone(), Some(1)).await.expect("is put");
    let used = delete(&one).await;
    assert!(is_in_use(&used, &one), "f has it: {used:?}");
    let free = held(next(&same), None);
    store.put(free, Some(2)).await.expect("is put");
    assert!(delete(&one).await.expect("nobody has it"));
    let used = delete(&two).await;
    assert!(is_in_use(&used, &two), "g has it: {used:?}");
    assert_eq!(read(&*store, &two).await, Some(two.clone()));

    // It is free when its last function is gone.
    assert!(store.delete(&moved.id).await.expect("is deleted"));
    assert!(delete(&two).await.expect("nobody has it"));
    assert!(store.signings().await.expect("can be listed").is_empty());
}

async fn a_version_holds_none(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let one = config(Policy::Warn);
    put(&*store, &one).await;
    let f = held(function("f", &sha256), Some(&one));
    create(&*store, &f).await;
    store.edit(versions::first(&f)).await.expect("is published");
    let free = held(next(&f), None);
    store.put(free, Some(1)).await.expect("is put");
    let deleted = store.delete_signing(&one.id).await;
    assert!(deleted.expect("the function has it no more"));
}

async fn giving_one_races_its_deletion(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    for round in 0..20 {
        let one = config(Policy::Warn);
        put(&*store, &one).await;
        let f = held(function(&format!("f{round}"), &sha256), Some(&one));
        let both = join(store.put(f.clone(), None), store.delete_signing(&one.id));
        let there = match both.await {
            (Ok(()), used) => {
                assert!(is_in_use(&used, &one), "{used:?}");
                true
            }
            (Err(Error::NoSigning(_)), Ok(true)) => false,
            other => unreachable!("one of them is first: {other:?}"),
        };
        assert_eq!(read(&*store, &one).await.is_some(), there);
        assert_eq!(listed(&*store).await.contains(&f), there);
    }
}
