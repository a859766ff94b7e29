//! A whole instance for the face's tests, without containers: the real store, scheduler and pool, over the simulated engine in
//! real time and without faults, and a store that can be made to wait or fail at the worst moment.

mod hooked;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::body::Body;
use axum::{Router, response::Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

use crate::api::control::checks::{Check, Doctor};
use crate::api::control::{self, Control};
use crate::api::keys::Keys;
use crate::config;
use crate::domain::function::Function;
use crate::domain::key::Grant;
use crate::domain::limits::Mebibytes;
use crate::domain::pattern::Pattern;
use crate::pool::{self, Pool, keeper};
use crate::queue::carrier::{Carrier, Refusal};
use crate::queue::{self, Queue};
use crate::runtime::code::Codes;
use crate::runtime::package::Places;
use crate::scheduler::{self, Scheduler};
use crate::secrets::Secrets;
use crate::sim::container::{Invoked, Script, Seen, Step, Watch};
use crate::sim::engine::{Simulated, catalog};
use crate::sim::weather::Weather;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::events::Bounds;
use crate::task;
use crate::worker::frame::{self, Frame, Kind};

pub use crate::api::control::world::hooked::{Hooked, Plan};

/// Nothing in these tests takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct World {
    pub control: Control,
    pub router: Router,
    pub scheduler: Arc<Scheduler>,
    /// Nobody runs it unless the test does.
    pub queue: Arc<Queue>,
    pub store: Arc<Hooked>,
    pub keys: Arc<Keys>,
    pub stop: CancellationToken,
    pub dir: tempfile::TempDir,
    _keeper: DropGuard,
}

#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The fields an error names.
    pub fn fields(&self) -> Vec<String> {
        let body = self.json();
        let faults = body["error"]["faults"].as_array().cloned();
        faults
            .unwrap_or_default()
            .iter()
            .map(|fault| fault["field"].as_str().expect("a field").to_owned())
            .collect()
    }
}

impl World {
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Embedded::open(&dir.path().join("store")).expect("store");
        Self::over(dir, store)
    }

    /// A second instance over the store of a first, as after a restart.
    pub fn over(dir: tempfile::TempDir, inner: Arc<dyn Store>) -> Self {
        let store = Arc::new(Hooked {
            inner,
            plans: Mutex::default(),
            reached: Semaphore::new(0),
            go_on: Semaphore::new(0),
            claims: AtomicUsize::new(0),
            settles: AtomicUsize::new(0),
            newer: Mutex::default(),
        });
        let catalog = Arc::new(catalog(&dir.path().join("runtimes")));
        let codes = Arc::new(Codes::new(store.clone(), dir.path().join("code")));
        let workers_dir = dir.path().join("workers");
        std::fs::create_dir_all(&workers_dir).expect("workers");
        let options = pool::Options {
            keep_alive: Duration::from_secs(600),
            stem_min: 1,
            stem_max: 4,
            stem_window: Duration::from_secs(120),
            boot_timeout: DEADLINE,
            abandoned_grace: Duration::from_millis(500),
            cancel_grace: Duration::from_millis(200),
            lanes: 4,
            line_depth: 100,
            memory_budget: Mebibytes(100_000).bytes(),
            workers_dir,
            log_line_bytes: 1024,
            eager_workers: 2,
        };
        let engine = Simulated::new(
            Arc::new(answer),
            Arc::new(Strict),
            Arc::new(Weather::none()),
        );
        let secrets = Secrets::read_or_make(&dir.path().join("secrets.key")).expect("keys");
        let (pool, events) = Pool::new(options, engine, catalog.clone(), codes);
        let limits = config::Limits {
            concurrency: 100,
            line_depth: 100,
            max_wait: DEADLINE,
            batch_max: 8,
            batch_parallel: 4,
            unreserved_percent: 10,
            lease: DEADLINE,
            permit_wait: Duration::ZERO,
            idempotency_ttl: DEADLINE,
            idempotency_keys: 100,
            idempotency_answer_bytes: 1000,
            idempotency_total_bytes: 100_000,
        };
        let scheduler = Scheduler::new(
            scheduler::Options {
                limits: limits.clone(),
                init_timeout: DEADLINE,
                cpu_floor_cores: 1.0,
                cores: 2,
                log_keep_bytes: 1 << 20,
                invocations: config::Invocations {
                    content: 1 << 10,
                    total: 1 << 20,
                    except: vec![Pattern::parse("private-*").expect("a pattern")],
                },
                place: Default::default(),
                secrets: Arc::new(secrets),
                dice: None,
                traces: None,
            },
            pool.clone(),
        );
        let places = Places {
            roots: vec![dir.path().join("sources")],
            state: dir.path().join("state"),
            images: vec![Pattern::of_images("team/*").expect("a pattern")],
        };
        let stop = CancellationToken::new();
        let keeper_stop = CancellationToken::new();
        task::spawn(
            task::Kind::Local,
            "keeper",
            keeper::run(pool, events, keeper_stop.clone()),
        );
        let keys = Arc::new(Keys::default());
        let queue = Queue::new(
            scheduler.clone(),
            store.clone(),
            // There is no world around this one.
            Carrier::new(|_, _, _| {
                let message = "nobody is there".into();
                async {
                    Err(Refusal {
                        message,
                        for_now: false,
                    })
                }
                .boxed()
            }),
            queue::Options {
                process: "world".into(),
                parallel: 4,
                gather: Duration::ZERO,
                lease: DEADLINE,
                retry: queue::retry::Options {
                    retries: 1,
                    delay: Duration::from_millis(10),
                    max_age: DEADLINE,
                },
                bounds: Bounds {
                    unfinished: 3,
                    finished: 100,
                    keep: DEADLINE,
                    dead: 100,
                },
            },
        );
        let control = Control::new(
            queue.clone(),
            store.clone(),
            catalog,
            keys.clone(),
            &limits,
            places,
            stop.clone(),
        )
        .with_doctor(Doctor::new(|| {
            let leak = Check {
                about: "roof".into(),
                verdict: "failed",
                found: "leaks".into(),
                mend: Some("a bucket".into()),
            };
            async { vec![leak] }.boxed()
        }));
        Self {
            queue,
            router: control::router(control.clone()),
            control,
            scheduler,
            store,
            keys,
            stop,
            dir,
            _keeper: keeper_stop.drop_guard(),
        }
    }

    /// As somebody who may do everything, unless the request says who.
    pub async fn send(&self, mut request: Request<Body>) -> Response {
        let extensions = request.extensions_mut();
        extensions.get_or_insert_with(|| Arc::new(Grant::all("the test")));
        let answer = self.router.clone().oneshot(request);
        tokio::time::timeout(DEADLINE, answer)
            .await
            .expect("an answer in time")
            .expect("the router always answers")
    }

    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Answered {
        let request = Request::builder().method(method).uri(path);
        self.answered(request.body(body.into()).expect("a request"))
            .await
    }

    pub async fn answered(&self, request: Request<Body>) -> Answered {
        let (head, body) = self.send(request).await.into_parts();
        let whole = tokio::time::timeout(DEADLINE, body.collect()).await;
        Answered {
            status: head.status,
            headers: head.headers,
            body: whole.expect("in time").expect("whole").to_bytes(),
        }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answered {
        self.ask("POST", path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answered {
        self.ask("PUT", path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        self.ask("DELETE", path, Body::empty()).await
    }

    /// A function that is there.
    pub async fn create(&self, name: &str) -> Value {
        let made = self.post("/functions/", new(name)).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        made.json()
    }

    /// What the store has under a name.
    pub async fn stored(&self, name: &str) -> Option<Function> {
        let all = self.store.inner.functions().await.expect("store");
        all.into_iter().find(|f| f.name.as_str() == name)
    }

    pub fn published(&self, name: &str) -> Option<Arc<Function>> {
        self.scheduler.find(name).map(|t| t.function.clone())
    }
}

/// The least there is to say about a new function.
pub fn new(name: &str) -> Value {
    json!({"name": name, "language": "runic", "code": "say what came"})
}

/// Looks for nothing but what Hearth must not do.
#[derive(Debug)]
struct Strict;

impl Watch for Strict {
    fn see(&self, seen: Seen<'_>) {
        if let Seen::Wrong { container, what } = seen {
            panic!("container {container}: {what}");
        }
    }
}

fn has(payload: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(payload, part).is_some()
}

/// Does what the event says; any other event is the answer.
fn answer(invoked: &Invoked) -> Script {
    let stream = invoked.stream;
    let frame = |kind, body: &'static str| Frame::new(kind, stream, body);
    let end = |flags, body: Bytes| {
        vec![Frame {
            flags,
            ..Frame::new(Kind::ResponseEnd, stream, body)
        }]
    };
    let head = frame(Kind::ResponseHead, r#"{"content_type":"text/plain"}"#);
    let failed = frame(
        Kind::Error,
        r#"{"errorType":"Asked","errorMessage":"as asked","stackTrace":["here"]}"#,
    );
    let frames = match &invoked.payload[..] {
        b"\"fail\"" => vec![failed],
        b"\"bytes\"" => end(frame::RAW, Bytes::from_static(&[0, 159])),
        b"\"broken\"" => end(0, Bytes::from_static(b"{not json")),
        b"\"stream\"" => vec![
            head,
            frame(Kind::ResponseChunk, "one "),
            frame(Kind::ResponseChunk, "two"),
            frame(Kind::ResponseEnd, ""),
        ],
        b"\"cut\"" => vec![head, frame(Kind::ResponseChunk, "one "), failed],
        b"\"code\"" => {
            let code = std::fs::read_to_string(invoked.task.join("app.txt")).expect("code");
            end(0, json!(code).to_string().into())
        }
        b"\"who\"" => {
            let context: Value = serde_json::from_slice(&invoked.context).unwrap_or_default();
            let (version, arn) = (
                &invoked.init["function_version"],
                &invoked.init["function_arn"],
            );
            let told = json!({"version": version, "arn": arn, "context": context});
            end(0, told.to_string().into())
        }
        b"" => end(0, Bytes::from_static(b"{}")),
        // What is in a batch of messages.
        batch if has(batch, br#""body":"fail""#) => vec![failed],
        batch if has(batch, br#""body":"report""#) => {
            let report = br#"{"batchItemFailures": [{"itemIdentifier": "m-report"}]}"#;
            end(0, Bytes::from_static(report))
        }
        _ => end(invoked.flags, invoked.payload.clone()),
    };
    Script {
        steps: vec![Step::Send(frames)],
        ignores_cancel: false,
    }
}
