//! What becomes of messages, while pollers run.

use std::time::Duration;

use super::*;
use crate::domain::mapping::MappingId;

#[tokio::test]
async fn what_is_handled_is_gone_and_what_failed_stays() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({"BatchSize": 1})).await;
    let (stop, running) = run(&face);
    for n in 0..20 {
        fake.put(&format!("m-{n}"), "good");
    }
    until("all to be handled", async || fake.left().is_empty()).await;
    fake.put("m-bad", "fail");
    fake.put("m-good", "good");
    until("the other to be handled", async || fake.left() == ["m-bad"]).await;
    let failed = || {
        let target = face.world.scheduler.find("f").expect("is there");
        let latest = target.record().latest(50);
        latest.iter().filter(|call| call.fault.is_some()).count()
    };
    until("it to fail", async || failed() == 1).await;
    // It is shown again, and tried again.
    fake.show();
    until("it to fail once more", async || failed() == 2).await;
    until("that to be told", async || {
        face.mapping(&id(&made)).await["LastProcessingResult"] == "PROBLEM: Asked: as asked"
    })
    .await;
    assert_eq!(fake.left(), ["m-bad"]);
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn a_function_says_which_failed() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    for (id, body) in [("m-1", "good"), ("m-report", "report"), ("m-2", "good")] {
        fake.put(id, body);
    }
    let made = face
        .map(
            "f",
            json!({"FunctionResponseTypes": ["ReportBatchItemFailures"]}),
        )
        .await;
    let (stop, running) = run(&face);
    until("the others to be handled", async || {
        fake.left() == ["m-report"]
    })
    .await;
    until("it to be told", async || {
        face.mapping(&id(&made)).await["LastProcessingResult"]
            == "PROBLEM: the function failed to handle 1 of 3 messages"
    })
    .await;
    // Who is not asked is not heard.
    face.change(&id(&made), json!({"FunctionResponseTypes": []}))
        .await;
    until("the poller to know", async || {
        fake.show();
        fake.left().is_empty()
    })
    .await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn what_no_filter_wants_is_gone_unseen() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    // What is not filtered out fails, and would stay.
    fake.put("m-1", "{\"kind\": \"other\"}");
    fake.put("m-2", "no JSON");
    fake.put("m-3", "{\"kind\": \"order\"}");
    let criteria = json!({"Filters": [{"Pattern": "{\"body\": {\"kind\": [\"nothing\"]}}"}]});
    face.map("f", json!({"FilterCriteria": criteria})).await;
    let (stop, running) = run(&face);
    until("all to be filtered out", async || fake.left().is_empty()).await;
    let target = face.world.scheduler.find("f").expect("is there");
    assert!(target.record().latest(10).is_empty());
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_queue_that_takes_nothing_away() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let criteria = json!({"Filters": [{"Pattern": "{\"body\": [\"good\"]}"}]});
    face.map("f", json!({"FilterCriteria": criteria})).await;
    for (body, keeps) in [("nobody's", Keeps::Silently), ("good", Keeps::Saying)] {
        *fake.keeps.lock() = Some(keeps);
        fake.asked.lock().clear();
        let (stop, running) = run(&face);
        fake.put("m-1", body);
        until("it to be tried", async || {
            fake.count("DeleteMessageBatch") == 1
        })
        .await;
        stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, running).await;
        ended.expect("soon").expect("ends").expect("well");
        // What a function has handled is tried once more; it would be four times.
        assert!(fake.count("DeleteMessageBatch") < 4, "{body}");
        assert_eq!(fake.left(), ["m-1"]);
        fake.messages.lock().clear();
    }
}

#[tokio::test]
async fn batches_are_gathered_for_a_while() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    for n in 0..25 {
        fake.put(&format!("m-{n}"), "good");
    }
    face.map(
        "f",
        json!({"BatchSize": 25, "MaximumBatchingWindowInSeconds": 300}),
    )
    .await;
    let (stop, running) = run(&face);
    until("the batch to be full", async || fake.left().is_empty()).await;
    let target = face.world.scheduler.find("f").expect("is there");
    assert_eq!(target.record().latest(10).len(), 1);
    // What waits for others when the process ends is given back.
    fake.put("m-last", "good");
    until("it to be received", async || fake.messages.lock()[0].2).await;
    stop.cancel();
    running.await.expect("ends").expect("well");
    assert_eq!(
        *fake.messages.lock(),
        [("m-last".into(), "good".into(), false)]
    );
}

#[tokio::test]
async fn what_queues_hold_is_not_all_held_here() {
    let (face, fake) = face_with(256 * 1024);
    face.create("f", json!({})).await;
    let reserve = async |places: u32| {
        let target = "/2017-10-31/functions/f/concurrency";
        let body = json!({"ReservedConcurrentExecutions": places});
        assert_eq!(face.ask("PUT", target, body).await.status, 200);
    };
    reserve(0).await;
    for function in ["f", "f:$LATEST"] {
        face.map(function, json!({"BatchSize": 2})).await;
    }
    for n in 0..40 {
        fake.put(&format!("m-{n}"), &"x".repeat(40 * 1024));
    }
    let (stop, running) = run(&face);
    let read = || fake.read.load(Ordering::Relaxed);
    until("a batch to be read", async || read() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It waits for a place; without a bound it would be four.
    assert_eq!(read(), 2);
    reserve(5).await;
    until("all to be handled", async || fake.left().is_empty()).await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn what_is_enabled_anew_has_no_more_batches_than_before() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let reserve = async |places: u32| {
        let target = "/2017-10-31/functions/f/concurrency";
        let body = json!({"ReservedConcurrentExecutions": places});
        assert_eq!(face.ask("PUT", target, body).await.status, 200);
    };
    // Each batch is tried until it reaches its function.
    reserve(0).await;
    let two = json!({"BatchSize": 1, "ScalingConfig": {"MaximumConcurrency": 2}});
    let made = face.map("f", two).await;
    for n in 0..6 {
        fake.put(&format!("m-{n}"), "good");
    }
    let (stop, running) = run(&face);
    let read = || fake.read.load(Ordering::Relaxed);
    until("both batches to be read", async || read() == 2).await;
    for enabled in [false, true] {
        face.change(&id(&made), json!({ "Enabled": enabled })).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(read(), 2, "those of before are under way");
    reserve(5).await;
    until("all to be handled", async || fake.left().is_empty()).await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn one_mapping_leaves_room_to_others_and_what_it_asked_for_is_in_nobodys_way() {
    let (face, fake) = face_with(1024 * 1024);
    face.create("slow", json!({})).await;
    face.create("f", json!({})).await;
    let target = "/2017-10-31/functions/slow/concurrency";
    let none = json!({"ReservedConcurrentExecutions": 0});
    assert_eq!(face.ask("PUT", target, none).await.status, 200);
    // One whose batches never reach their function, and which has gathered one more and asks for the rest of it.
    let gathered = json!({"BatchSize": 100, "MaximumBatchingWindowInSeconds": 300});
    face.map("slow", gathered).await;
    let (stop, running) = run(&face);
    let read = || fake.read.load(Ordering::Relaxed);
    for n in 0..40 {
        fake.put(&format!("m-{n}"), &"x".repeat(30 * 1024));
    }
    let held = async || {
        let before = read();
        tokio::time::sleep(Duration::from_millis(500)).await;
        read() > 0 && read() == before
    };
    until("it to have its part", held).await;
    let left = fake.left().len();
    face.map("f", json!({"BatchSize": 1})).await;
    until("the other to have some", async || fake.left().len() < left).await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn who_finds_no_room_for_more_has_what_there_is_handled() {
    let (face, fake) = face_with(256 * 1024);
    face.create("f", json!({})).await;
    let gathered = json!({"BatchSize": 100, "MaximumBatchingWindowInSeconds": 300});
    face.map("f", gathered).await;
    let (stop, running) = run(&face);
    fake.put("m-0", "good");
    until("it to be received", async || {
        fake.read.load(Ordering::Relaxed) == 1
    })
    .await;
    for n in 1..=4 {
        fake.put(&format!("m-{n}"), &"x".repeat(30 * 1024));
    }
    until("all to be handled", async || fake.left().is_empty()).await;
    let target = face.world.scheduler.find("f").expect("is there");
    assert_eq!(target.record().latest(10).len(), 2);
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn only_what_is_enabled_is_read_and_a_restart_goes_on() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({"Enabled": false})).await;
    let (stop, running) = run(&face);
    fake.put("m-1", "good");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((fake.left().len(), fake.count("ReceiveMessage")), (1, 0));
    face.change(&id(&made), json!({"Enabled": true})).await;
    until("it to be handled", async || fake.left().is_empty()).await;
    until("the next request to wait", async || {
        fake.count("ReceiveMessage") == 2
    })
    .await;
    face.change(&id(&made), json!({"Enabled": false})).await;
    // Its poller hears of it a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The request that waits is not broken off: what it brings is given back.
    fake.put("m-2", "good");
    until("it to be given back", async || {
        fake.count("ChangeMessageVisibilityBatch") == 1
    })
    .await;
    assert_eq!(fake.left(), ["m-2"]);
    stop.cancel();
    running.await.expect("ends").expect("well");

    face.change(&id(&made), json!({"Enabled": true})).await;
    let (stop, running) = run(&face);
    until("the next run to go on", async || fake.left().is_empty()).await;
    let gone = face
        .ask("DELETE", &format!("{MAPPINGS}/{}", id(&made)), Value::Null)
        .await;
    assert_eq!(gone.status, 202);
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_is_asked_again() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({})).await;
    *fake.away.lock() = true;
    let (stop, running) = run(&face);
    until("the fault to be told", async || {
        face.mapping(&id(&made)).await["LastProcessingResult"]
            == "PROBLEM: the queues' service is on holiday"
    })
    .await;
    let asked = fake.asked.lock().len();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let asked = fake.asked.lock().len() - asked;
    assert!((3..=12).contains(&asked), "{asked} times in two minutes");
    fake.put("m-1", "good");
    *fake.away.lock() = false;
    tokio::time::sleep(Duration::from_secs(31)).await;
    until("it to be handled", async || fake.left().is_empty()).await;
    until("that to be told", async || {
        let mapping = face.mapping(&id(&made)).await;
        mapping.get("LastProcessingResult").is_none()
    })
    .await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn one_that_cannot_be_read_is_left_out_until_it_can() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let newer = face.map("f", json!({})).await;
    let hide = |mapping: Option<&Value>| {
        let newer = mapping.map(|mapping| MappingId::parse(&id(mapping)).expect("an id"));
        *face.world.store.newer.lock() = newer;
        face.lambda.sources.changed();
    };
    hide(Some(&newer));
    let (stop, running) = run(&face);
    // The others go on, and new ones begin.
    let other = face.map("f:$LATEST", json!({})).await;
    fake.put("m-1", "good");
    until("it to be handled", async || fake.left().is_empty()).await;
    let listed = face.ask("GET", MAPPINGS, Value::Null).await.json();
    let listed = listed["EventSourceMappings"].as_array().expect("a list");
    assert_eq!((listed.len(), id(&listed[0])), (1, id(&other)));

    // Whoever made them looked, too.
    let pollers = || fake.count("GetQueueUrl") - 2;
    assert_eq!(pollers(), 1);
    hide(None);
    until("it to be taken up", async || pollers() == 2).await;
    // One that was read and cannot be any more has no poller.
    until("it to end and to begin again", async || {
        for mapping in [Some(&newer), None] {
            hide(mapping);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pollers() > 2
    })
    .await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}

#[tokio::test]
async fn one_that_cannot_be_read_says_so_and_can_be_deleted() {
    let (mut face, _fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({})).await;
    let target = format!("{MAPPINGS}/{}", id(&made));
    let arn = made["EventSourceMappingArn"].as_str().expect("an ARN");
    *face.world.store.newer.lock() = MappingId::parse(&id(&made));
    for (method, target, body) in [
        ("GET", target.clone(), Value::Null),
        ("PUT", target.clone(), json!({"BatchSize": 1})),
        ("GET", format!("/2017-03-31/tags/{arn}"), Value::Null),
    ] {
        let (status, kind, says) = face.ask(method, &target, body).await.error();
        assert_eq!((status, kind.as_str()), (500, "ServiceException"));
        let why = format!("mapping {} was written by a newer version", id(&made));
        assert!(says.contains(&why), "{says}");
    }
    // Whose it is nobody knows, so a key for some functions is not enough.
    let wish = Wish {
        name: "deployer".into(),
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("*").expect("a pattern")],
        ..Wish::admin()
    };
    let admin = face.caller.clone();
    face.caller = signer(&face.world, &face.world.keys, wish);
    for method in ["GET", "DELETE"] {
        let refused = face.ask(method, &target, Value::Null).await.error();
        assert_eq!(refused.0, 403, "{method}: {refused:?}");
    }
    face.caller = admin;
    let gone = face.ask("DELETE", &target, Value::Null).await;
    assert_eq!(gone.status, 202);
    let gone = gone.json();
    assert_eq!(
        (&gone["UUID"], &gone["State"]),
        (&made["UUID"], &json!("Deleting"))
    );
    assert_eq!(face.ask("GET", &target, Value::Null).await.status, 404);
    // And its place is free.
    face.map("f", json!({})).await;
}

#[tokio::test]
async fn without_its_function_a_mapping_does_nothing() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({})).await;
    let deleted = face
        .ask("DELETE", "/2015-03-31/functions/f", Value::Null)
        .await;
    assert_eq!(deleted.status, 204);
    let (stop, running) = run(&face);
    fake.put("m-1", "good");
    until("it to be told", async || {
        let there = face.mapping(&id(&made)).await;
        there["State"] == "Enabled"
            && there["LastProcessingResult"] == "PROBLEM: there is no function \"f\""
    })
    .await;
    assert_eq!((fake.left().len(), fake.count("ReceiveMessage")), (1, 0));
    // Whatever has the name next is called.
    face.create("f", json!({})).await;
    until("it to be handled", async || fake.left().is_empty()).await;
    stop.cancel();
    running.await.expect("ends").expect("well");
}
