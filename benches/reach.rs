//! What was set out to be reached, as one table: warm calls and large payloads as ratios to the least that can stand between HTTP and the
//! same shims, and what many functions cost. Every figure is the median of alternating runs. `cold_start` has the rows of first calls.
//!
//!     cargo bench --bench reach -- [--runs 5] [--seconds 1.5] [--runtime NAME]… [--functions 100000] [--json FILE]

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

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use hearth::clock;
use hearth::load::driver::{self, Options};
use hearth::load::origin::{Call, Origin};
use hearth::load::report::Report;
use hearth::load::usage;
use hearth::runtime::manifest::{self, Manifest};
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::floor::{Floor, Role};
use crate::instance::{Instance, built, root, template};

const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(2);
const PAYLOAD: &str = r#"{"name":"bench"}"#;
/// What a call may carry, less what stands around it.
const LARGE: usize = 6_000_000;
/// Functions of an instance that is idle.
const IDLE_FUNCTIONS: usize = 1_000;
/// Functions of the instance that many are compared with.
const FEW: usize = 10;
const IDLE: Duration = Duration::from_secs(10);
const REGISTERING: usize = 16;

#[derive(Debug, Clone, Parser)]
struct Args {
    /// How often every row has its turn
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long a turn is
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Runtimes, by id or short name; all that have an echo function if none is named
    #[arg(long)]
    runtime: Vec<String>,
    /// Functions that are registered at most; 0 leaves these rows out
    #[arg(long, default_value_t = 100_000)]
    functions: usize,
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

/// One turn's figures.
#[derive(Debug, Clone, Copy)]
struct Turn {
    per_second: f64,
    p50: f64,
    p99: f64,
    cpu_us: f64,
}

async fn turn(target: &Target, connections: usize, length: Duration) -> anyhow::Result<Turn> {
    let options = Options {
        origin: target.origin,
        calls: vec![target.call.clone()],
        connections,
        length,
        timeout: CALL_TIMEOUT,
    };
    let before = usage::processor_time(target.pid)?;
    let report = Report::of(&driver::closed(&options, usize::MAX).await?);
    let used = usage::processor_time(target.pid)?.saturating_sub(before);
    ensure!(
        report.errors() == 0 && report.calls > 0,
        "calls failed:\n{report}"
    );
    Ok(Turn {
        per_second: report.per_second,
        p50: report.latency_ms.p50,
        p99: report.latency_ms.p99,
        cpu_us: used.as_secs_f64() * 1e6 / report.calls as f64,
    })
}

/// The medians of two rows that take turns, after each had one that counts for nothing.
async fn alternating(
    args: &Args,
    rows: [&Target; 2],
    connections: usize,
) -> anyhow::Result<[Turn; 2]> {
    let length = Duration::from_secs_f64(args.seconds);
    let mut turns = [Vec::new(), Vec::new()];
    for row in rows {
        turn(row, connections, WARM_UP).await?;
    }
    for _ in 0..args.runs {
        for (row, turns) in rows.iter().zip(&mut turns) {
            turns.push(turn(row, connections, length).await?);
        }
    }
    Ok(turns.map(|turns| {
        let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
        Turn {
            per_second: of(|t| t.per_second),
            p50: of(|t| t.p50),
            p99: of(|t| t.p99),
            cpu_us: of(|t| t.cpu_us),
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
        ] {
            instance.deploy(&folder, name, id).await?;
            let path = folder.to_str().context("a path that is no text")?;
            let floor = Floor::start(&["proxy", id, path, "2", "--instance", containers]).await?;
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
            } else {
                let [c, h] = alternating(args, rows, 2).await?;
                lines.push(Line::least(
                    format!("{id}: 6 MB each way, calls/s"),
                    h.per_second / c.per_second,
                    "×",
                    0.8,
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
    let text = std::fs::read_to_string(format!("/proc/{}/status", instance.pid()?))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .context("VmRSS")?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kib * 1024.0)
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
