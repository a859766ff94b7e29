//! One seed's world: an instance as the program builds it, over the simulated engine; those who call and deploy; and the end,
//! when the faults are over and everything must come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config;
use crate::domain::environment::{self, Environment};
use crate::domain::function::{Code, Function, Network, Origin};
use crate::domain::id::{AliasName, FunctionId, FunctionName, RequestId, RuntimeId};
use crate::domain::invocation::Invocation;
use crate::domain::limits::Mebibytes;
use crate::domain::version::{self, Second, VersionId, Wish};
use crate::pool::{self, Pool, keeper};
use crate::runtime::code::Codes;
use crate::runtime::manifest::SourceFile;
use crate::runtime::package;
use crate::scheduler::{self, Answer, Scheduler, Target};
use crate::secrets::Secrets;
use crate::sim::container::{Invoked, Script, Seen, Step, Watch};
use crate::sim::engine::{STEM_MEMORY, Simulated, catalog};
use crate::sim::oracle::{Oracle, Outcome, code_text, number};
use crate::sim::plan::{
    CODES, Call, Does, Event, Leaves, Plan, Pointing, Settings, StreamEnd, coarse,
};
use crate::sim::store::Packages;
use crate::sim::time;
use crate::sim::weather::{ENGINE_DEADLINE, Weather};
use crate::task;
use crate::worker::frame::{self, Frame, Kind};

pub const MAX_WAIT: Duration = Duration::from_secs(12);
const INIT_TIMEOUT: Duration = Duration::from_millis(1500);
const BOOT_TIMEOUT: Duration = Duration::from_secs(2);
const ABANDONED_GRACE: Duration = Duration::from_millis(300);
const CANCEL_GRACE: Duration = Duration::from_millis(200);
const STEM_WINDOW: Duration = Duration::from_secs(5);
/// How long the end of a worker is looked into, besides the engine's own deadline.
const EXIT_WAIT: Duration = Duration::from_secs(2);
/// The name of every function's alias.
const LIVE: &str = "live";
/// How often it is looked for callers who were forgotten.
const LOOK: Duration = Duration::from_millis(250);
/// Whatever was on a bad way when the weather calmed down has ended within this time: a slow engine call, then a silent boot.
const AFTERMATH: Duration = Duration::from_secs(6);
/// In calm weather a call is served within this time.
const SERVED: Duration = Duration::from_secs(8);
/// By then everything idle has been retired and the stem pools are full: a refill waits at most half a minute after failures.
const REST: Duration = Duration::from_secs(45);

/// What a seed came to.
#[derive(Debug)]
pub struct Report {
    pub log: String,
    pub violations: Vec<String>,
    pub tally: BTreeMap<&'static str, u32>,
}

/// Runs one seed, on the thread that asks.
pub fn run(seed: u64) -> Report {
    play(Plan::draw(seed))
}

/// Runs one plan.
pub fn play(plan: Plan) -> Report {
    let errors = Arc::new(Mutex::new(String::new()));
    let written = errors.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(move || Errors(written.clone()))
        .without_time()
        .with_ansi(false)
        .finish();
    let mut disk = StdRng::seed_from_u64(plan.seed ^ 0xd15c);
    let grain = plan.grain;
    let takes = move || coarse(Duration::from_millis(disk.random_range(0..=8)), grain);
    // In memory where that can be: a seed makes many small files.
    let memory = tempfile::tempdir_in("/dev/shm");
    let dir = memory.or_else(|_| tempfile::tempdir()).expect("temp dir");
    let path = dir.path().to_owned();
    let mut report = tracing::subscriber::with_default(subscriber, || {
        time::run(takes, async move { World::new(plan, &path).live().await })
    });
    // Whatever is logged as an error needs somebody to look: a task that panicked, a container that was given up.
    let errors = errors.lock();
    report.violations.extend(errors.lines().map(str::to_owned));
    report
}

#[derive(Debug)]
struct Errors(Arc<Mutex<String>>);

impl std::io::Write for Errors {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct World {
    plan: Arc<Plan>,
    oracle: Arc<Oracle>,
    weather: Arc<Weather>,
    engine: Arc<Simulated>,
    pool: Arc<Pool>,
    scheduler: Arc<Scheduler>,
    workers_dir: std::path::PathBuf,
    hashes: Vec<String>,
    /// Of every function: how often it was created, its revision, its id while it is there.
    written: Vec<(u32, u64, Option<FunctionId>)>,
    keeper: tokio::task::JoinHandle<Option<()>>,
    stop: CancellationToken,
}

impl World {
    fn new(plan: Plan, dir: &std::path::Path) -> Self {
        let plan = Arc::new(plan);
        let oracle = Arc::new(Oracle::new(&plan));
        let Plan {
            seed,
            instance,
            odds,
            outages,
            grain,
            ..
        } = &*plan;
        oracle.note(&format!("seed {seed}, grain {grain}: {instance:?}"));
        oracle.note(&format!("{odds:?}, {outages:?}"));
        let weather = Arc::new(Weather::of(&plan));
        let program = {
            let (plan, oracle) = (plan.clone(), oracle.clone());
            Arc::new(move |invoked: &Invoked| script(&plan, &oracle, invoked))
        };
        let engine = Simulated::new(program, oracle.clone(), weather.clone());
        let catalog = Arc::new(catalog(&dir.join("runtimes")));
        let packages: BTreeMap<_, _> = (0..CODES).map(package).collect();
        let mut hashes = vec![String::new(); CODES];
        for (hash, (code, _)) in &packages {
            hashes[*code] = hash.clone();
        }
        let by_hash = packages.into_iter().map(|(hash, (_, zip))| (hash, zip));
        let store = Packages {
            by_hash: by_hash.collect(),
            weather: weather.clone(),
        };
        let codes = Arc::new(Codes::new(Arc::new(store), dir.join("code")));
        let workers_dir = dir.join("workers");
        std::fs::create_dir_all(&workers_dir).expect("workers");
        let instance = &plan.instance;
        let options = pool::Options {
            keep_alive: instance.keep_alive,
            stem_min: instance.stem_min,
            stem_max: instance.stem_max,
            stem_window: STEM_WINDOW,
            boot_timeout: BOOT_TIMEOUT,
            abandoned_grace: ABANDONED_GRACE,
            cancel_grace: CANCEL_GRACE,
            lanes: instance.lanes,
            line_depth: instance.line_depth,
            memory_budget: Mebibytes(instance.budget_mib).bytes(),
            workers_dir: workers_dir.clone(),
            log_line_bytes: 1024,
            eager_workers: instance.eager_workers,
        };
        let limits = config::Limits {
            concurrency: instance.account_limit,
            line_depth: u32::try_from(instance.line_depth).expect("small"),
            max_wait: MAX_WAIT,
            batch_max: 8,
            batch_parallel: 4,
            unreserved_percent: 10,
            lease: Duration::from_secs(10),
            permit_wait: Duration::ZERO,
            idempotency_ttl: MAX_WAIT,
            idempotency_keys: 1,
            idempotency_answer_bytes: 0,
            idempotency_total_bytes: 0,
        };
        let (pool, events) = Pool::new(options, engine.clone(), catalog, codes);
        let secrets = Secrets::read_or_make(&dir.join("secrets.key")).expect("keys");
        let options = scheduler::Options {
            limits,
            init_timeout: INIT_TIMEOUT,
            cpu_floor_cores: 1.0,
            cores: 2,
            log_keep_bytes: 1 << 16,
            invocations: config::Invocations {
                content: 1 << 10,
                total: 1 << 16,
                except: Vec::new(),
            },
            place: Default::default(),
            secrets: Arc::new(secrets),
            dice: Some(plan.seed),
            traces: None,
        };
        let scheduler = Scheduler::new(options, pool.clone());
        let stop = CancellationToken::new();
        let keeper = keeper::run(pool.clone(), events, stop.clone());
        let keeper = task::spawn(task::Kind::Local, "keeper", keeper);
        Self {
            written: vec![(0, 0, None); plan.functions.len()],
            plan,
            oracle,
            weather,
            engine,
            pool,
            scheduler,
            workers_dir,
            hashes,
            keeper,
            stop,
        }
    }

    async fn live(mut self) -> Report {
        for (index, settings) in self.plan.functions.clone().iter().enumerate() {
            self.deploy(index, settings);
        }
        let looking = self.look_for_forgotten();
        self.play().await;
        if !self.oracle.failed() {
            self.heal().await;
        }
        if !self.oracle.failed() {
            self.rest().await;
        }
        looking.abort();
        looking.await.ok();
        let oracle = self.oracle.clone();
        if !oracle.failed() {
            self.end().await;
        }
        let (log, violations, tally) = oracle.finish();
        Report {
            log,
            violations,
            tally,
        }
    }

    fn look_for_forgotten(&self) -> tokio::task::JoinHandle<Option<()>> {
        let (oracle, weather) = (self.oracle.clone(), self.weather.clone());
        task::spawn(task::Kind::Local, "look", async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let passing = weather.passing.load(std::sync::atomic::Ordering::Relaxed);
                let uncleared = weather.remove_failed_within(Duration::from_secs(7));
                oracle.look(passing > 0, uncleared);
            }
        })
    }

    /// Everything that was planned, at its time.
    async fn play(&mut self) {
        let begun = tokio::time::Instant::now();
        let plan = self.plan.clone();
        for (at, event) in &plan.events {
            tokio::time::sleep_until(begun + *at).await;
            if self.oracle.failed() {
                return;
            }
            match event {
                Event::Call(number) => self.call(*number, plan.calls[*number]),
                Event::Deploy(index, settings) => self.deploy(*index, settings),
                Event::Delete(index) => self.delete(*index),
                Event::LoseImage => {
                    self.oracle.note("the image is gone");
                    self.weather.lose_image();
                }
                Event::LoseNetworks => {
                    self.oracle.note("the networks are gone");
                    self.engine.lose_networks();
                }
                Event::Publish(index) => self.publish(*index),
                Event::Point(index, pointing) => self.point(*index, *pointing),
            }
        }
    }

    fn deploy(&mut self, index: usize, settings: &Settings) {
        let (generation, revision, id) = &mut self.written[index];
        *revision += 1;
        let id = id.get_or_insert_with(|| {
            *generation += 1;
            FunctionId::from_stored(&format!("id-{index}-{generation}"))
        });
        let environment = [
            ("OF".to_owned(), id.as_str().to_owned()),
            ("VERSION".to_owned(), settings.version.to_string()),
        ];
        // In the clear: what is encrypted is different every time, and the same seed has to do the same.
        let environment = environment.map(|(name, text)| (name, environment::Value::Plain(text)));
        let function = Function {
            id: id.clone(),
            name: name(index),
            revision: *revision,
            runtime: RuntimeId::new(settings.runtime),
            handler: "app.handler".into(),
            timeout_seconds: settings.timeout,
            memory: Mebibytes(settings.memory),
            code: Code {
                sha256: self.hashes[settings.code].clone(),
                size: 1,
                unpacked_size: None,
                origin: Origin::Inline,
            },
            layers: Vec::new(),
            environment: Environment(environment.into()),
            description: String::new(),
            tags: BTreeMap::new(),
            route: None,
            max_concurrency: settings.limit,
            reserved_concurrency: None,
            asynchronous: Default::default(),
            network: if settings.egress {
                Network::Egress
            } else {
                Network::None
            },
            aws: Default::default(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        };
        self.oracle.deployed(index, id.as_str(), Some(settings));
        self.scheduler.publish(function);
    }

    fn delete(&mut self, index: usize) {
        if let Some(id) = self.written[index].2.take() {
            self.oracle.deployed(index, id.as_str(), None);
            self.scheduler.withdraw(&id);
        }
    }

    fn latest(&self, index: usize) -> Option<Arc<Target>> {
        let id = self.written[index].2.as_ref()?;
        self.scheduler.find(id.as_str())
    }

    fn publish(&self, index: usize) {
        let Some(latest) = self.latest(index) else {
            return;
        };
        let published = latest.published();
        let made = published.publish(&latest.function, None, jiff::Timestamp::UNIX_EPOCH);
        // Nothing may have changed since the last one.
        if let Ok(version::Outcome::New(version, edit)) = made {
            self.oracle.published(index, version.number);
            self.scheduler.set_published(published.after(edit));
        }
    }

    fn point(&self, index: usize, pointing: Pointing) {
        let Some(latest) = self.latest(index) else {
            return;
        };
        let published = latest.published();
        let numbers: Vec<u64> = published.versions.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let first = numbers[pointing.first % numbers.len()];
        let second = pointing.second;
        let second = second.map(|(nth, share)| (numbers[nth % numbers.len()], share));
        let second = second.filter(|(number, _)| *number != first);
        let wish = Wish {
            version: Some(VersionId::Number(first)),
            second: Some(second.map(|(version, share)| Second {
                version,
                weight: f64::from(share) / 100.0,
            })),
            ..Wish::default()
        };
        let name = AliasName::parse(LIVE).expect("a name");
        let now = jiff::Timestamp::UNIX_EPOCH;
        let made = match published.alias(LIVE) {
            None => published.create_alias(name, wish, now),
            Some(_) => published.update_alias(LIVE, wish, now),
        };
        let (_, edit) = made.expect("both are there");
        self.oracle.pointed(index, first, second);
        self.scheduler.set_published(published.after(edit));
    }

    fn call(&self, number: usize, plan: Call) {
        let (oracle, scheduler) = (self.oracle.clone(), self.scheduler.clone());
        task::spawn(task::Kind::Local, "client", async move {
            let qualifier = plan.alias.then_some(LIVE);
            let resolved = scheduler.resolve(name(plan.function).as_str(), qualifier);
            let target = resolved.ok().map(|resolved| resolved.target);
            let chosen = target.as_ref().map(|target| target.version);
            oracle.call_started(number, plan, chosen);
            let Some(target) = target else {
                return oracle.call_ended(number, &Outcome::NoFunction);
            };
            let bound = MAX_WAIT + target.function.timeout() + EXIT_WAIT + ENGINE_DEADLINE * 2;
            let invocation = Invocation {
                request_id: RequestId::generate(),
                payload: json!({ "call": number }).to_string().into(),
                raw: false,
                measured: false,
                context: Bytes::new(),
                trace: None,
            };
            let outcome = async {
                match scheduler.invoke(&target, invocation).await.result {
                    Err(fault) => Outcome::Failed(fault),
                    Ok(Answer::Whole { body, .. }) => Outcome::Answered(body),
                    Ok(Answer::Stream { mut body, .. }) => {
                        let mut whole = Vec::new();
                        while let Some(piece) = body.next().await {
                            match piece {
                                Ok(piece) => whole.extend_from_slice(&piece),
                                Err(fault) => return Outcome::Streamed(whole, Some(fault)),
                            }
                        }
                        Outcome::Streamed(whole, None)
                    }
                }
            };
            let outcome = tokio::time::timeout(bound, outcome);
            let leaves_first = plan.leaves.is_some_and(|leaves| leaves.first);
            let outcome = tokio::select! {
                biased;
                () = leave(plan.leaves), if leaves_first => Outcome::Left,
                outcome = outcome => outcome.unwrap_or(Outcome::Nothing),
                () = leave(plan.leaves), if !leaves_first => Outcome::Left,
            };
            oracle.call_ended(number, &outcome);
        });
    }

    /// The faults end: who waits is served or was promised nothing more, and whoever comes now is served at once.
    async fn heal(&mut self) {
        self.weather.calm_down();
        // What had begun to go wrong ends so; and the last calls have begun when they are counted.
        tokio::time::sleep(AFTERMATH).await;
        let open = |world: &Self| world.oracle.open_calls() == 0;
        self.until(MAX_WAIT * 2, open, "calls have no outcome")
            .await;
        let quiet = |world: &Self| {
            let survey = world.pool.survey();
            survey.busy + survey.starting + survey.waiting == 0 && world.scheduler.under_way() == 0
        };
        // A removal that failed is tried again after some seconds.
        self.until(Duration::from_secs(20), quiet, "calls left something")
            .await;
        self.oracle.heal();
        let mut number = self.plan.calls.len();
        for (index, (_, _, id)) in self.written.clone().iter().enumerate() {
            let found = id.as_ref().and_then(|id| self.scheduler.find(id.as_str()));
            let Some(target) = found.filter(|_| !self.oracle.failed()) else {
                continue;
            };
            let limit = target.function.max_concurrency.unwrap_or(u32::MAX);
            let limit = limit.min(self.plan.instance.account_limit).min(3);
            for _ in 0..limit {
                let call = Call {
                    function: index,
                    ..self.plan.call(number)
                };
                self.call(number, call);
                number += 1;
            }
            // So that they have begun when they are counted.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.until(SERVED, open, "a call is not served in calm weather")
                .await;
        }
    }

    /// Nobody calls: idle workers go, and the stem pools are as they should be.
    async fn rest(&self) {
        tokio::time::sleep(REST).await;
        let survey = self.pool.survey();
        self.oracle.note(&format!("at rest: {survey:?}"));
        let busy = survey.idle + survey.busy + survey.starting + survey.waiting;
        self.expect(busy == 0, "workers are left");
        let live = self.written.iter().filter(|(_, _, id)| id.is_some());
        let slots = live.count() + self.scheduler.slots_of_versions();
        self.expect(survey.slots == slots, "slots are left");
        let min = self.plan.instance.stem_min;
        let filled = survey.stems.iter().all(|(_, count)| *count == min);
        self.expect(filled, "the stem pools are not as they should be");
        let stems: usize = survey.stems.iter().map(|(_, count)| count).sum();
        let memory = Mebibytes(STEM_MEMORY).bytes() * stems as u64;
        self.expect(survey.memory == memory, "memory was not returned");
        self.expect(self.scheduler.under_way() == 0, "permits are left");
        let (seats, _) = self.oracle.seats();
        self.expect(seats == stems, "containers are left");
        let held = stems + survey.holders;
        self.expect(self.engine.count() == held, "network holders are left");
        self.expect(self.directories() == stems, "directories are left");
    }

    /// The instance stops, and nothing of it is left.
    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.keeper).await;
        let over = |good: bool, what: &str| {
            if !good {
                self.oracle.violation(what);
            }
        };
        over(ended.is_ok(), "the keeper does not end");
        // What the last containers' tasks still have to do takes no engine call.
        tokio::time::sleep(Duration::from_secs(1)).await;
        over(self.engine.count() == 0, "containers outlive the keeper");
        over(
            self.pool.survey().memory == 0,
            "memory outlives its workers",
        );
        let left = std::fs::read_dir(&self.workers_dir).expect("is there");
        over(left.count() == 0, "directories outlive their workers");
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        over(tasks == 1, &format!("{} tasks are left", tasks - 1));
    }

    fn directories(&self) -> usize {
        std::fs::read_dir(&self.workers_dir)
            .expect("is there")
            .count()
    }

    fn expect(&self, good: bool, what: &str) {
        if !good {
            self.oracle.violation(what);
        }
    }

    async fn until(&self, within: Duration, done: impl Fn(&Self) -> bool, what: &str) {
        let deadline = clock::now() + within;
        while !done(self) && !self.oracle.failed() {
            if clock::now() >= deadline {
                let survey = self.pool.survey();
                return self.oracle.violation(&format!("{what}: {survey:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn leave(leaves: Option<Leaves>) {
    let Some(leaves) = leaves else {
        return std::future::pending().await;
    };
    tokio::time::sleep(leaves.after).await;
    for _ in 0..leaves.turns {
        tokio::task::yield_now().await;
    }
}

fn name(index: usize) -> FunctionName {
    FunctionName::parse(&format!("f{index}")).expect("a name")
}

fn package(code: usize) -> (String, (usize, Bytes)) {
    let file = SourceFile {
        name: "app.txt".into(),
        executable: false,
    };
    let zip = package::pack_inline(&file, &code_text(code)).expect("a package");
    (hex::encode(Sha256::digest(&zip)), (code, zip.into()))
}

/// What the code does with an invocation: the plan says it, and the answer says which code it was.
fn script(plan: &Plan, oracle: &Oracle, invoked: &Invoked) -> Script {
    let stream = invoked.stream;
    let call = number(&invoked.payload).unwrap_or_default();
    let planned = plan.call(call);
    if planned.does.is_lie() {
        oracle.see(Seen::Lied {
            container: invoked.container,
            how: format!("{:?}", planned.does),
            idle: false,
        });
    }
    let code = std::fs::read_to_string(invoked.task.join("app.txt")).unwrap_or_default();
    let environment = &invoked.init["environment"];
    let mut answer = json!({
        "call": call, "code": code, "version": environment["VERSION"], "of": environment["OF"],
    });
    if planned.does == Does::AnswerLarge {
        answer["much"] = "more than a socket takes at once ".repeat(8000).into();
    }
    let answer = answer.to_string();
    let frame = |kind, body: &str| Frame::new(kind, stream, body.to_owned());
    let end = |stream| Frame::new(Kind::ResponseEnd, stream, answer.clone());
    let report = format!(r#"{{"errorType":"Sim","errorMessage":"{call}","stackTrace":[]}}"#);
    let error = |flags| Frame {
        flags,
        ..frame(Kind::Error, &report)
    };
    let exit = |out_of_memory| {
        Step::End(crate::engine::Exit {
            code: 9,
            out_of_memory,
        })
    };
    let then = match planned.does {
        Does::Answer | Does::AnswerLarge => vec![Step::Done, Step::Send(vec![end(stream)])],
        Does::CloseLog => vec![Step::CloseLog, Step::Done, Step::Send(vec![end(stream)])],
        Does::Fail => vec![Step::Done, Step::Send(vec![error(0)])],
        // It lives for a moment more, and must not be asked again.
        Does::FailLast => vec![
            Step::Done,
            Step::Send(vec![error(frame::LAST)]),
            Step::Pause(Duration::from_millis(30)),
            exit(false),
        ],
        Does::RefusePayload => vec![Step::Done, Step::Send(vec![error(frame::BAD_REQUEST)])],
        Does::Hang => vec![Step::Hang],
        Does::RunLong => vec![
            Step::Pause(Duration::from_millis(2500)),
            Step::Done,
            Step::Send(vec![end(stream)]),
        ],
        Does::Exit => vec![exit(false)],
        Does::RunOutOfMemory => vec![exit(true)],
        Does::WriteGarbage => vec![Step::Bytes(vec![0xff; 40]), Step::Hang],
        Does::AnswerForAnother => vec![Step::Send(vec![end(stream + 1)]), Step::Hang],
        Does::SendWrongKind => vec![Step::Send(vec![frame(Kind::Pong, "")]), Step::Hang],
        Does::HangUp => vec![Step::CloseSocket, Step::Hang],
        Does::AnswerTwice => vec![Step::Done, Step::Send(vec![end(stream), end(stream)])],
        Does::AnswerHalf => {
            let mut bytes = bytes::BytesMut::new();
            frame::encode(&end(stream), &mut bytes);
            bytes.truncate(20);
            vec![Step::Bytes(bytes.to_vec()), Step::Hang]
        }
        Does::Stream(ends) => {
            let head = frame(Kind::ResponseHead, r#"{"content_type":"text/plain"}"#);
            let (one, two) = answer.split_at(answer.len() / 2);
            let (one, two) = (
                frame(Kind::ResponseChunk, one),
                frame(Kind::ResponseChunk, two),
            );
            let mut steps = vec![
                Step::Send(vec![head, one]),
                Step::Pause(planned.takes / 4),
                Step::Send(vec![two]),
            ];
            steps.extend(match ends {
                StreamEnd::Well => {
                    vec![Step::Done, Step::Send(vec![frame(Kind::ResponseEnd, "")])]
                }
                StreamEnd::Fail => vec![Step::Done, Step::Send(vec![error(0)])],
                StreamEnd::Exit => vec![exit(false)],
                StreamEnd::Hang => vec![Step::Hang],
                StreamEnd::Garbage => vec![Step::Bytes(vec![0xff; 40]), Step::Hang],
            });
            steps
        }
    };
    let mut steps = vec![Step::Pause(planned.takes)];
    steps.extend(then);
    Script {
        steps,
        ignores_cancel: planned.ignores_cancel,
    }
}
