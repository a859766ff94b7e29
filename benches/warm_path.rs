//! What a warm call costs, always beside what it could cost at best: a bare HTTP server, the shim alone, and the least that can
//! stand between the two. All rows are measured in turn, in slices, so that what else the machine does hits them all alike;
//! what is worth reading is the ratios. `benches/README.md` explains the rows.
//!
//!     cargo bench --bench warm_path -- [--connections 1,8,32] [--seconds 1] [--rounds 3] [--runtime NAME]…
//!                                      [--before PROGRAM] [--rate 300] [--trace FILE --speed 60] [--json FILE]

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is for"
)]

#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/container.rs"]
mod container;
#[path = "rig/floor.rs"]
mod floor;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/instance.rs"]
mod instance;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/shim.rs"]
mod shim;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use hearth::clock;
use hearth::domain::id::RequestId;
use hearth::load::driver::{self, Options};
use hearth::load::origin::{Call, Origin};
use hearth::load::plan::{self, Arrival, Bound};
use hearth::load::report::Report;
use hearth::load::tally::Tally;
use hearth::load::trace;
use hearth::load::usage;
use hearth::runtime::manifest::{self, Manifest};
use hearth::worker::Worker;
use hearth::worker::frame::Kind;
use serde::Serialize;

use crate::container::Yard;
use crate::floor::{Floor, Role};
use crate::instance::{Instance, built, root, template};
use crate::shim::Shim;

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Before anything is counted, so that the workers a load needs are there and every path was taken.
const WARM_UP: Duration = Duration::from_secs(3);
/// Calls of an open loop that may be under way at once.
const OPEN_CONNECTIONS: usize = 64;
const SEED: u64 = 20_260_101;
const PAYLOAD: &str = r#"{"name":"bench"}"#;

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Calls under way at once, one set of rows each
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    connections: Vec<usize>,
    /// How long a row's slice is
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often every row has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Runtimes, by id or short name; all of them if none is named
    #[arg(long)]
    runtime: Vec<String>,
    /// Calls per second of the open loop; 0 leaves it out
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// A recorded trace for the open loop, in place of independent callers
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How much faster the trace is replayed than it was recorded
    #[arg(long, default_value_t = 60.0)]
    speed: f64,
    /// Another built `hearth` to measure in the same run: what it was before a change
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// Leave out the rows whose shims are in containers of their own
    #[arg(long)]
    no_contained: bool,
    /// Leave out the limit rows: for looking at Hearth with a profiler
    #[arg(long)]
    hearth_only: bool,
    /// A setting for `hearth serve`; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// A setting for the program given with --before; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set_before: Vec<String>,
    /// Where to write everything as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if let Some(role) = args.role.take() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(floor::live(role));
    }
    // One thread sends the load, and leaves the other processors to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&args))
}

/// What a row sends its calls to.
enum Target {
    /// A server, and the process whose processor time is counted.
    Server {
        origin: Origin,
        call: Box<Call>,
        pid: u32,
    },
    /// A shim, one call at a time.
    Shim(Box<Shim>),
    /// The same in a worker's container.
    Contained(Box<Contained>),
}

struct Contained {
    worker: Worker,
    stream: u32,
    /// Its directory is in here.
    _yard: Yard,
}

struct Row {
    name: String,
    /// The row this one is compared with: the least it needs.
    limit: Option<String>,
    target: Target,
    tally: Tally,
    processor: Duration,
}

#[derive(Debug, Serialize)]
struct Line {
    row: String,
    connections: usize,
    open_loop: bool,
    cpu_us_per_call: Option<f64>,
    #[serde(flatten)]
    report: Report,
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let all = manifest::read_all(&root().join("runtimes"))?;
    let chosen = |m: &&Manifest| {
        args.runtime.is_empty() || args.runtime.iter().any(|name| m.answers_to(name))
    };
    let manifests: Vec<_> = all.iter().filter(chosen).collect();
    ensure!(!manifests.is_empty(), "no such runtime");
    let mut instances = vec![("hearth", Instance::start(built(), &args.set).await?)];
    if let Some(program) = &args.before {
        match Instance::start(program, &args.set_before).await {
            Ok(before) => instances.push(("hearth before", before)),
            Err(error) => {
                for (_, instance) in instances {
                    instance.stop().await?;
                }
                return Err(error);
            }
        }
    }
    let containers = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let mut floors = Vec::new();
    let result = instance::interruptible(async {
        let mut rows = rows(args, &manifests, &instances, &containers, &mut floors).await?;
        measure(args, &mut rows).await
    })
    .await;
    for floor in floors {
        floor.stop().await?;
    }
    for (_, instance) in instances {
        instance.stop().await?;
    }
    let directory = tempfile::tempdir()?;
    let engine = container::engine(&containers, directory.path())?;
    container::clear(&engine).await?;
    let lines = result?;
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&lines)?)?;
    }
    let errors: u64 = lines.iter().map(|line| line.report.errors()).sum();
    ensure!(errors == 0, "{errors} calls failed");
    Ok(())
}

/// Everything that is measured, started and warm.
async fn rows(
    args: &Args,
    manifests: &[&Manifest],
    instances: &[(&str, Instance)],
    containers: &str,
    floors: &mut Vec<Floor>,
) -> anyhow::Result<Vec<Row>> {
    let cores = std::thread::available_parallelism()?.get().to_string();
    let mut rows = Vec::new();
    if !args.hearth_only {
        let constant = Floor::start(&["constant"]).await?;
        rows.push(Row::of_floor("bare hyper", &constant)?);
        floors.push(constant);
    }
    for manifest in manifests {
        let id = manifest.id.as_str();
        let folder = template(id);
        let mut limit = format!("{id} floor");
        if !args.hearth_only {
            let shim = Shim::start(manifest, &folder).await?;
            rows.push(Row::new(
                format!("{id} shim"),
                None,
                Target::Shim(Box::new(shim)),
            ));
            let path = folder.to_str().context("a path that is no text")?;
            let proxy = ["proxy", id, path, &cores];
            let bare = Floor::start(&proxy).await?;
            rows.push(Row::of_floor(&limit, &bare)?);
            floors.push(bare);
            if !args.no_contained {
                let contained = [&proxy[..], &["--instance", containers]].concat();
                let contained = Floor::start(&contained).await?;
                let name = format!("{id} floor, contained");
                let mut row = Row::of_floor(&name, &contained)?;
                row.limit = Some(std::mem::replace(&mut limit, name));
                rows.push(row);
                floors.push(contained);
                let single = ["proxy", id, path, "1", "--instance", containers];
                let single = Floor::start(&single).await?;
                rows.push(Row::of_floor(&format!("{id} floor, 1 worker"), &single)?);
                floors.push(single);
                let contained = Contained::start(manifest, &folder, containers).await?;
                rows.push(Row::new(
                    format!("{id} shim, contained"),
                    None,
                    Target::Contained(Box::new(contained)),
                ));
            }
        }
        // Two functions: the template prints a line per call, the other one nothing.
        for (suffix, folder) in [("", folder), (", silent", silent(id))] {
            let name = format!("hello{suffix} {id}").replace([' ', '.', ','], "-");
            for (program, instance) in instances {
                instance.deploy(&folder, &name, id).await?;
                let target = Target::Server {
                    origin: instance.origin(),
                    call: Box::new(instance.call(&name)?),
                    pid: instance.pid()?,
                };
                let row = format!("{id} {program}{suffix}");
                rows.push(Row::new(row, Some(limit.clone()), target));
            }
        }
    }
    let most = args.connections.iter().copied().max().unwrap_or(1);
    for row in &mut rows {
        row.slice(&Load::Closed(most), WARM_UP).await?;
        row.reset();
    }
    for (program, instance) in instances {
        instance
            .until("hearth_workers", "starting", |n| n == 0.0)
            .await?;
        let workers = instance.metric("hearth_workers", "").await?;
        println!("{program} has {workers} workers, this machine {cores} processors");
    }
    Ok(rows)
}

/// A handler that prints nothing.
fn silent(runtime: &str) -> PathBuf {
    root().join("benches/silent").join(runtime)
}

enum Load {
    Closed(usize),
    Open(Vec<Arrival>),
}

async fn measure(args: &Args, rows: &mut [Row]) -> anyhow::Result<Vec<Line>> {
    let slice = Duration::from_secs_f64(args.seconds);
    let mut lines = Vec::new();
    let loads = args.connections.iter().map(|n| Load::Closed(*n));
    for load in loads.chain(open_loop(args, slice)?) {
        for _ in 0..args.rounds {
            for row in rows.iter_mut().filter(|row| row.can_take(&load)) {
                row.slice(&load, slice).await?;
            }
        }
        let taken: Vec<_> = rows.iter().filter(|row| row.can_take(&load)).collect();
        print(&load, &taken);
        lines.extend(taken.iter().map(|row| row.line(&load)));
        rows.iter_mut().for_each(Row::reset);
    }
    Ok(lines)
}

fn open_loop(args: &Args, length: Duration) -> anyhow::Result<Option<Load>> {
    let bound = Bound {
        calls: plan::ARRIVALS_MAX,
        length,
    };
    if let Some(path) = &args.trace {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let trace = trace::read(&text, SEED)?;
        let arrivals = plan::replay(&trace.arrivals, args.speed, bound);
        ensure!(
            !arrivals.is_empty(),
            "nothing of the trace is in a slice's time"
        );
        return Ok(Some(Load::Open(arrivals)));
    }
    Ok((args.rate > 0.0).then(|| Load::Open(plan::poisson(args.rate, SEED, bound))))
}

impl Row {
    fn new(name: String, limit: Option<String>, target: Target) -> Self {
        Self {
            name,
            limit,
            target,
            tally: Tally::default(),
            processor: Duration::ZERO,
        }
    }

    fn of_floor(name: &str, floor: &Floor) -> anyhow::Result<Self> {
        let target = Target::Server {
            origin: floor.origin,
            call: Box::new(Call::post("/", PAYLOAD)?),
            pid: floor.pid()?,
        };
        Ok(Self::new(name.to_owned(), None, target))
    }

    fn can_take(&self, load: &Load) -> bool {
        matches!(
            (&self.target, load),
            (Target::Server { .. }, _) | (_, Load::Closed(1))
        )
    }

    /// One turn.
    async fn slice(&mut self, load: &Load, length: Duration) -> anyhow::Result<()> {
        match &mut self.target {
            Target::Shim(shim) => {
                let call = async || shim.invoke(PAYLOAD.as_bytes()).map(drop);
                self.tally.add(&alone(length, call).await?);
            }
            Target::Contained(contained) => {
                let tally = alone(length, async || contained.call().await).await?;
                self.tally.add(&tally);
            }
            Target::Server { origin, call, pid } => {
                let options = Options {
                    origin: *origin,
                    calls: vec![(**call).clone()],
                    connections: match load {
                        Load::Closed(connections) => *connections,
                        Load::Open(_) => OPEN_CONNECTIONS,
                    },
                    // What is due in the end of an open loop is sent, even if late.
                    length: match load {
                        Load::Closed(_) => length,
                        Load::Open(_) => length * 2,
                    },
                    timeout: CALL_TIMEOUT,
                    told: matches!(load, Load::Open(_)),
                };
                let before = usage::processor_time(*pid)?;
                let tally = match load {
                    Load::Closed(_) => driver::closed(&options, usize::MAX).await?,
                    Load::Open(arrivals) => driver::open(&options, arrivals).await?,
                };
                self.processor += usage::processor_time(*pid)?.saturating_sub(before);
                self.tally.add(&tally);
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.tally = Tally::default();
        self.processor = Duration::ZERO;
    }

    fn line(&self, load: &Load) -> Line {
        let report = Report::of(&self.tally);
        let server = matches!(self.target, Target::Server { .. });
        let per_call = self.processor.as_secs_f64() * 1e6 / (report.calls.max(1) as f64);
        Line {
            row: self.name.clone(),
            connections: match load {
                Load::Closed(connections) => *connections,
                Load::Open(_) => OPEN_CONNECTIONS,
            },
            open_loop: matches!(load, Load::Open(_)),
            cpu_us_per_call: server.then_some(per_call),
            report,
        }
    }
}

impl Contained {
    async fn start(manifest: &Manifest, folder: &Path, instance: &str) -> anyhow::Result<Self> {
        let yard = Yard::open(instance)?;
        let mut worker = yard.boot(manifest).await?;
        yard.specialise(&mut worker, manifest, folder).await?;
        Ok(Self {
            worker,
            stream: 0,
            _yard: yard,
        })
    }

    async fn call(&mut self) -> anyhow::Result<()> {
        self.stream += 1;
        let deadline = clock::unix_millis() + CALL_TIMEOUT.as_millis() as u64;
        let (connection, id) = (&mut self.worker.connection, RequestId::generate());
        let payload = PAYLOAD.as_bytes();
        connection
            .send_invoke(self.stream, deadline, id, b"", payload, false)
            .await?;
        connection
            .expect(Kind::ResponseEnd, self.stream, "the answer")
            .await?;
        Ok(())
    }
}

/// Calls one after the other, by a thread that does nothing else.
async fn alone(
    length: Duration,
    mut call: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Tally> {
    let begun = clock::now();
    let mut tally = Tally::default();
    let mut sent = begun;
    while sent.saturating_duration_since(begun) < length {
        call().await?;
        let now = clock::now();
        let took = now.saturating_duration_since(sent);
        tally.answered(took, took, 200);
        sent = now;
    }
    tally.finish(sent.saturating_duration_since(begun), 0);
    Ok(tally)
}

fn print(load: &Load, rows: &[&Row]) {
    match load {
        Load::Closed(1) => println!("\none connection, closed loop"),
        Load::Closed(n) => println!("\n{n} connections, closed loop"),
        Load::Open(plan) => println!("\nopen loop, {} calls a slice", plan.len()),
    }
    println!(
        "  {:<28} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>6}",
        "", "calls/s", "p50 ms", "p99 ms", "CPU µs", "×calls", "×p50", "×p99", "errors"
    );
    let lines: Vec<_> = rows.iter().map(|row| row.line(load)).collect();
    for (row, line) in rows.iter().zip(&lines) {
        let Line { report, .. } = line;
        let latency = &report.latency_ms;
        let cpu = line
            .cpu_us_per_call
            .map_or_else(String::new, |us| format!("{us:.0}"));
        let limit = lines
            .iter()
            .find(|limit| Some(&limit.row) == row.limit.as_ref());
        let ratios = limit.map_or_else(String::new, |limit| {
            let least = &limit.report;
            format!(
                "{:>8.2} {:>8.2} {:>8.2}",
                report.per_second / least.per_second,
                latency.p50 / least.latency_ms.p50,
                latency.p99 / least.latency_ms.p99
            )
        });
        println!(
            "  {:<28} {:>9.0} {:>9.3} {:>9.3} {:>9} {ratios:>26} {:>6}",
            row.name,
            report.per_second,
            latency.p50,
            latency.p99,
            cpu,
            report.errors() + report.unsent
        );
    }
    for line in &lines {
        let phases = &line.report.phases_ms;
        if let (Some(queue), Some(run)) = (phases.get("queue"), phases.get("run")) {
            println!(
                "  {:<28} of it, by Server-Timing: queue p50 {:.3} ms, run p50 {:.3} ms; starts {:?}",
                line.row, queue.p50, run.p50, line.report.starts
            );
        }
    }
}
