//! What each part is told of the configuration. Called by the composition root; decides nothing but the few defaults that depend on the machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::control::checks::{Check, Doctor};
use crate::api::{collector, messages, sqs, webhook};
use crate::app::State;
use crate::config::{self, Config};
use crate::doctor;
use crate::pool;
use crate::queue;
use crate::queue::carrier::Carrier;
use crate::scheduler;
use crate::scheduler::share;
use crate::secrets::Secrets;
use crate::sources;
use crate::sources::queues::Queues;
use crate::store::events::Bounds;
use crate::telemetry::traces::{self, Collector, Exporter, Tracer};

/// The part of the machine's memory that workers may be sized for, unless configured.
const MEMORY_PART: f64 = 0.7;
/// Spans that could not be sent for so long are given up.
const SPANS_RETRIED: Duration = Duration::from_secs(60);
/// A free place of the queue waits this long for others, to be filled together with them: about a commit, and little beside what most calls
/// take.
const GATHER: Duration = Duration::from_millis(10);

/// The doctor, as one asks it over the API.
pub(super) fn doctor(config: &Config, running: watch::Receiver<Option<String>>) -> Doctor {
    let config = Arc::new(config.clone());
    Doctor::new(move || {
        let (config, running) = (config.clone(), running.borrow().clone());
        Box::pin(async move {
            let findings = doctor::examine(&config, running.as_deref()).await;
            findings.into_iter().map(check).collect()
        })
    })
}

fn check(finding: doctor::Finding) -> Check {
    Check {
        about: finding.about,
        verdict: finding.verdict.as_str(),
        found: finding.found,
        mend: finding.mend,
    }
}

pub(super) fn pool_options(config: &Config, state: &State, cores: usize) -> pool::Options {
    let memory_budget = config
        .pool
        .memory_budget
        .map_or_else(part_of_memory, |budget| budget.bytes());
    pool::Options {
        keep_alive: config.pool.keep_alive,
        stem_min: config.pool.stem_min,
        stem_max: config.pool.stem_max,
        stem_window: config.pool.stem_window,
        boot_timeout: config.pool.boot_timeout,
        abandoned_grace: config.pool.abandoned_grace,
        cancel_grace: config.pool.cancel_grace,
        lanes: config.engine.lanes,
        line_depth: config.limits.line_depth as usize,
        memory_budget,
        workers_dir: state.workers(),
        log_line_bytes: config.logs.line_bytes,
        eager_workers: cores,
    }
}

/// How the queue posts documents, and sends them to queues.
pub(super) fn carrier(config: &Config, queues: Option<Queues>) -> Carrier {
    let client = webhook::Client::new(config.events.webhooks);
    let carrier = Carrier::new(move |url, id, document| {
        let client = client.clone();
        Box::pin(async move { client.post(&url, id, document).await })
    });
    let Some(queues) = queues else {
        return carrier;
    };
    let region = queues.region().to_owned();
    carrier.with_queues(&region, move |queue, body, attributes| {
        let queues = queues.clone();
        Box::pin(async move { messages::send(&queues, &queue, body, attributes).await })
    })
}

/// The service that queues are at, if there is one.
pub(super) fn queues(config: &config::Aws) -> Result<Option<Queues>, sqs::NoEndpoint> {
    let sqs = config.sqs.as_ref();
    sqs.map(|sqs| sqs::queues(&sqs.service)).transpose()
}

/// How event sources ask for messages, and how much at once.
pub(super) fn sources_options(config: &config::Aws, queues: Option<Queues>) -> sources::Options {
    let Some(sqs) = &config.sqs else {
        return sources::Options::default();
    };
    sources::Options {
        queues,
        parallel: sqs.parallel,
        room: sources::ROOM,
    }
}

pub(super) fn queue_options(config: &config::Events, instance: &str) -> queue::Options {
    queue::Options {
        // A restart is another process: what its predecessor had claimed is not its own.
        process: format!("{instance}-{}", uuid::Uuid::new_v4().simple()),
        parallel: config.parallel,
        gather: GATHER,
        lease: config.lease,
        retry: queue::retry::Options {
            retries: config.retries,
            delay: config.retry_delay,
            max_age: config.max_age,
        },
        bounds: Bounds {
            unfinished: config.waiting_max,
            finished: config.keep_max,
            keep: config.keep,
            dead: config.dead_max,
        },
    }
}

pub(super) fn scheduler_options(
    config: &Config,
    cores: usize,
    secrets: Arc<Secrets>,
    traces: Option<Tracer>,
) -> scheduler::Options {
    scheduler::Options {
        limits: config.limits.clone(),
        init_timeout: config.pool.init_timeout,
        cpu_floor_cores: config.worker.cpu_floor_cores,
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        log_keep_bytes: config.logs.keep_bytes,
        invocations: config.invocations.clone(),
        place: config.aws.place.clone(),
        secrets,
        dice: None,
        traces,
    }
}

/// What decides which calls are traced, and what sends their spans, if any are.
pub(super) fn tracing(
    config: &Config,
    instance: &str,
) -> Result<Option<(Tracer, Exporter)>, collector::Error> {
    let Some(config) = &config.traces else {
        return Ok(None);
    };
    let client = collector::Client::new(config)?;
    let options = traces::Options {
        service: config.service.clone(),
        instance: instance.to_owned(),
        ratio: config.ratio,
        queue: config.queue,
        retry_for: SPANS_RETRIED,
        flush: config.timeout,
    };
    let collector = Collector::new(move |message| {
        let client = client.clone();
        Box::pin(async move { client.post(message).await })
    });
    Ok(Some(Tracer::new(options, collector)))
}

pub(super) fn share_options(config: &Config, instance: &str) -> share::Options {
    share::Options {
        process: instance.to_owned(),
        incarnation: uuid::Uuid::new_v4().simple().to_string(),
        account: config.limits.concurrency,
        lease: config.limits.lease,
        wait: config.limits.permit_wait,
        waiting: config.limits.line_depth,
        cancel_grace: config.pool.cancel_grace,
    }
}

/// A part of the machine's memory; a small fixed amount where it cannot be read.
fn part_of_memory() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    total.map_or(1 << 30, |kib| (kib as f64 * 1024.0 * MEMORY_PART) as u64)
}
