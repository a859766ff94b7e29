//! A load to break things under: callers that call several functions again and again while a test does its worst, each with a
//! deadline, and a record of what became of every single call. A test then says which errors may be in it, and that each came in
//! time; everything else must have been served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::{Client, Connection};
use crate::server::Server;
use crate::wait::eventually;

/// Between the end of a caller's call and its next: a load, and not a test of how much the machine can do.
const PAUSE: Duration = Duration::from_millis(15);
/// What a busy machine may take beyond what a call is promised.
const SLACK: Duration = Duration::from_secs(15);
/// More calls than any test makes; a record without a bound would be none of a test that hangs.
const RECORDS: usize = 200_000;

/// One function under load.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) function: &'static str,
    pub(crate) event: Value,
    pub(crate) callers: usize,
    /// A call is answered within this, served or not.
    pub(crate) within: Duration,
}

/// What became of one call.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) function: &'static str,
    pub(crate) took: Duration,
    /// 0 where the connection broke before an answer.
    pub(crate) status: u16,
    /// The typed error's; empty if it was served.
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Debug)]
pub(crate) struct Load {
    streams: Vec<Stream>,
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Vec<Outcome>>>,
    callers: Vec<JoinHandle<()>>,
}

/// Everything that became of a load's calls.
#[derive(Debug)]
pub(crate) struct Outcomes {
    all: Vec<Outcome>,
    within: BTreeMap<&'static str, Duration>,
}

impl Load {
    /// Begins, and waits until every function has been served a few times.
    pub(crate) async fn begin(server: &Server, streams: &[Stream]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let record = Arc::new(Mutex::new(Vec::new()));
        let mut callers = Vec::new();
        for stream in streams {
            for _ in 0..stream.callers {
                let (client, stream) = (server.client.clone(), stream.clone());
                let (stop, record) = (stop.clone(), record.clone());
                callers.push(tokio::spawn(call(client, stream, stop, record)));
            }
        }
        let load = Self {
            streams: streams.to_vec(),
            stop,
            record,
            callers,
        };
        load.goes_on(5).await;
        load
    }

    /// Waits until each function has been served so many times more from now on.
    pub(crate) async fn goes_on(&self, times: usize) {
        let all: Vec<_> = self.streams.iter().map(|stream| stream.function).collect();
        self.serves(&all, times).await;
    }

    /// The same for some of the functions.
    pub(crate) async fn serves(&self, functions: &[&str], times: usize) {
        let from = self.record.lock().unwrap().len();
        let what = format!("{functions:?} to be served {times} times");
        eventually(&what, || async {
            let record = self.record.lock().unwrap();
            let served = |function: &&&str| {
                let of_it = record[from..].iter().filter(|o| o.function == **function);
                of_it.filter(|outcome| outcome.status == 200).count() >= times
            };
            functions
                .iter()
                .all(|function| served(&function))
                .then_some(())
        })
        .await;
    }

    /// Waits until a call of the function has come to this.
    pub(crate) async fn meets(&self, function: &str, code: &str) {
        eventually(&format!("{function} to meet {code}"), || async {
            let record = self.record.lock().unwrap();
            let met = |o: &Outcome| o.function == function && o.code == code;
            record.iter().any(met).then_some(())
        })
        .await;
    }

    /// Lets the calls under way end.
    pub(crate) async fn end(mut self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        for caller in std::mem::take(&mut self.callers) {
            caller.await.expect("a caller does not fail, its calls do");
        }
        let within = self.streams.iter().map(|s| (s.function, s.within));
        Outcomes {
            all: std::mem::take(&mut self.record.lock().unwrap()),
            within: within.collect(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.callers.iter().for_each(JoinHandle::abort);
    }
}

async fn call(
    client: Client,
    stream: Stream,
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Vec<Outcome>>>,
) {
    let path = format!("/functions/{}/execute", stream.function);
    let mut connection: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => client.connect().await.ok()?,
            };
            let answer = open.post(&path, &stream.event).await.ok()?;
            connection = Some(open);
            Some(answer)
        };
        let answer = answer.await;
        let mut outcome = Outcome {
            function: stream.function,
            took: began.elapsed(),
            status: 0,
            code: "connection".into(),
            message: String::new(),
        };
        if let Some(answer) = answer {
            outcome.status = answer.status.as_u16();
            outcome.code.clear();
            if outcome.status != 200 {
                // Every error has a code, or it is none of ours.
                let error = answer.error(outcome.status);
                error["code"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut outcome.code);
                error["message"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut outcome.message);
            }
        }
        {
            let mut record = record.lock().unwrap();
            assert!(record.len() < RECORDS, "a load without end");
            record.push(outcome);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Outcomes {
    /// Checks that calls failed in these ways and no others, (function, code), and that every call had its answer in time.
    /// Each of `must` was met. Returns how many failed.
    #[track_caller]
    pub(crate) fn only(&self, may: &[(&str, &str)], must: &[(&str, &str)]) -> usize {
        let failed: Vec<_> = self.all.iter().filter(|o| o.status != 200).collect();
        let met: BTreeSet<_> = failed
            .iter()
            .map(|o| (o.function, o.code.as_str()))
            .collect();
        let count = |way: &(&str, &str)| {
            let same = failed
                .iter()
                .filter(|o| (o.function, o.code.as_str()) == *way);
            (same.clone().count(), same.map(|o| o.message.clone()).next())
        };
        let strange: Vec<_> = met
            .iter()
            .filter(|way| !may.contains(way) && !must.contains(way))
            .map(|way| (way, count(way)))
            .collect();
        assert!(strange.is_empty(), "nobody should have met {strange:#?}");
        let missing: Vec<_> = must.iter().filter(|way| !met.contains(*way)).collect();
        assert!(missing.is_empty(), "{missing:?} not among {met:?}");
        let late: Vec<_> = self
            .all
            .iter()
            .filter(|o| o.took > self.within[o.function] + SLACK)
            .collect();
        assert!(late.is_empty(), "too late: {late:#?}");
        failed.len()
    }

    pub(crate) fn served(&self) -> usize {
        self.all.iter().filter(|o| o.status == 200).count()
    }
}
