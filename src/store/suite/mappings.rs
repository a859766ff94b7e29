//! What every store must do with event source mappings.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::id::FunctionName;
use crate::domain::mapping::{Edit, Mapping, MappingId, Queue};
use crate::store::suite::{create, function, upload};
use crate::store::{Error, Store, record};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: mappings: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        what_was_put_is_read_word_for_word,
        a_change_follows_the_one_there_was,
        a_place_is_had_by_one,
        of_many_of_one_place_one_wins,
        a_deleted_one_leaves_its_place,
        a_mapping_outlives_its_function,
    ];
}

pub fn mapping(queue: &str, function: &str) -> Mapping {
    let queue = format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
    Mapping {
        id: MappingId::generate(),
        revision: 1,
        queue: Queue::try_from(queue).expect("a queue"),
        function: FunctionName::parse(function).expect("a name"),
        qualifier: None,
        enabled: true,
        batch_size: 10,
        window_seconds: 0,
        filters: Vec::new(),
        reports_failures: false,
        concurrency: None,
        kms_key: None,
        metrics: Vec::new(),
        tags: Default::default(),
        changed_at: "2026-01-02T03:04:05.678901234Z".parse().expect("is a time"),
    }
}

async fn put(store: &dyn Store, mapping: &Mapping) -> Result<(), Error> {
    let edit = Edit::Put(Box::new(mapping.clone()));
    store.edit_mapping(edit).await
}

async fn delete(store: &dyn Store, id: MappingId) {
    store
        .edit_mapping(Edit::Delete(id))
        .await
        .expect("is deleted");
}

async fn all(store: &dyn Store) -> Vec<Mapping> {
    let all = store.mappings().await.expect("can be listed");
    assert!(all.unreadable.is_empty());
    let mut all = all.mappings;
    all.sort_by_key(|mapping| mapping.id);
    all
}

async fn read(store: &dyn Store, id: MappingId) -> Option<Mapping> {
    let found = store.mapping(id).await.expect("can be looked at");
    found.transpose().expect("can be read")
}

async fn what_was_put_is_read_word_for_word(store: Arc<dyn Store>) {
    assert!(all(&*store).await.is_empty());
    let bare = mapping("bare", "f");
    let full = Mapping {
        qualifier: Some("$LATEST".into()),
        enabled: false,
        batch_size: 10_000,
        window_seconds: 300,
        filters: vec!["{\"body\": {\"a\": [\"é\\\"\"]}}".into()],
        reports_failures: true,
        concurrency: Some(1000),
        kms_key: Some("arn:aws:kms:k".into()),
        metrics: vec!["EventCount".into()],
        tags: [("a".to_owned(), "b".to_owned())].into(),
        ..mapping("full.fifo", "f")
    };
    for one in [&bare, &full] {
        put(&*store, one).await.expect("is put");
        assert_eq!(read(&*store, one.id).await.as_ref(), Some(one));
    }
    let mut both = vec![bare, full];
    both.sort_by_key(|mapping| mapping.id);
    assert_eq!(all(&*store).await, both);
    assert_eq!(read(&*store, MappingId::generate()).await, None);
}

async fn a_change_follows_the_one_there_was(store: Arc<dyn Store>) {
    let first = mapping("q", "f");
    let early = Mapping {
        revision: 2,
        ..first.clone()
    };
    assert!(matches!(put(&*store, &early).await, Err(Error::Stale)));
    put(&*store, &first).await.expect("is put");
    assert!(matches!(put(&*store, &first).await, Err(Error::Stale)));
    let second = Mapping {
        revision: 2,
        batch_size: 3,
        ..first.clone()
    };
    put(&*store, &second).await.expect("is put");
    assert!(matches!(put(&*store, &second).await, Err(Error::Stale)));
    assert_eq!(read(&*store, first.id).await, Some(second.clone()));
    delete(&*store, first.id).await;
    let third = Mapping {
        revision: 3,
        ..second
    };
    assert!(
        matches!(put(&*store, &third).await, Err(Error::Stale)),
        "it is gone, and stays so"
    );
    assert_eq!(read(&*store, first.id).await, None);
}

fn is_taken(put: Result<(), Error>, by: &Mapping) -> bool {
    matches!(put, Err(Error::PlaceTaken(id)) if id == by.id)
}

async fn a_place_is_had_by_one(store: Arc<dyn Store>) {
    let first = mapping("q", "f");
    put(&*store, &first).await.expect("is put");
    assert!(is_taken(put(&*store, &mapping("q", "f")).await, &first));
    let qualified = Mapping {
        qualifier: Some("1".into()),
        ..mapping("q", "f")
    };
    let elsewhere = [mapping("q", "g"), mapping("p", "f"), qualified];
    for other in &elsewhere {
        put(&*store, other).await.expect("is another place");
    }
    // Who moves is held to it, too, and leaves the place it had.
    let moved = Mapping {
        revision: 2,
        function: first.function.clone(),
        ..elsewhere[0].clone()
    };
    assert!(is_taken(put(&*store, &moved).await, &first));
    let away = Mapping {
        revision: 2,
        function: FunctionName::parse("h").expect("a name"),
        ..first.clone()
    };
    put(&*store, &away).await.expect("is free");
    put(&*store, &moved).await.expect("is free now");
    assert_eq!(all(&*store).await.len(), 4);
}

async fn of_many_of_one_place_one_wins(store: Arc<dyn Store>) {
    let many: Vec<_> = (0..8).map(|_| mapping("q", "f")).collect();
    let puts = join_all(many.iter().map(|one| put(&*store, one))).await;
    assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), 1);
    let there = all(&*store).await;
    assert_eq!(there.len(), 1);
    for put in puts.into_iter().filter(Result::is_err) {
        assert!(is_taken(put, &there[0]));
    }
}

async fn a_deleted_one_leaves_its_place(store: Arc<dyn Store>) {
    let first = mapping("q", "f");
    put(&*store, &first).await.expect("is put");
    delete(&*store, first.id).await;
    delete(&*store, first.id).await;
    let second = mapping("q", "f");
    put(&*store, &second).await.expect("the place is free");
    assert_eq!(all(&*store).await, [second]);
}

async fn a_mapping_outlives_its_function(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "content").await;
    let function = function("f", &sha256);
    create(&*store, &function).await;
    let mapping = mapping("q", "f");
    put(&*store, &mapping).await.expect("is put");
    assert!(store.delete(&function.id).await.expect("is deleted"));
    assert_eq!(read(&*store, mapping.id).await, Some(mapping));
}

/// `write` puts a value where the store has mappings, past all its rules.
pub async fn one_that_cannot_be_read(store: &dyn Store, write: impl AsyncFn(MappingId, String)) {
    let (good, bad) = (mapping("q", "f"), mapping("q", "g"));
    for one in [&good, &bad] {
        put(store, one).await.expect("is put");
    }
    for (value, why) in [
        ("{", "is not readable in the store"),
        (r#"{"v":1,"value":{}}"#, "is not readable in the store"),
        (r#"{"v":2,"value":{}}"#, "was written by a newer version"),
    ] {
        write(bad.id, value.to_owned()).await;
        let all = store.mappings().await.expect("can be listed");
        assert_eq!(all.mappings, std::slice::from_ref(&good), "{value}");
        let [unreadable] = &all.unreadable[..] else {
            panic!("{:?}", all.unreadable);
        };
        assert_eq!(unreadable.id, bad.id.to_string());
        let said = unreadable.why.to_string();
        assert_eq!(said, format!("mapping {} {why}", bad.id));
        let found = store.mapping(bad.id).await.expect("can be looked at");
        let why = found.expect("is there").expect_err("cannot be read");
        assert_eq!(why.to_string(), said);
        assert_eq!(read(store, good.id).await.as_ref(), Some(&good));
    }
    let whole = String::from_utf8(record::encode(&bad)).expect("is text");
    write(bad.id, whole).await;
    let mut both = vec![good.clone(), bad.clone()];
    both.sort_by_key(|mapping| mapping.id);
    assert_eq!(all(store).await, both);
    // It can be deleted as it is, and leaves its place to others.
    write(bad.id, "{".into()).await;
    delete(store, bad.id).await;
    assert_eq!(all(store).await, [good]);
    assert!(store.mapping(bad.id).await.expect("looked at").is_none());
    put(store, &mapping("q", "g")).await.expect("is free");
}
