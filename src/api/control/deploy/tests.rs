//! Writers that meet, clients that leave and stores that fail: what is stored, what is published and what was answered agree.

use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::api::control::world::{DEADLINE, Plan, World, new};
use crate::store::change::Change;

/// Long enough for a writer that does not wait for its turn to be through.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

async fn still_waits(work: &mut Pin<&mut impl Future>) {
    let done = tokio::time::timeout(LONG_ENOUGH, work).await;
    assert!(done.is_err(), "it did not wait for its turn");
}

/// The table has what the store has.
async fn agree(world: &World, name: &str) -> Function {
    let stored = world.stored(name).await.expect("stored");
    let published = world.published(name).expect("published");
    assert_eq!(*published, stored);
    stored
}

#[tokio::test]
async fn of_many_creations_of_one_name_one_wins() {
    let world = World::empty();
    let all = join_all((0..10).map(|_| world.post("/functions/", new("f")))).await;
    let mut statuses: Vec<_> = all.iter().map(|a| a.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409, 409, 409]);
    let winner = all.iter().find(|a| a.status == 201).expect("one");
    let stored = agree(&world, "f").await;
    assert_eq!(winner.json()["id"], stored.id.as_str());
    assert_eq!(world.scheduler.targets().len(), 1);
}

#[tokio::test]
async fn racing_changes_of_one_function_all_happen_one_after_the_other() {
    let world = World::empty();
    world.create("f").await;
    let changes = (0..20).map(|n| {
        let world = &world;
        async move {
            let answer = world
                .put("/functions/f", json!({"description": n.to_string()}))
                .await;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
            let revision = answer.json()["revision"].as_u64().expect("a revision");
            // What is callable now is never older than what was just answered.
            assert!(world.published("f").expect("published").revision >= revision);
            revision
        }
    });
    let mut revisions = join_all(changes).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=21).collect::<Vec<_>>());
    assert_eq!(agree(&world, "f").await.revision, 21);
}

#[tokio::test]
async fn of_changes_from_one_revision_one_wins() {
    let world = World::empty();
    world.create("f").await;
    let changes = (0..5).map(|_| world.put("/functions/f", json!({"revision": 1, "timeout": 7})));
    let all = join_all(changes).await;
    let won = all.iter().filter(|a| a.status == 200).count();
    let lost = all.iter().filter(|a| a.status == 409).count();
    assert_eq!((won, lost), (1, 4));
}

#[tokio::test]
async fn a_slow_write_holds_up_its_own_function_and_no_other() {
    let world = World::empty();
    world.create("slow").await;
    world.create("other").await;
    world.store.plan([Plan::WaitWritten]);
    let mut slow = std::pin::pin!(world.put("/functions/slow", json!({"timeout": 5})));
    tokio::select! {
        _ = &mut slow => panic!("it was to wait"),
        () = world.store.reached() => {}
    }
    let mut second = std::pin::pin!(world.put("/functions/slow", json!({"memory": 256})));
    still_waits(&mut second).await;
    let others = [
        world.put("/functions/other", json!({"timeout": 6})).await,
        world.post("/functions/", new("third")).await,
        world.delete("/functions/third").await,
    ];
    assert_eq!(others.map(|a| a.status.as_u16()), [200, 201, 204]);
    // Stored, but not answered and not callable.
    assert_eq!(world.stored("slow").await.expect("stored").revision, 2);
    assert_eq!(world.published("slow").expect("published").revision, 1);
    world.store.go_on();
    assert_eq!(slow.await.status, 200);
    assert_eq!(second.await.status, 200);
    let both = agree(&world, "slow").await;
    assert_eq!(
        (both.revision, both.timeout_seconds, both.memory.0),
        (3, 5, 256)
    );
}

#[tokio::test]
async fn a_name_is_free_only_when_nobody_is_called_by_it() {
    let world = World::empty();
    world.create("x").await;
    // Given up by renaming, and by deleting.
    for give_up in [true, false] {
        world.store.plan([Plan::WaitWritten]);
        let old = world.published("x").expect("published").id.clone();
        let giving_up = async {
            match give_up {
                true => world.put("/functions/x", json!({"name": "y"})).await,
                false => world.delete("/functions/x").await,
            }
        };
        let mut giving_up = std::pin::pin!(giving_up);
        tokio::select! {
            _ = &mut giving_up => panic!("it was to wait"),
            () = world.store.reached() => {}
        }
        let mut taking = std::pin::pin!(world.post("/functions/", new("x")));
        still_waits(&mut taking).await;
        world.store.go_on();
        let (given_up, taken) = tokio::join!(giving_up, taking);
        assert!(given_up.status.is_success());
        assert_eq!(taken.status, 201);
        let now = agree(&world, "x").await.id;
        assert_ne!(now, old);
        assert_eq!(taken.json()["id"], now.as_str());
    }
}

#[tokio::test]
async fn a_write_ends_although_its_client_leaves() {
    let world = World::empty();
    world.create("f").await;
    world.store.plan([Plan::WaitWritten]);
    {
        let mut change = std::pin::pin!(world.put("/functions/f", json!({"timeout": 5})));
        tokio::select! {
            _ = &mut change => panic!("it was to wait"),
            () = world.store.reached() => {}
        }
    }
    assert_eq!(world.published("f").expect("published").revision, 1);
    world.store.go_on();
    let published = async {
        while world.published("f").expect("published").revision < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, published)
        .await
        .expect("published although nobody waits for it");
    assert_eq!(agree(&world, "f").await.timeout_seconds, 5);
}

#[tokio::test]
async fn a_failing_store_changes_nothing_or_is_caught_up_with() {
    let world = World::empty();
    let before = world.create("f").await;
    world.store.plan([Plan::FailUnwritten, Plan::FailWritten]);
    let failed = world.put("/functions/f", json!({"timeout": 5})).await;
    assert_eq!(failed.status, 503);
    assert_eq!(failed.headers["retry-after"], "1");
    let error = &failed.json()["error"];
    assert_eq!(
        (&error["code"], &error["retry"]),
        (&json!("store_unavailable"), &json!("safe"))
    );
    assert_eq!(world.get("/functions/f").await.json(), before);
    let failed = world.put("/functions/f", json!({"timeout": 6})).await;
    assert_eq!(failed.status, 503);
    assert_eq!(
        agree(&world, "f").await.timeout_seconds,
        6,
        "it was written all the same"
    );

    world.store.plan([Plan::FailUnwritten, Plan::FailWritten]);
    assert_eq!(world.delete("/functions/f").await.status, 503);
    assert_eq!(world.get("/functions/f").await.status, 200);
    assert_eq!(world.delete("/functions/f").await.status, 503);
    assert_eq!(world.get("/functions/f").await.status, 404);

    world.store.plan([Plan::FailUnwritten, Plan::FailWritten]);
    assert_eq!(world.post("/functions/", new("g")).await.status, 503);
    assert_eq!(world.get("/functions/g").await.status, 404);
    assert_eq!(world.post("/functions/", new("g")).await.status, 503);
    agree(&world, "g").await;
}

#[tokio::test]
async fn code_that_was_dropped_meanwhile_is_uploaded_again() {
    let world = World::empty();
    world.store.plan([Plan::LoseCode]);
    assert_eq!(world.post("/functions/", new("f")).await.status, 201);
    world.store.plan([Plan::LoseCode; 3]);
    let failed = world.post("/functions/", new("g")).await;
    assert_eq!(failed.status, 503);
    assert_eq!(failed.json()["error"]["code"], "code_unavailable");
    world.store.plan([Plan::LoseCode]);
    let failed = world.put("/functions/f", json!({"timeout": 5})).await;
    assert_eq!(failed.status, 503, "there is nothing to upload");
}

#[tokio::test]
async fn a_revision_another_instance_wrote_is_built_upon() {
    let world = World::empty();
    world.create("f").await;
    let mut theirs = world.stored("f").await.expect("stored");
    theirs.revision = 2;
    theirs.description = "theirs".into();
    let inner = world.store.inner.clone();
    inner.put(theirs.clone(), Some(1)).await.expect("written");
    let stale = world
        .put("/functions/f", json!({"revision": 1, "timeout": 5}))
        .await;
    assert_eq!(stale.status, 409);
    theirs.revision = 3;
    inner.put(theirs, Some(2)).await.expect("written");
    let ours = world.put("/functions/f", json!({"timeout": 5})).await;
    assert_eq!(ours.status, 200, "{:?}", ours.body);
    let both = agree(&world, "f").await;
    assert_eq!((both.revision, both.description.as_str()), (4, "theirs"));
    // And one that is gone there is gone here.
    inner.delete(&both.id).await.expect("deleted");
    let gone = world.put("/functions/f", json!({"timeout": 6})).await;
    assert_eq!(gone.status, 404);
    assert!(world.published("f").is_none());
}

#[tokio::test]
async fn a_restart_brings_everything_back_even_without_its_runtime() {
    let first = World::empty();
    let here = first.create("here").await;
    first.create("gone").await;
    let World {
        dir, store, stop, ..
    } = first;
    let mut gone = store.inner.functions().await.expect("store").remove(1);
    gone.runtime = crate::domain::id::RuntimeId::new("uninstalled");
    gone.revision = 2;
    store.inner.put(gone, Some(1)).await.expect("written");
    drop(stop);

    let second = World::over(dir, store.inner.clone());
    assert_eq!(second.control.restore().await.expect("restored"), 2);
    assert_eq!(second.get("/functions/here").await.json(), here);
    let ran = second.post("/functions/here/execute", json!("code")).await;
    assert_eq!(ran.json(), "say what came", "{:?}", ran.body);
    let kept = second.get("/functions/gone").await.json();
    assert_eq!(kept["language"], "uninstalled");
    let call = second.post("/functions/gone/execute", json!({}));
    let call = tokio::time::timeout(DEADLINE, call)
        .await
        .expect("an answer");
    assert_eq!(call.status, 503);
    assert!(
        call.json()["error"]["message"]
            .to_string()
            .contains("uninstalled"),
        "{:?}",
        call.body
    );
    let change = second.put("/functions/gone", json!({"code": "new"})).await;
    assert_eq!(change.fields(), ["language"]);
    let moved = json!({"code": "new", "language": "runic"});
    assert_eq!(second.put("/functions/gone", moved).await.status, 200);
    let ran = second.post("/functions/gone/execute", json!("code")).await;
    assert_eq!(ran.json(), "new");
}

#[test]
fn a_condition_is_met_by_its_revision() {
    for met in ["*", "7", "\"7\"", "\"6\", \"7\"", " \"7\" "] {
        assert!(matches(met, 7), "{met}");
    }
    for not in ["", "\"\"", "8", "\"77\"", "x", "W/\"7\""] {
        assert!(!matches(not, 7), "{not}");
    }
}

#[tokio::test]
async fn what_another_instance_wrote_is_taken_over() {
    let world = World::empty();
    for name in ["kept", "changed", "gone"] {
        world.create(name).await;
    }
    let kept = world.published("kept").expect("published");
    let inner = world.store.inner.clone();
    let mut changed = world.stored("changed").await.expect("stored");
    let gone = world.stored("gone").await.expect("stored");
    changed.revision = 2;
    // Names that move from one function to another.
    let given_up = std::mem::replace(&mut changed.name, gone.name.clone());
    inner.delete(&gone.id).await.expect("deleted");
    inner.put(changed.clone(), Some(1)).await.expect("written");
    let made = Function {
        id: FunctionId::generate(),
        name: given_up,
        revision: 1,
        ..changed.clone()
    };
    inner.put(made.clone(), None).await.expect("written");

    assert_eq!(
        world
            .control
            .take_over(&News::everything())
            .await
            .expect("reloaded"),
        3
    );
    assert_eq!(agree(&world, "gone").await, changed);
    assert_eq!(agree(&world, "changed").await, made);
    let same = world.published("kept").expect("published");
    assert!(Arc::ptr_eq(&same, &kept), "was not touched");
    assert!(world.published(gone.id.as_str()).is_none());
    assert_eq!(
        world
            .control
            .take_over(&News::everything())
            .await
            .expect("reloaded"),
        0
    );
}

#[tokio::test]
async fn a_reload_waits_for_the_writers_it_meets() {
    let world = World::empty();
    world.create("old").await;
    // What is stored and not callable yet would be published twice, or after its deletion.
    for (path, create) in [("new", true), ("old", false)] {
        world.store.plan([Plan::WaitWritten]);
        let writing = async {
            match create {
                true => world.post("/functions/", new(path)).await,
                false => world.delete("/functions/old").await,
            }
        };
        let mut writing = std::pin::pin!(writing);
        tokio::select! {
            _ = &mut writing => panic!("it was to wait"),
            () = world.store.reached() => {}
        }
        let everything = News::everything();
        let mut reload = std::pin::pin!(world.control.take_over(&everything));
        still_waits(&mut reload).await;
        world.store.go_on();
        let (written, reloaded) = tokio::join!(writing, reload);
        assert!(written.status.is_success());
        assert_eq!(reloaded.expect("reloaded"), 0, "it was done already");
    }
    agree(&world, "new").await;
    assert!(world.published("old").is_none());
}

#[tokio::test]
async fn a_store_that_went_back_is_believed() {
    let world = World::empty();
    world.create("f").await;
    let first = world.stored("f").await.expect("stored");
    let changed = world.put("/functions/f", json!({"timeout": 5})).await;
    assert_eq!(changed.status, 200);
    let inner = world.store.inner.clone();
    let package = inner.code(&first.code.sha256).await.expect("read");
    inner.delete(&first.id).await.expect("deleted");
    let package = package.expect("is there");
    let kept = inner.put_code(&first.code.sha256, package).await;
    kept.expect("kept");
    inner.put(first.clone(), None).await.expect("written");
    assert_eq!(
        world
            .control
            .take_over(&News::everything())
            .await
            .expect("reloaded"),
        1
    );
    assert_eq!(agree(&world, "f").await, first);
    // And can be changed again.
    let changed = world.put("/functions/f", json!({"timeout": 6})).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    assert_eq!(agree(&world, "f").await.revision, 2);
}

#[tokio::test]
async fn one_function_is_taken_over_by_its_announcement() {
    let world = World::empty();
    let elsewhere = World::over(
        tempfile::tempdir().expect("temp dir"),
        world.store.inner.clone(),
    );
    let told = |id: &FunctionId, revision| {
        let mut news = News::default();
        news.add(Change::Function {
            id: id.clone(),
            revision,
        });
        news
    };
    let take_over = async |news: News| world.control.take_over(&news).await.expect("is read");

    elsewhere.create("f").await;
    elsewhere.create("g").await;
    let made = elsewhere.published("f").expect("published");
    assert_eq!(take_over(told(&made.id, Some(1))).await, 1);
    agree(&world, "f").await;
    assert!(world.published("g").is_none(), "nobody said anything of it");
    assert_eq!(take_over(told(&made.id, Some(1))).await, 0, "told twice");

    let changed = json!({"name": "h", "code": "say more"});
    assert_eq!(elsewhere.put("/functions/f", changed).await.status, 200);
    assert_eq!(take_over(told(&made.id, Some(2))).await, 1);
    agree(&world, "h").await;
    assert!(world.published("f").is_none());
    // An old announcement, and one of a revision that is already another's past.
    assert_eq!(take_over(told(&made.id, Some(1))).await, 0);
    assert_eq!(elsewhere.delete("/functions/h").await.status, 204);
    assert_eq!(take_over(told(&made.id, None)).await, 1);
    assert!(world.published("h").is_none());
    assert_eq!(take_over(told(&made.id, None)).await, 0);
    assert_eq!(take_over(told(&made.id, Some(9))).await, 0, "never was");
}
