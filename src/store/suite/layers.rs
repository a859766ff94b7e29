//! What every store must do with layers.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::aws::Statement;
use crate::domain::function::Function;
use crate::domain::layer::{Attached, Content, Edit, Id, Version};
use crate::store::suite::{
    create, function, has_code, is_stale, listed, next, package, upload, versions,
};
use crate::store::{Error, Store};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: layers: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        what_was_published_is_read_word_for_word,
        numbers_count_up_and_are_never_used_again,
        of_many_publications_of_one_number_one_wins,
        a_version_needs_its_content,
        another_policy_follows_the_one_there_was,
        content_stays_while_a_layer_has_it,
        a_function_keeps_the_layers_it_has,
        a_version_of_a_function_keeps_the_layers_it_has,
        a_function_needs_its_layers,
    ];
}

fn layer(id: &str, sha256: &str) -> Version {
    Version {
        id: id.parse().expect("an id"),
        description: String::new(),
        license: None,
        runtimes: None,
        architectures: None,
        content: Content {
            sha256: sha256.into(),
            size: 7,
            unpacked_size: u64::from(u32::MAX) + 1,
        },
        created_at: "2026-01-02T03:04:05.678901234Z".parse().expect("is a time"),
        revision: 1,
        policy: Vec::new(),
    }
}

fn with(layers: &[&Version], function: Function) -> Function {
    let attached = layers.iter().map(|layer| Attached {
        id: layer.id.clone(),
        content: layer.content.clone(),
    });
    Function {
        layers: attached.collect(),
        ..function
    }
}

async fn publish(store: &dyn Store, layer: &Version) {
    let edit = Edit::Publish(layer.clone());
    store.edit_layer(edit).await.expect("is published");
}

async fn delete(store: &dyn Store, layer: &Version) {
    let edit = Edit::Delete(layer.id.clone());
    store.edit_layer(edit).await.expect("is deleted");
}

async fn read(store: &dyn Store, id: &Id) -> Option<Version> {
    store.layer(id).await.expect("can be read")
}

async fn what_was_published_is_read_word_for_word(store: Arc<dyn Store>) {
    assert!(store.layers().await.expect("can be listed").is_empty());
    let sha256 = upload(&*store, "content").await;
    let bare = layer("bare:1", &sha256);
    let full = Version {
        description: "is \"used\"\n".into(),
        license: Some("MIT".into()),
        runtimes: Some(vec!["a".into(), "b".into()]),
        architectures: Some(Vec::new()),
        ..layer("full_-1:1", &sha256)
    };
    let second = layer("bare:2", &sha256);
    for version in [&bare, &full, &second] {
        publish(&*store, version).await;
    }
    let mut listed = store.layers().await.expect("can be listed");
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed, [bare.clone(), second, full.clone()]);
    assert_eq!(read(&*store, &full.id).await, Some(full));
    assert_eq!(read(&*store, &layer("bare:3", "").id).await, None);
    assert_eq!(read(&*store, &layer("none:1", "").id).await, None);
}

async fn numbers_count_up_and_are_never_used_again(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "content").await;
    let name = layer("l:1", "").id.name;
    let last = async || store.last_of_layer(&name).await.expect("can be read");
    assert_eq!(last().await, 0);
    for wrong in ["l:2", "l:7"] {
        let edit = Edit::Publish(layer(wrong, &sha256));
        assert!(is_stale(&store.edit_layer(edit).await), "{wrong}");
    }
    publish(&*store, &layer("l:1", &sha256)).await;
    publish(&*store, &layer("l:2", &sha256)).await;
    assert_eq!(last().await, 2);
    for gone in ["l:1", "l:2", "l:2", "l:3", "other:1"] {
        delete(&*store, &layer(gone, &sha256)).await;
    }
    assert!(store.layers().await.expect("can be listed").is_empty());
    assert_eq!(last().await, 2);
    // The content went with the last of them.
    let sha256 = upload(&*store, "content").await;
    for old in ["l:1", "l:2"] {
        let edit = Edit::Publish(layer(old, &sha256));
        assert!(is_stale(&store.edit_layer(edit).await), "{old}");
    }
    publish(&*store, &layer("l:3", &sha256)).await;
    assert_eq!(last().await, 3);
}

async fn of_many_publications_of_one_number_one_wins(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "content").await;
    let all: Vec<_> = (0..20)
        .map(|n| Version {
            description: format!("number {n}"),
            ..layer("l:1", &sha256)
        })
        .collect();
    let edits = all
        .iter()
        .map(|v| store.edit_layer(Edit::Publish(v.clone())));
    let results = join_all(edits).await;
    let won: Vec<_> = all
        .iter()
        .zip(&results)
        .filter(|(_, r)| r.is_ok())
        .collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|r| is_stale(r)).count(), 19);
    let there = read(&*store, &all[0].id).await;
    assert_eq!(there.as_ref(), Some(won[0].0));
}

async fn a_version_needs_its_content(store: Arc<dyn Store>) {
    let (sha256, _) = package("never uploaded");
    match store.edit_layer(Edit::Publish(layer("l:1", &sha256))).await {
        Err(Error::CodeMissing(missing)) => assert_eq!(missing, sha256),
        other => unreachable!("its content is not there: {other:?}"),
    }
    assert!(store.layers().await.expect("can be listed").is_empty());
}

async fn another_policy_follows_the_one_there_was(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "content").await;
    let first = layer("l:1", &sha256);
    let second = Version {
        revision: 2,
        policy: vec![Statement {
            qualifier: None,
            id: "s".into(),
            text: "{}".into(),
        }],
        ..first.clone()
    };
    let write = async |version: &Version| store.edit_layer(Edit::Policy(version.clone())).await;
    assert!(is_stale(&write(&second).await), "there is none");
    publish(&*store, &first).await;
    assert!(is_stale(&write(&first).await));
    write(&second).await.expect("it is the next");
    assert!(is_stale(&write(&second).await));
    assert_eq!(read(&*store, &first.id).await, Some(second.clone()));
    delete(&*store, &first).await;
    assert!(is_stale(
        &write(&Version {
            revision: 3,
            ..second
        })
        .await
    ));
}

async fn content_stays_while_a_layer_has_it(store: Arc<dyn Store>) {
    let sha256 = upload(&*store, "content").await;
    let (a, b) = (layer("a:1", &sha256), layer("b:1", &sha256));
    publish(&*store, &a).await;
    publish(&*store, &b).await;
    delete(&*store, &a).await;
    assert!(has_code(&*store, &sha256).await);
    // It may be a function's code as well.
    let f = function("f", &sha256);
    create(&*store, &f).await;
    delete(&*store, &b).await;
    assert!(has_code(&*store, &sha256).await);
    store.delete(&f.id).await.expect("is deleted");
    assert!(!has_code(&*store, &sha256).await);
}

async fn a_function_keeps_the_layers_it_has(store: Arc<dyn Store>) {
    let (code, one) = (upload(&*store, "code").await, upload(&*store, "1").await);
    let two = upload(&*store, "2").await;
    let (a, b) = (layer("a:1", &one), layer("b:1", &two));
    publish(&*store, &a).await;
    publish(&*store, &b).await;
    let f = with(&[&b, &a], function("f", &code));
    // One that has its layer's content as its code.
    let g = with(&[&a], function("g", &one));
    create(&*store, &f).await;
    create(&*store, &g).await;
    delete(&*store, &a).await;
    delete(&*store, &b).await;
    assert!(has_code(&*store, &one).await && has_code(&*store, &two).await);
    assert_eq!(listed(&*store).await, [f.clone(), g.clone()]);

    // Other settings change nothing of it; fewer layers do.
    let second = next(&f);
    store.put(second.clone(), Some(1)).await.expect("is put");
    assert!(has_code(&*store, &one).await && has_code(&*store, &two).await);
    let third = with(&[&a], next(&second));
    store.put(third.clone(), Some(2)).await.expect("is put");
    assert!(has_code(&*store, &one).await && !has_code(&*store, &two).await);
    let bare = with(&[], next(&g));
    store.put(bare, Some(1)).await.expect("is put");
    store.delete(&g.id).await.expect("is deleted");
    assert!(has_code(&*store, &one).await);
    store.delete(&third.id).await.expect("is deleted");
    assert!(!has_code(&*store, &one).await && !has_code(&*store, &code).await);
}

async fn a_version_of_a_function_keeps_the_layers_it_has(store: Arc<dyn Store>) {
    let (code, one) = (upload(&*store, "code").await, upload(&*store, "1").await);
    let a = layer("a:1", &one);
    publish(&*store, &a).await;
    let f = with(&[&a], function("f", &code));
    create(&*store, &f).await;
    let edit = versions::first(&f);
    store.edit(edit.clone()).await.expect("is published");
    delete(&*store, &a).await;
    let bare = with(&[], next(&f));
    store.put(bare.clone(), Some(1)).await.expect("is put");
    assert!(has_code(&*store, &one).await);
    let published = store.published(&f.id).await.expect("can be read");
    let published = published.expect("something is published");
    assert_eq!(
        published.version(1).expect("is there").function.layers,
        f.layers
    );

    let gone = published.delete_version(1).expect("nobody points at it");
    store.edit(gone).await.expect("is deleted");
    assert!(!has_code(&*store, &one).await && has_code(&*store, &code).await);

    // And all of them go with the function.
    let one = upload(&*store, "1").await;
    let again = layer("a:2", &one);
    publish(&*store, &again).await;
    let again_with = with(&[&again], next(&bare));
    store
        .put(again_with.clone(), Some(2))
        .await
        .expect("is put");
    let published = store.published(&f.id).await.expect("can be read");
    let published = published.expect("something was published");
    store
        .edit(versions::publish(&published, &again_with))
        .await
        .expect("is published");
    delete(&*store, &again).await;
    assert!(has_code(&*store, &one).await);
    store.delete(&f.id).await.expect("is deleted");
    assert!(!has_code(&*store, &one).await);
}

async fn a_function_needs_its_layers(store: Arc<dyn Store>) {
    let code = upload(&*store, "code").await;
    let (missing, _) = package("never uploaded");
    let f = with(&[&layer("a:1", &missing)], function("f", &code));
    match store.put(f, None).await {
        Err(Error::CodeMissing(sha256)) => assert_eq!(sha256, missing),
        other => unreachable!("a layer is not there: {other:?}"),
    }
    assert!(listed(&*store).await.is_empty());
}
