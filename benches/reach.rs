//! What was set out to be reached, as one table: warm calls and large payloads as ratios to the least that can stand between HTTP and the
//! same shims, and what many functions cost. Every figure is the median of alternating runs. `cold_start` has the rows of first calls.
//!
//!     cargo bench --bench reach -- [--runs 5] [--seconds 1.5] [--runtime NAME]… [--functions 100000] [--workers 300] [--json FILE]

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is for"
)]

#[allow(dead_code, reason = "the other benches need the rest")]
#[path = "rig/container.rs"]
mod container;
#[allow(dead_code, reason = "the other benches need the rest")]
#[path = "rig/floor.rs"]
mod floor;
#[allow(dead_code, reason = "the other benches need the rest")]
#[path = "rig/instance.rs"]
mod instance;
#[allow(dead_code, reason = "the other benches need the rest")]
#[path = "rig/shim.rs"]
mod shim;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use hearth::clock;
use hearth::load::connection::Connection;
use hearth::load::driver::{self, Options};
use hearth::load::origin::{Call, Origin};
use hearth::load::report::Report;
use hearth::load::tally::Tally;
use hearth::load::usage;
use hearth::runtime::manifest::{self, Manifest};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::floor::{Floor, Role};
use crate::instance::{Instance, built, root, template};

const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(2);
/// How many turns each of two rows has in a run.
const TURNS: u32 = 5;
const FLOOR_WORKERS: usize = 2;
const PAYLOAD: &str = r#"{"name":"bench"}"#;
/// What a call may carry, less what stands around it.
const LARGE: usize = 6_000_000;
/// What it may carry.
const LARGE_MOST: usize = 6 * 1024 * 1024;
const LARGE_AT_ONCE: usize = 2;
/// Calls whose first byte is waited for, in each turn, and before they count.
const FIRST_BYTES: usize = 40;
const FIRST_BYTES_WARM_UP: usize = 40;
/// Functions of an instance that is idle.
const IDLE_FUNCTIONS: usize = 1_000;
/// Functions of the instance that many are compared with.
const FEW: usize = 10;
const IDLE: Duration = Duration::from_secs(10);
const REGISTERING: usize = 16;
const PYTHON: &str = "python3.13";
/// Until that many workers are there.
const MANY_WORKERS: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Clone, Parser)]
struct Args {
    /// How often every row is measured
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long a run is, for each row
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Runtimes, by id or short name; all that have an echo function if none is named
    #[arg(long)]
    runtime: Vec<String>,
    /// Functions that are registered at most; 0 leaves these rows out
    #[arg(long, default_value_t = 100_000)]
    functions: usize,
    /// Workers that are kept idle; 0 leaves this row out
    #[arg(long, default_value_t = 300)]
    workers: usize,
    /// Where to write the table as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    bound: f64,
    /// The bound is the most, or else the least.
    at_most: bool,
}

impl Line {
    fn most(what: impl Into<String>, value: f64, unit: &'static str, bound: f64) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            bound,
            at_most: true,
        }
    }

    fn least(what: impl Into<String>, value: f64, unit: &'static str, bound: f64) -> Self {
        Self {
            at_most: false,
            ..Self::most(what, value, unit, bound)
        }
    }

    fn reached(&self) -> bool {
        match self.at_most {
            true => self.value <= self.bound,
            false => self.value >= self.bound,
        }
    }
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

async fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.runs > 0 && args.seconds > 0.0,
        "runs and seconds must be above 0"
    );
    let mut lines = Vec::new();
    let containers = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let result = instance::interruptible(async {
        for manifest in manifest::read_all(&root().join("runtimes"))? {
            let wanted =
                args.runtime.is_empty() || args.runtime.iter().any(|n| manifest.answers_to(n));
            if wanted && echo(&manifest).is_dir() {
                warm(args, &manifest, &containers, &mut lines).await?;
            }
        }
        if args.functions > 0 {
            idle(&mut lines).await?;
            many(args, &mut lines).await?;
        }
        if args.workers > 0 {
            workers(args.workers, &mut lines).await?;
        }
        Ok(())
    })
    .await;
    let directory = tempfile::tempdir()?;
    let engine = container::engine(&containers, directory.path())?;
    container::clear(&engine).await?;
    result?;
    print(&lines);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&lines)?)?;
    }
    Ok(())
}

fn print(lines: &[Line]) {
    println!("\n{:<66} {:>10} {:>12}", "", "measured", "to reach");
    for line in lines {
        let sign = if line.at_most { "≤" } else { "≥" };
        let verdict = if line.reached() { "reached" } else { "missed" };
        let bound = format!("{sign} {}", line.bound);
        println!(
            "{:<66} {:>10.3} {bound:>12} {} {verdict}",
            line.what, line.value, line.unit
        );
    }
}

/// Whom calls are sent to.
#[derive(Debug, Clone)]
struct Target {
    origin: Origin,
    call: Call,
    pid: u32,
}

/// A run's figures.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    p50: f64,
    p99: f64,
    cpu_us: f64,
}

/// What the turns of a run come to.
#[derive(Debug, Default)]
struct Counted {
    tally: Tally,
    processor: Duration,
}

impl Counted {
    async fn turn(
        &mut self,
        target: &Target,
        connections: usize,
        length: Duration,
    ) -> anyhow::Result<()> {
        let options = Options {
            origin: target.origin,
            calls: vec![target.call.clone()],
            connections,
            length,
            timeout: CALL_TIMEOUT,
            told: false,
        };
        let before = usage::processor_time(target.pid)?;
        let tally = driver::closed(&options, usize::MAX).await?;
        self.processor += usage::processor_time(target.pid)?.saturating_sub(before);
        self.tally.add(&tally);
        Ok(())
    }

    fn run(&self) -> anyhow::Result<Run> {
        let report = Report::of(&self.tally);
        ensure!(
            report.errors() == 0 && report.calls > 0,
            "calls failed:\n{report}"
        );
        Ok(Run {
            per_second: report.per_second,
            p50: report.latency_ms.p50,
            p99: report.latency_ms.p99,
            cpu_us: self.processor.as_secs_f64() * 1e6 / report.calls as f64,
        })
    }
}

/// The medians of two rows' runs. In a run both take turns, so that what else the machine does meanwhile is done to both.
async fn alternating(
    args: &Args,
    rows: [&Target; 2],
    connections: usize,
) -> anyhow::Result<[Run; 2]> {
    let length = Duration::from_secs_f64(args.seconds) / TURNS;
    for row in rows {
        Counted::default().turn(row, connections, WARM_UP).await?;
    }
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..args.runs {
        let mut counted = [Counted::default(), Counted::default()];
        for _ in 0..TURNS {
            for (row, counted) in rows.iter().zip(&mut counted) {
                counted.turn(row, connections, length).await?;
            }
        }
        for (counted, runs) in counted.iter().zip(&mut runs) {
            runs.push(counted.run()?);
        }
    }
    Ok(runs.map(|runs| {
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        Run {
            per_second: of(|run| run.per_second),
            p50: of(|run| run.p50),
            p99: of(|run| run.p99),
            cpu_us: of(|run| run.cpu_us),
        }
    }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn echo(manifest: &Manifest) -> PathBuf {
    root().join("benches/echo").join(manifest.id.as_str())
}

fn streaming(manifest: &Manifest) -> PathBuf {
    root().join("benches/stream").join(manifest.id.as_str())
}

/// What it takes until the first piece of an answer is there: medians of calls that take turns.
async fn first_bytes(args: &Args, rows: [(&Target, &str); 2]) -> anyhow::Result<[f64; 2]> {
    let mut connections = Vec::new();
    for (target, _) in rows {
        let stream = TcpStream::connect(target.origin.address()).await?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    let mut took = [Vec::new(), Vec::new()];
    for turn in 0..FIRST_BYTES_WARM_UP + args.runs * FIRST_BYTES {
        for (row, (_, request)) in rows.iter().enumerate() {
            let first = first_byte(&mut connections[row], request).await?;
            if turn >= FIRST_BYTES_WARM_UP {
                took[row].push(first.as_secs_f64());
            }
        }
    }
    Ok(took.map(median))
}

/// Sends a request and reads the whole answer; says when there was something behind its head.
async fn first_byte(stream: &mut TcpStream, request: &str) -> anyhow::Result<Duration> {
    let begun = clock::now();
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, mut first) = (Vec::new(), None);
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        ensure!(
            stream.read_buf(&mut answer).await? > 0,
            "the connection ended"
        );
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        if first.is_none() && head.is_some_and(|head| answer.len() > head + 4) {
            first = Some(clock::now().saturating_duration_since(begun));
            ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the call failed");
        }
    }
    first.context("an answer in pieces")
}

/// Warm calls and large payloads of one runtime, beside the floor with the same shims in containers.
async fn warm(
    args: &Args,
    manifest: &Manifest,
    containers: &str,
    lines: &mut Vec<Line>,
) -> anyhow::Result<()> {
    let id = manifest.id.as_str();
    let instance = Instance::start(built(), &[]).await?;
    let measured = async {
        for (name, folder, body) in [
            ("hello", template(id), PAYLOAD.to_owned()),
            ("echo", echo(manifest), format!("\"{}\"", "x".repeat(LARGE))),
            ("stream", streaming(manifest), PAYLOAD.to_owned()),
        ] {
            instance.deploy(&folder, name, id).await?;
            let path = folder.to_str().context("a path that is no text")?;
            let count = FLOOR_WORKERS.to_string();
            let role = ["proxy", id, path, &count, "--instance", containers];
            let floor = Floor::start(&role).await?;
            let least = Target {
                origin: floor.origin,
                call: Call::post("/", body.clone())?,
                pid: floor.pid()?,
            };
            let hearth = Target {
                origin: instance.origin(),
                call: instance.call_with(name, body)?,
                pid: instance.pid()?,
            };
            let rows = [&least, &hearth];
            if name == "hello" {
                let [c, h] = alternating(args, rows, 1).await?;
                lines.push(Line::most(
                    format!("{id}: warm, 1 connection, p50"),
                    h.p50 / c.p50,
                    "×",
                    1.15,
                ));
                lines.push(Line::most(
                    format!("{id}: warm, 1 connection, CPU per call"),
                    h.cpu_us / c.cpu_us,
                    "×",
                    1.3,
                ));
                let [c, h] = alternating(args, rows, 32).await?;
                // It may have more than the floor, if it thinks so.
                let workers = instance.metric("hearth_workers", "").await?;
                println!("{id}: {workers} workers of Hearth's beside {FLOOR_WORKERS} of the floor");
                lines.push(Line::least(
                    format!("{id}: warm, 32 connections, calls/s"),
                    h.per_second / c.per_second,
                    "×",
                    0.9,
                ));
                lines.push(Line::most(
                    format!("{id}: warm, 32 connections, p99"),
                    h.p99 / c.p99,
                    "×",
                    1.5,
                ));
            } else if name == "stream" {
                let request = instance.request(name, PAYLOAD);
                let floors = instance::plain("/", &[], PAYLOAD);
                let [c, h] = first_bytes(args, [(&least, &floors), (&hearth, &request)]).await?;
                lines.push(Line::most(
                    format!("{id}: streamed, first byte, p50"),
                    h / c,
                    "×",
                    1.3,
                ));
            } else {
                forget_peak(&instance)?;
                let before = resident(&instance)?;
                let [c, h] = alternating(args, rows, LARGE_AT_ONCE).await?;
                let taken = peak(&instance)? - before;
                lines.push(Line::least(
                    format!("{id}: 6 MB each way, calls/s"),
                    h.per_second / c.per_second,
                    "×",
                    0.8,
                ));
                // Its payload, its answer, and as much once more.
                lines.push(Line::most(
                    format!("{id}: 6 MB each way, memory of each call beside the limit"),
                    taken / (LARGE_AT_ONCE * LARGE_MOST) as f64,
                    "×",
                    3.0,
                ));
            }
            floor.stop().await?;
        }
        Ok::<_, anyhow::Error>(())
    }
    .await;
    instance.stop().await?;
    measured
}

/// A Redis that keeps nothing: registering many functions is not what is measured.
struct Redis {
    directory: tempfile::TempDir,
    _child: Child,
}

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--unixsocket",
                "redis.sock",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server cannot be started; scripts/setup.sh sees to it")?;
        Ok(Self {
            directory,
            _child: child,
        })
    }

    /// A Hearth on it, and how long it took to be ready.
    async fn hearth(&self) -> anyhow::Result<(Instance, Duration)> {
        let socket = self.directory.path().join("redis.sock");
        let begun = clock::now();
        let url = format!("store.url=redis+unix://{}", socket.display());
        let instance = Instance::start(built(), &[url]).await?;
        Ok((instance, clock::now().saturating_duration_since(begun)))
    }
}

/// Registers functions up to so many, all of one runtime and with the same code.
async fn register(instance: &Instance, runtime: &str, many: usize) -> anyhow::Result<()> {
    let code = std::fs::read_dir(root().join("benches/echo").join(runtime))?
        .next()
        .context("an echo function")??;
    let code = std::fs::read_to_string(code.path())?;
    let calls = (0..many).map(|n| {
        let body =
            serde_json::json!({"name": format!("many-{n}"), "language": runtime, "code": code});
        instance.post("/functions/", body.to_string())
    });
    let options = Options {
        origin: instance.origin(),
        calls: calls.collect::<anyhow::Result<_>>()?,
        connections: REGISTERING,
        length: Duration::from_secs(20 * 60),
        timeout: CALL_TIMEOUT,
        told: false,
    };
    let report = Report::of(&driver::closed(&options, many).await?);
    ensure!(
        report.errors() == 0 && report.calls == many as u64,
        "not all were registered:\n{report}"
    );
    println!(
        "{many} functions registered, {:.0} a second",
        report.per_second
    );
    Ok(())
}

fn resident(instance: &Instance) -> anyhow::Result<f64> {
    status(instance, "VmRSS:")
}

/// The most that was resident since that was forgotten.
fn peak(instance: &Instance) -> anyhow::Result<f64> {
    status(instance, "VmHWM:")
}

fn forget_peak(instance: &Instance) -> anyhow::Result<()> {
    let path = format!("/proc/{}/clear_refs", instance.pid()?);
    // See proc_pid_clear_refs(5).
    Ok(std::fs::write(path, "5")?)
}

fn status(instance: &Instance, name: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", instance.pid()?))?;
    kibibytes(&text, name)
}

fn first_runtime() -> anyhow::Result<String> {
    let all = manifest::read_all(&root().join("runtimes"))?;
    let with_echo = all.iter().find(|manifest| echo(manifest).is_dir());
    Ok(with_echo
        .context("a runtime with an echo function")?
        .id
        .to_string())
}

/// What a Hearth takes that nobody calls.
async fn idle(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let redis = Redis::start()?;
    let (instance, _) = redis.hearth().await?;
    register(&instance, &first_runtime()?, IDLE_FUNCTIONS).await?;
    instance.stop().await?;
    let (instance, _) = redis.hearth().await?;
    // What the start leaves to do, stem workers first, is done.
    tokio::time::sleep(IDLE).await;
    let before = usage::processor_time(instance.pid()?)?;
    tokio::time::sleep(IDLE).await;
    let used = usage::processor_time(instance.pid()?)?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
    lines.push(Line::most(
        format!("idle, {IDLE_FUNCTIONS} functions, resident"),
        resident(&instance)? / 1e6,
        "MB",
        25.0,
    ));
    lines.push(Line::most("idle, of one processor", percent, "%", 0.5));
    instance.stop().await
}

/// What workers cost that wait for a function: all that the machine lacks since, beside what their processes and containerd's take.
async fn workers(count: usize, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let runtimes = tempfile::tempdir()?;
    let python = root().join("runtimes").join(PYTHON);
    std::os::unix::fs::symlink(python, runtimes.path().join(PYTHON))?;
    let settings = [
        format!("pool.stem_min={count}"),
        format!("pool.stem_max={count}"),
        // They are sized for more than they take.
        "pool.memory_budget_mb=1000000".to_owned(),
    ];
    let before = available()?;
    let instance = Instance::start_with(built(), runtimes.path(), &settings).await?;
    let all = |n: f64| n >= count as f64;
    let measured = async {
        instance
            .within(MANY_WORKERS, "hearth_stem_workers", "", all)
            .await?;
        tokio::time::sleep(IDLE).await;
        instance.until("hearth_stem_workers", "", all).await?;
        let taken = before - available()? - resident(&instance)?;
        let own = in_containers()?;
        lines.push(Line::most(
            format!("{count} idle workers, memory of each beside its processes"),
            taken / own,
            "×",
            1.1,
        ));
        println!(
            "{count} idle workers: {:.1} MB each, of which {:.1} MB their process and containerd's shim",
            taken / 1e6 / count as f64,
            own / 1e6 / count as f64
        );
        instance.deploy(&template(PYTHON), "hello", PYTHON).await?;
        let call = instance.call("hello")?;
        let answer = Connection::new(instance.origin(), CALL_TIMEOUT)?.call(&call).await;
        let answer = answer.map_err(|failure| anyhow::anyhow!(failure.as_str()))?;
        ensure!(answer.status == 200, "a call failed beside {count} workers");
        Ok::<_, anyhow::Error>(())
    }
    .await;
    instance.stop().await?;
    measured
}

fn available() -> anyhow::Result<f64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo")?, "MemAvailable:")
}

/// A figure of a text like /proc's, in bytes.
fn kibibytes(text: &str, name: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| name.to_owned())?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}

/// What the kernel keeps of each thread for itself, on x86-64.
const KERNEL_STACK: f64 = 16.0 * 1024.0;

/// What all of containerd's shims take, and the processes they started: each its part of what they share, its page tables and its threads' stacks
/// in the kernel. Any process takes these, in a container or not.
fn in_containers() -> anyhow::Result<f64> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Others end meanwhile.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(pid), Some(parent), Some(name)) =
            (field("Pid:"), field("PPid:"), field("Name:"))
        {
            let shim = name.trim().starts_with("containerd-shim");
            parents.insert(pid.trim().to_owned(), (parent.trim().to_owned(), shim));
        }
    }
    let is_shim = |pid: &String| parents.get(pid).is_some_and(|(_, shim)| *shim);
    let ours = (parents.iter()).filter(|(pid, (parent, _))| is_shim(pid) || is_shim(parent));
    let mut sum = 0.0;
    for (pid, _) in ours {
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum += kibibytes(&memory, "Pss:")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let threads = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"));
        let threads: f64 = threads.context("Threads:")?.trim().parse()?;
        sum += kibibytes(&status, "VmPTE:")? + threads * KERNEL_STACK;
    }
    Ok(sum)
}

/// What many functions cost, beside few.
async fn many(args: &Args, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let runtime = first_runtime()?;
    let mut instances = Vec::new();
    for count in [FEW, args.functions] {
        let redis = Redis::start()?;
        let (instance, _) = redis.hearth().await?;
        register(&instance, &runtime, count).await?;
        instance.stop().await?;
        let (instance, took) = redis.hearth().await?;
        instances.push((redis, instance, took));
    }
    let measured = async {
        let target = |instance: &Instance| {
            Ok::<_, anyhow::Error>(Target {
                origin: instance.origin(),
                call: instance.call("many-0")?,
                pid: instance.pid()?,
            })
        };
        let (few, full) = (&instances[0], &instances[1]);
        let memory = resident(&full.1)? - resident(&few.1)?;
        let [f, m] = alternating(args, [&target(&few.1)?, &target(&full.1)?], 1).await?;
        let count = args.functions;
        lines.push(Line::most(
            format!("{count} functions, warm p50 beside {FEW}"),
            m.p50 / f.p50,
            "×",
            1.05,
        ));
        lines.push(Line::most(
            format!("{count} functions, memory of each"),
            memory / (count.saturating_sub(FEW)).max(1) as f64,
            "B",
            2048.0,
        ));
        lines.push(Line::most(
            format!("{count} functions, start-up"),
            full.2.as_secs_f64(),
            "s",
            2.0,
        ));
        Ok::<_, anyhow::Error>(())
    }
    .await;
    for (_redis, instance, _) in instances {
        instance.stop().await?;
    }
    measured
}
