//! What every store must do with versions and aliases.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::function::Function;
use crate::domain::id::{AliasName, FunctionId};
use crate::domain::url;
use crate::domain::version::{Edit, Outcome, Published, Second, VersionId, Wish};
use crate::store::suite::{create, function, has_code, is_stale, next, upload};
use crate::store::{Error, Store};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: versions: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        what_was_published_is_read_word_for_word,
        an_edit_follows_the_one_it_was_made_from,
        a_version_is_of_the_function_as_it_is,
        code_stays_while_a_version_uses_it,
        everything_goes_with_the_function,
        of_many_edits_from_one_revision_one_wins,
        publishing_races_an_update_and_the_end,
    ];
}

fn now() -> jiff::Timestamp {
    "2026-01-02T03:04:05.678901234Z".parse().expect("is a time")
}

fn none(function: &Function) -> Published {
    Published::none(function.id.clone())
}

/// The edit that publishes the function as it is.
pub fn publish(all: &Published, function: &Function) -> Edit {
    match all.publish(
        function,
        Some(format!("number {}", all.head.last + 1)),
        now(),
    ) {
        Ok(Outcome::New(_, edit)) => edit,
        other => unreachable!("there is something to publish: {other:?}"),
    }
}

/// The edit with which a function's first version is published.
pub fn first(function: &Function) -> Edit {
    publish(&none(function), function)
}

async fn write(store: &dyn Store, all: &mut Published, edit: Edit) {
    store.edit(edit.clone()).await.expect("is written");
    *all = all.after(edit);
}

async fn read(store: &dyn Store, id: &FunctionId) -> Option<Published> {
    store.published(id).await.expect("can be read")
}

async fn with(store: &dyn Store, sha256: &str, of: &Function) -> Function {
    let changed = Function {
        code: function("x", sha256).code,
        ..next(of)
    };
    let put = store.put(changed.clone(), Some(of.revision)).await;
    put.expect("is current");
    changed
}

async fn what_was_published_is_read_word_for_word(store: Arc<dyn Store>) {
    let (a, b) = (upload(&*store, "a").await, upload(&*store, "b").await);
    let (first, other) = (function("f", &a), function("other", &a));
    create(&*store, &first).await;
    create(&*store, &other).await;
    assert_eq!(read(&*store, &first.id).await, None);
    assert!(store.heads().await.expect("can be listed").is_empty());

    let mut all = none(&first);
    let edit = publish(&all, &first);
    write(&*store, &mut all, edit).await;
    let second = with(&*store, &b, &first).await;
    let edit = publish(&all, &second);
    write(&*store, &mut all, edit).await;
    let wish = Wish {
        version: Some(VersionId::Number(1)),
        second: Some(Some(Second {
            version: 2,
            weight: 0.1,
        })),
        description: Some("žluťoučký \"🐎\"".into()),
        revision: None,
    };
    let name = AliasName::parse("live").expect("is a name");
    let (_, edit) = all.create_alias(name, wish, now()).expect("is right");
    write(&*store, &mut all, edit).await;
    let cors = url::Cors {
        allow_origins: Some(vec!["*".into(), "https://ž.example".into()]),
        max_age_seconds: Some(0),
        ..url::Cors::default()
    };
    let wish = url::Wish {
        auth: Some(url::AuthType::Signed),
        cors: Some(Some(cors)),
        mode: Some(url::InvokeMode::Stream),
    };
    for qualifier in ["live", "$LATEST"] {
        let made = all.create_url(qualifier, url::UrlId::generate(), wish.clone(), now());
        let (_, edit) = made.expect("is right");
        write(&*store, &mut all, edit).await;
    }
    assert_eq!(read(&*store, &first.id).await.as_ref(), Some(&all));
    assert_eq!(
        store.heads().await.expect("can be listed"),
        [all.head.clone()]
    );
    assert_eq!(read(&*store, &other.id).await, None);
    assert_eq!(all.versions[&1].function, first);
    assert_eq!(all.versions[&2].function, second);
}

async fn an_edit_follows_the_one_it_was_made_from(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let first = function("f", &sha256);
    let edit = publish(&none(&first), &first);
    let early = store.edit(edit.clone()).await;
    assert!(is_stale(&early), "a function that is not there: {early:?}");
    create(&*store, &first).await;
    let mut all = none(&first);
    write(&*store, &mut all, edit.clone()).await;
    let again = store.edit(edit).await;
    assert!(is_stale(&again), "an old revision: {again:?}");
    let delete = all.delete_version(1).expect("nobody uses it");
    let mut ahead = delete.clone();
    ahead.head.revision += 1;
    let ahead = store.edit(ahead).await;
    assert!(is_stale(&ahead), "a revision that never was: {ahead:?}");
    assert_eq!(read(&*store, &first.id).await.as_ref(), Some(&all));
    write(&*store, &mut all, delete).await;
    assert!(all.versions.is_empty());
    assert_eq!(read(&*store, &first.id).await.as_ref(), Some(&all));
    assert_eq!(publish(&all, &first).head.last, 2);
}

async fn a_version_is_of_the_function_as_it_is(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let first = function("f", &sha256);
    create(&*store, &first).await;
    let late = publish(&none(&first), &first);
    store
        .put(next(&first), Some(1))
        .await
        .expect("the revision is current");
    let refused = store.edit(late).await;
    assert!(is_stale(&refused), "{refused:?}");
    assert_eq!(read(&*store, &first.id).await, None);
}

async fn code_stays_while_a_version_uses_it(store: Arc<dyn Store>) {
    let (old, new) = (upload(&*store, "old").await, upload(&*store, "new").await);
    let first = function("f", &old);
    create(&*store, &first).await;
    let mut all = none(&first);
    let edit = publish(&all, &first);
    write(&*store, &mut all, edit).await;
    // The same code a second time, in a version of its own.
    let described = Function {
        description: "again".into(),
        ..next(&first)
    };
    let put = store.put(described.clone(), Some(1)).await;
    put.expect("is current");
    let edit = publish(&all, &described);
    write(&*store, &mut all, edit).await;
    with(&*store, &new, &described).await;
    assert!(has_code(&*store, &old).await, "two versions have it");
    for (number, left) in [(2, true), (1, false)] {
        let edit = all.delete_version(number).expect("nobody uses it");
        write(&*store, &mut all, edit).await;
        assert_eq!(has_code(&*store, &old).await, left, "version {number} went");
    }
    assert!(has_code(&*store, &new).await);
}

async fn everything_goes_with_the_function(store: Arc<dyn Store>) {
    let (old, new) = (upload(&*store, "old").await, upload(&*store, "new").await);
    let (first, other) = (function("f", &old), function("other", &new));
    create(&*store, &first).await;
    create(&*store, &other).await;
    let mut kept = none(&other);
    let edit = publish(&kept, &other);
    write(&*store, &mut kept, edit).await;
    let mut all = none(&first);
    let edit = publish(&all, &first);
    write(&*store, &mut all, edit).await;
    let second = with(&*store, &new, &first).await;
    let edit = publish(&all, &second);
    write(&*store, &mut all, edit).await;
    assert!(store.delete(&first.id).await.expect("is deleted"));
    assert_eq!(read(&*store, &first.id).await, None);
    assert_eq!(
        store.heads().await.expect("can be listed"),
        [kept.head.clone()]
    );
    assert!(!has_code(&*store, &old).await);
    assert!(has_code(&*store, &new).await, "the other has it");
    let late = all.delete_version(1).expect("nobody uses it");
    assert!(is_stale(&store.edit(late).await));
    assert_eq!(read(&*store, &other.id).await, Some(kept));
    store.delete(&other.id).await.expect("is deleted");
    assert!(!has_code(&*store, &new).await);
}

async fn of_many_edits_from_one_revision_one_wins(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "code").await;
    let first = function("f", &sha256);
    create(&*store, &first).await;
    let mut all = none(&first);
    let edit = publish(&all, &first);
    write(&*store, &mut all, edit).await;
    for round in 0..10 {
        let edits = ["one", "two", "three"].map(|name| {
            let name = AliasName::parse(&format!("{name}{round}")).expect("is a name");
            let wish = Wish {
                version: Some(VersionId::Number(1)),
                ..Wish::default()
            };
            all.create_alias(name, wish, now()).expect("is right").1
        });
        let results = join_all(edits.iter().map(|edit| store.edit(edit.clone()))).await;
        let won: Vec<_> = edits
            .into_iter()
            .zip(&results)
            .filter_map(|(edit, result)| result.is_ok().then_some(edit))
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        assert_eq!(results.iter().filter(|r| is_stale(r)).count(), 2);
        all = all.after(won.into_iter().next().expect("there is one"));
        assert_eq!(read(&*store, &first.id).await.as_ref(), Some(&all));
    }
}

async fn publishing_races_an_update_and_the_end(store: Arc<dyn Store>) {
    for _ in 0..20 {
        let (old, new) = (upload(&*store, "old").await, upload(&*store, "new").await);
        let first = function("f", &old);
        create(&*store, &first).await;
        let changed = Function {
            code: function("x", &new).code,
            ..next(&first)
        };
        let update = store.put(changed, Some(1));
        let publish = store.edit(publish(&none(&first), &first));
        let (updated, published): (Result<(), Error>, _) = futures_util::join!(update, publish);
        updated.expect("is current");
        // Either the version came first, and has its code, or it is none.
        assert!(published.is_ok() || is_stale(&published), "{published:?}");
        assert_eq!(has_code(&*store, &old).await, published.is_ok());
        let found = read(&*store, &first.id).await;
        assert_eq!(found.is_some(), published.is_ok());
        assert!(store.delete(&first.id).await.expect("is deleted"));
        assert!(!has_code(&*store, &old).await);
    }
}
