//! Event source mappings over a service for queues that is made up: what is written is shown, what is wrong is refused, and what becomes of messages.
//! A real service and real functions are in `tests/aws`.

mod messages;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock;
use crate::sources::queues::{Action, Queues, Refusal as Unanswered};
use crate::sources::room::FIRST;
use crate::task;

const MAPPINGS: &str = "/2015-03-31/event-source-mappings";
const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:orders";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Saying,
    Silently,
}

/// A queue of any name but `none`, which has what is put into it.
#[derive(Debug, Default)]
struct Fake {
    /// Id, body, and whether somebody has it.
    messages: Mutex<Vec<(String, String, bool)>>,
    away: Mutex<bool>,
    /// Takes nothing away: says so, or nothing at all.
    keeps: Mutex<Option<Keeps>>,
    asked: Mutex<Vec<&'static str>>,
    /// Messages that were received, and are here.
    read: AtomicUsize,
}

impl Fake {
    fn put(&self, id: &str, body: &str) {
        self.messages.lock().push((id.into(), body.into(), false));
    }

    fn left(&self) -> Vec<String> {
        let messages = self.messages.lock();
        messages.iter().map(|(id, _, _)| id.clone()).collect()
    }

    /// As if the visibility timeout were over.
    fn show(&self) {
        self.messages.lock().iter_mut().for_each(|m| m.2 = false);
    }

    fn count(&self, name: &str) -> usize {
        self.asked.lock().iter().filter(|n| **n == name).count()
    }

    async fn answer(&self, action: Action) -> Result<Value, Unanswered> {
        self.asked.lock().push(action.name);
        if *self.away.lock() {
            return Err(Unanswered::away("is on holiday", "at the sea"));
        }
        let told = action.told;
        let handles = || -> Vec<String> {
            let entries = told["Entries"].as_array().cloned().unwrap_or_default();
            let handles = entries.iter().map(|entry| entry["ReceiptHandle"].as_str());
            handles.map(|h| h.expect("a handle").to_owned()).collect()
        };
        Ok(match action.name {
            "GetQueueUrl" if told["QueueName"] == "none" => return Err(Unanswered::NoQueue),
            "GetQueueUrl" => json!({"QueueUrl": "http://elsewhere/orders"}),
            "GetQueueAttributes" => json!({"Attributes": {"VisibilityTimeout": "30"}}),
            "ReceiveMessage" => {
                let most = told["MaxNumberOfMessages"].as_u64().expect("a number") as usize;
                let until = clock::now() + action.waits;
                loop {
                    let got: Vec<_> = {
                        let mut messages = self.messages.lock();
                        let free = messages.iter_mut().filter(|m| !m.2).take(most);
                        free.map(|(id, body, taken)| {
                            *taken = true;
                            json!({"MessageId": id, "ReceiptHandle": id, "Body": body, "MD5OfBody": "x", "Attributes": {}})
                        })
                        .collect()
                    };
                    if !got.is_empty() {
                        return Ok(json!({ "Messages": got }));
                    }
                    if clock::now() >= until {
                        return Ok(json!({}));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            "DeleteMessageBatch" => {
                let keeps = *self.keeps.lock();
                match keeps {
                    None => {}
                    Some(Keeps::Saying) => return Err(Unanswered::away("keeps all", "")),
                    Some(Keeps::Silently) => std::future::pending().await,
                }
                let gone = handles();
                self.messages.lock().retain(|m| !gone.contains(&m.0));
                json!({"Successful": []})
            }
            "ChangeMessageVisibilityBatch" => {
                let back = handles();
                let mut messages = self.messages.lock();
                let back = messages.iter_mut().filter(|m| back.contains(&m.0));
                back.for_each(|m| m.2 = false);
                json!({"Successful": []})
            }
            name => panic!("{name} is nothing that is asked"),
        })
    }
}

fn face() -> (Face, Arc<Fake>) {
    face_with(crate::sources::ROOM)
}

/// With so much room for messages.
fn face_with(room: usize) -> (Face, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let service = fake.clone();
    let queues = Queues::new("us-east-1", move |action| {
        let service = service.clone();
        Box::pin(async move {
            let intake = action.intake.clone();
            let answer = service.answer(action).await?;
            let (text, messages) = (answer.to_string(), answer["Messages"].as_array());
            if let Some(intake) = intake {
                if text.len() > FIRST {
                    let expected = intake.expect(text.len()).await;
                    expected.map_err(|_none| Unanswered::NoRoom)?;
                }
                intake.read(text.len());
                let messages = messages.map_or(0, Vec::len);
                service.read.fetch_add(messages, Ordering::Relaxed);
            }
            Ok(text.into())
        })
    });
    let options = events::Options {
        queues: Some(queues),
        parallel: 2,
        room,
    };
    (Face::over(config::Aws::default(), options), fake)
}

/// Runs the pollers until the token is cancelled.
fn run(face: &Face) -> (CancellationToken, JoinHandle<Option<()>>) {
    let stop = CancellationToken::new();
    let running = face.lambda.sources.clone().run(stop.clone());
    (stop, task::spawn(task::Kind::Local, "sources", running))
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let deadline = clock::now() + DEADLINE;
    while !is().await {
        assert!(clock::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Face {
    async fn map(&self, function: &str, more: Value) -> Value {
        let mut body = json!({"FunctionName": function, "EventSourceArn": QUEUE});
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        let made = self.ask("POST", MAPPINGS, body).await;
        assert_eq!(made.status, 202, "{:?}", made.body);
        made.json()
    }

    async fn mapping(&self, id: &str) -> Value {
        let target = format!("{MAPPINGS}/{id}");
        self.ask("GET", &target, Value::Null).await.json()
    }

    async fn change(&self, id: &str, change: Value) -> Value {
        let changed = self.ask("PUT", &format!("{MAPPINGS}/{id}"), change).await;
        assert_eq!(changed.status, 202, "{:?}", changed.body);
        changed.json()
    }
}

fn id(mapping: &Value) -> String {
    mapping["UUID"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn what_is_made_is_shown_changed_and_gone() {
    let (face, _fake) = face();
    face.create("f", json!({})).await;
    let made = face.map("f", json!({"Tags": {"team": "a"}})).await;
    let id = id(&made);
    assert_eq!(
        made,
        json!({
            "UUID": id, "EventSourceArn": QUEUE, "BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": [],
            "EventSourceMappingArn": format!("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{id}"),
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "LastModified": made["LastModified"], "State": "Creating", "StateTransitionReason": "USER_INITIATED",
        })
    );
    assert!(made["LastModified"].is_f64());
    let there = face.mapping(&id).await;
    assert_eq!(there["State"], "Enabled");

    let all = json!({
        "BatchSize": 100, "MaximumBatchingWindowInSeconds": 5, "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "FilterCriteria": {"Filters": [{"Pattern": "{\"body\": {\"a\": [1]}}"}]}, "ScalingConfig": {"MaximumConcurrency": 7},
        "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k", "MetricsConfig": {"Metrics": ["EventCount"]}, "Enabled": false,
    });
    let changed = face.change(&id, all.clone()).await;
    assert_eq!(changed["State"], "Disabling");
    let there = face.mapping(&id).await;
    assert_eq!(there["State"], "Disabled");
    for (field, value) in all.as_object().expect("an object") {
        if field != "Enabled" {
            assert_eq!(there[field], *value, "{field}");
        }
    }
    let less = json!({"FilterCriteria": {}, "ScalingConfig": {}, "FunctionResponseTypes": [], "KMSKeyArn": "", "MetricsConfig": {"Metrics": []}});
    let changed = face.change(&id, less).await;
    assert_eq!(changed["State"], "Updating");
    for field in [
        "FilterCriteria",
        "ScalingConfig",
        "KMSKeyArn",
        "MetricsConfig",
    ] {
        assert_eq!(changed.get(field), None, "{field}");
    }
    assert_eq!(changed["BatchSize"], 100);
    let enabled = face.change(&id, json!({"Enabled": true})).await;
    assert_eq!(enabled["State"], "Enabling");

    let gone = face
        .ask("DELETE", &format!("{MAPPINGS}/{id}"), Value::Null)
        .await;
    assert_eq!(
        (gone.status, &gone.json()["State"]),
        (202, &json!("Deleting"))
    );
    for method in ["GET", "PUT", "DELETE"] {
        let asked = face
            .ask(method, &format!("{MAPPINGS}/{id}"), json!({}))
            .await;
        let gone = "The resource you requested does not exist.".to_owned();
        assert_eq!(
            asked.error(),
            (404, "ResourceNotFoundException".into(), gone)
        );
    }
}

#[tokio::test]
async fn functions_are_named_as_they_were() {
    let (face, _fake) = face();
    face.create("f", json!({"Publish": true})).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    for (name, shown) in [
        ("f", arn.to_owned()),
        ("f:$LATEST", format!("{arn}:$LATEST")),
        (&format!("{arn}:1"), format!("{arn}:1")),
    ] {
        let made = face.map(name, json!({"Enabled": false})).await;
        assert_eq!(
            (&made["FunctionArn"], &made["State"]),
            (&json!(shown), &json!("Disabled"))
        );
        let listed = face
            .ask(
                "GET",
                &format!("{MAPPINGS}?FunctionName={name}"),
                Value::Null,
            )
            .await
            .json();
        let listed = listed["EventSourceMappings"].as_array().expect("a list");
        assert_eq!(listed.len(), 1, "{name}");
        assert_eq!(listed[0]["UUID"], made["UUID"]);
    }
    let mut seen = Vec::new();
    let mut target = format!("{MAPPINGS}?MaxItems=2&EventSourceArn={QUEUE}");
    loop {
        let page = face.ask("GET", &target, Value::Null).await.json();
        let items = page["EventSourceMappings"].as_array().expect("a list");
        seen.extend(items.iter().map(id));
        let Some(next) = page["NextMarker"].as_str() else {
            break;
        };
        target = format!("{MAPPINGS}?MaxItems=2&Marker={next}");
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (3, &sorted));
    let other = format!("{MAPPINGS}?EventSourceArn={QUEUE}-2");
    let none = face.ask("GET", &other, Value::Null).await.json();
    assert_eq!(none, json!({"EventSourceMappings": []}));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let (face, fake) = face();
    face.create("f", json!({})).await;
    face.create("slow", json!({"Timeout": 31})).await;
    let made = face.map("f", json!({"Enabled": false})).await;
    let fifo = format!("{QUEUE}.fifo");
    let arn = |service: &str| format!("arn:aws:{service}:us-east-1:000000000000:x");
    let taken = format!(
        "An event source mapping with SQS arn (\" {QUEUE} \") and function (\" f \") already exists. Please update or delete the existing mapping with UUID {}",
        id(&made)
    );
    let invalid = "InvalidParameterValueException";
    let asked = fake.asked.lock().len();
    for (more, kind, message) in [
        (json!({}), "ResourceConflictException", taken.as_str()),
        (
            json!({"EventSourceArn": null}),
            invalid,
            "Unrecognized event source.",
        ),
        (
            json!({"EventSourceArn": arn("sns")}),
            invalid,
            "Unrecognized event source.",
        ),
        (
            json!({"EventSourceArn": arn("kinesis")}),
            invalid,
            "Amazon Kinesis as an event source is not supported by Hearth",
        ),
        (
            json!({"EventSourceArn": arn("dynamodb")}),
            invalid,
            "A stream of Amazon DynamoDB as",
        ),
        (
            json!({"EventSourceArn": arn("kafka")}),
            invalid,
            "Amazon MSK as",
        ),
        (
            json!({"EventSourceArn": arn("mq")}),
            invalid,
            "Amazon MQ as",
        ),
        (
            json!({"EventSourceArn": arn("rds")}),
            invalid,
            "Amazon DocumentDB as",
        ),
        (
            json!({"EventSourceArn": null, "SelfManagedEventSource": {"Endpoints": {}}}),
            invalid,
            "A self-managed Apache Kafka as",
        ),
        (
            json!({"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:a/b"}),
            invalid,
            "Unrecognized event source.",
        ),
        (
            json!({"EventSourceArn": "x"}),
            "ValidationException",
            "at 'eventSourceArn' failed",
        ),
        (
            json!({"FunctionName": null}),
            "ValidationException",
            "Value null at 'functionName'",
        ),
        (
            json!({"FunctionName": "a b"}),
            "ValidationException",
            "at 'functionName' failed",
        ),
        (
            json!({"FunctionName": "g"}),
            invalid,
            "Function does not exist",
        ),
        (
            json!({"FunctionName": "f:7"}),
            invalid,
            "Function does not exist",
        ),
        (
            json!({"BatchSize": 0}),
            "ValidationException",
            "at 'batchSize' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            json!({"BatchSize": 10_001}),
            "ValidationException",
            "less than or equal to 10000",
        ),
        (
            json!({"BatchSize": 11}),
            invalid,
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        ),
        (
            json!({"EventSourceArn": fifo, "BatchSize": 11}),
            invalid,
            "Batch size must not exceed 10 for FIFO queues",
        ),
        (
            json!({"EventSourceArn": fifo, "MaximumBatchingWindowInSeconds": 1}),
            invalid,
            "Batching window is not supported for FIFO queues",
        ),
        (
            json!({"MaximumBatchingWindowInSeconds": 301}),
            "ValidationException",
            "at 'maximumBatchingWindowInSeconds' failed",
        ),
        (
            json!({"ScalingConfig": {"MaximumConcurrency": 1}}),
            "ValidationException",
            "at 'scalingConfig.maximumConcurrency' failed to satisfy constraint: Member must have value greater than or equal to 2",
        ),
        (
            json!({"ScalingConfig": {"MaximumConcurrency": 1001}}),
            "ValidationException",
            "less than or equal to 1000",
        ),
        (
            json!({"FunctionResponseTypes": ["Other"]}),
            "ValidationException",
            "[ReportBatchItemFailures]",
        ),
        (
            json!({"StartingPosition": "LATEST"}),
            invalid,
            "StartingPosition is not valid for SQS event sources.",
        ),
        (
            json!({"StartingPosition": "0"}),
            "ValidationException",
            "enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]",
        ),
        (
            json!({"StartingPositionTimestamp": 1}),
            invalid,
            "StartingPosition is not valid",
        ),
        (
            json!({"DestinationConfig": {"OnFailure": {"Destination": arn("sqs")}}}),
            invalid,
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            json!({"MaximumRetryAttempts": 1}),
            invalid,
            "MaximumRetryAttempts isn't supported for this event source type",
        ),
        (
            json!({"ParallelizationFactor": 2}),
            invalid,
            "ParallelizationFactor isn't supported",
        ),
        (
            json!({"FilterCriteria": {"Filters": [{}]}}),
            invalid,
            "Invalid filter pattern definition.",
        ),
        (
            json!({"FilterCriteria": {"Filters": [{"Pattern": "simple string"}]}}),
            invalid,
            "Invalid filter pattern definition.",
        ),
        (
            json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"body\": 1}"}]}}),
            invalid,
            "Invalid filter pattern definition.",
        ),
        (json!({"Tags": {"": "x"}}), invalid, "Tag"),
        (
            json!({"EventSourceArn": QUEUE.replace("us-east-1", "eu-west-1")}),
            invalid,
            "The queue has to be in region us-east-1",
        ),
    ] {
        let mut body = json!({"FunctionName": "f", "EventSourceArn": QUEUE});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let refused = face.ask("POST", MAPPINGS, body).await.error();
        assert!(
            refused.2.contains(message) && refused.1 == kind,
            "{more}: {refused:?}"
        );
        assert!((400..500).contains(&refused.0));
    }
    assert_eq!(
        fake.asked.lock().len(),
        asked,
        "no queue is asked for before all else is right"
    );
    for (more, message) in [
        (
            json!({"EventSourceArn": QUEUE.replace("orders", "none")}),
            "SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.",
        ),
        (
            json!({"FunctionName": "slow"}),
            "Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds",
        ),
    ] {
        let mut body = json!({"FunctionName": "f", "EventSourceArn": QUEUE});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let refused = face.ask("POST", MAPPINGS, body).await.error();
        assert!(
            refused.2.contains(message) && refused.0 == 400,
            "{refused:?}"
        );
    }
    *fake.away.lock() = true;
    let body = json!({"FunctionName": "f:$LATEST", "EventSourceArn": QUEUE});
    let refused = face.ask("POST", MAPPINGS, body).await.error();
    let message = "The queue could not be looked at: the queues' service is on holiday.".to_owned();
    assert_eq!(refused, (500, "ServiceException".into(), message));
    let update = format!("{MAPPINGS}/{}", id(&made));
    for change in [
        json!({"BatchSize": 11}),
        json!({"FunctionName": "g"}),
        json!({"MaximumRetryAttempts": 2}),
    ] {
        assert_eq!(face.ask("PUT", &update, change).await.status, 400);
    }
    let listed = face.ask("GET", MAPPINGS, Value::Null).await.json();
    let there = face.mapping(&id(&made)).await;
    assert_eq!(listed["EventSourceMappings"], json!([there]));
    assert_eq!(there["BatchSize"], 10);
}

#[tokio::test]
async fn without_a_service_none_can_be_made() {
    let face = Face::new();
    face.create("f", json!({})).await;
    let body = json!({"FunctionName": "f", "EventSourceArn": QUEUE});
    let refused = face.ask("POST", MAPPINGS, body).await.error();
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (400, "InvalidParameterValueException")
    );
    assert!(refused.2.contains("aws.sqs.endpoint"), "{}", refused.2);
    let listed = face.ask("GET", MAPPINGS, Value::Null).await.json();
    assert_eq!(listed, json!({"EventSourceMappings": []}));
}

#[tokio::test]
async fn mappings_have_tags() {
    let (face, _fake) = face();
    face.create("f", json!({})).await;
    let made = face
        .map("f", json!({"Tags": {"a": "1"}, "Enabled": false}))
        .await;
    let tags = format!(
        "/2017-03-31/tags/{}",
        made["EventSourceMappingArn"].as_str().expect("an ARN")
    );
    let read = async || face.ask("GET", &tags, Value::Null).await.json()["Tags"].clone();
    assert_eq!(read().await, json!({"a": "1"}));
    let tagged = face.ask("POST", &tags, json!({"Tags": {"b": "2"}})).await;
    assert_eq!(tagged.status, 204);
    let untagged = face
        .ask("DELETE", &format!("{tags}?tagKeys=a"), Value::Null)
        .await;
    assert_eq!(untagged.status, 204);
    assert_eq!(read().await, json!({"b": "2"}));
    let other = tags.replace(&id(&made), "14e0db71-5d35-4eb5-b481-8945cf9d10c2");
    let refused = face.ask("GET", &other, Value::Null).await.error();
    assert_eq!(refused.1, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_key_for_some_functions_sees_and_makes_their_mappings_alone() {
    let (mut face, _fake) = face();
    face.create("mine-1", json!({})).await;
    face.create("other", json!({})).await;
    let others = face.map("other", json!({"Enabled": false})).await;
    let wish = Wish {
        name: "deployer".into(),
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("mine-*").expect("a pattern")],
        ..Wish::admin()
    };
    face.caller = signer(&face.world, &face.world.keys, wish);
    let mine = face.map("mine-1", json!({"Enabled": false})).await;
    let listed = face.ask("GET", MAPPINGS, Value::Null).await.json();
    let listed = listed["EventSourceMappings"].as_array().expect("a list");
    assert_eq!((listed.len(), id(&listed[0])), (1, id(&mine)));
    let others = format!("{MAPPINGS}/{}", id(&others));
    for (method, target, body) in [
        ("GET", others.as_str(), Value::Null),
        ("PUT", &others, json!({"BatchSize": 1})),
        ("DELETE", &others, Value::Null),
        (
            "POST",
            MAPPINGS,
            json!({"FunctionName": "other", "EventSourceArn": QUEUE}),
        ),
        (
            "PUT",
            &format!("{MAPPINGS}/{}", id(&mine)),
            json!({"FunctionName": "other"}),
        ),
    ] {
        let refused = face.ask(method, target, body).await.error();
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (403, "AccessDeniedException"),
            "{method}"
        );
    }
}
