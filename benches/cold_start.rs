//! What the first call of a function costs: with a stem worker ready, without one, and many first calls at once; beside what Docker
//! and the shim take at best. All rows take turns; what is worth reading is the ratios. `benches/README.md` explains the rows.
//!
//!     cargo bench --bench cold_start -- [--samples 5] [--burst 20] [--runtime NAME]… [--json FILE]

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is for"
)]

#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/container.rs"]
mod container;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/instance.rs"]
mod instance;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "rig/shim.rs"]
mod shim;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use hearth::clock;
use hearth::load::connection::{Answer, Connection};
use hearth::load::report::Report;
use hearth::load::tally::Tally;
use hearth::runtime::manifest::{self, Manifest};
use serde::Serialize;

use crate::container::Yard;
use crate::instance::{Instance, built, root, template};
use crate::shim::Shim;

const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Hearth brings the figures of its pool up to date every second.
const FIGURES: Duration = Duration::from_millis(1_200);

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Samples of every row
    #[arg(long, default_value_t = 5)]
    samples: u32,
    /// First calls at once; 0 leaves the burst out
    #[arg(long, default_value_t = 20)]
    burst: usize,
    /// Runtimes, by id or short name; all of them if none is named
    #[arg(long)]
    runtime: Vec<String>,
    /// Where to write everything as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&args))
}

/// One kind of start, and what it was seen to take.
#[derive(Debug, Default)]
struct Row {
    tally: Tally,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    row: &'a str,
    #[serde(flatten)]
    report: Report,
}

/// Rows in the order they are shown.
#[derive(Debug, Default)]
struct Rows {
    order: Vec<String>,
    rows: BTreeMap<String, Row>,
}

impl Rows {
    fn of(&mut self, name: &str) -> &mut Tally {
        if !self.rows.contains_key(name) {
            self.order.push(name.to_owned());
        }
        &mut self.rows.entry(name.to_owned()).or_default().tally
    }

    fn took(&mut self, name: &str, took: Duration) {
        self.of(name).answered(took, took, 200);
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for row in &self.order {
            if let Some(Row { tally }) = self.rows.get(row) {
                let report = Report::of(tally);
                lines.push(Line { row, report });
            }
        }
        lines
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let all = manifest::read_all(&root().join("runtimes"))?;
    let chosen = |m: &&Manifest| {
        args.runtime.is_empty() || args.runtime.iter().any(|name| m.answers_to(name))
    };
    let manifests: Vec<_> = all.iter().filter(chosen).collect();
    ensure!(!manifests.is_empty(), "no such runtime");
    // One Hearth with enough stem workers for a burst, one without any.
    let most = args.burst.max(2);
    let stem_min = format!("pool.stem_min={most}");
    let stem_max = format!("pool.stem_max={most}");
    let none = ["pool.stem_min=0", "pool.stem_max=0"].map(str::to_owned);
    let with = Instance::start(built(), &[stem_min, stem_max]).await?;
    let without = Instance::start(built(), &none).await;
    let yard = Yard::open(&format!("bench-{}", uuid::Uuid::new_v4().simple()))?;
    let mut rows = Rows::default();
    let result = match &without {
        Ok(without) => {
            let work = measure(args, &manifests, (&with, without), &yard, &mut rows);
            instance::interruptible(work).await
        }
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    with.stop().await?;
    if let Ok(without) = without {
        without.stop().await?;
    }
    yard.clear().await?;
    result?;
    print(&rows, &manifests);
    print_reached(&rows, &manifests);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows.lines())?)?;
    }
    Ok(())
}

async fn measure(
    args: &Args,
    manifests: &[&Manifest],
    (with, without): (&Instance, &Instance),
    yard: &Yard,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    for manifest in manifests {
        let id = manifest.id.as_str();
        for sample in 0..args.samples {
            bare(manifest, rows).await?;
            contained(manifest, yard, rows).await?;
            let name = format!("first-{sample}");
            with.quiet(id, args.burst.max(2)).await?;
            first_calls(
                with,
                id,
                from_ref(&name),
                "stem",
                &format!("{id} stem"),
                rows,
            )
            .await?;
            // The other one makes new stem workers for those that were taken: not at the same time.
            with.quiet(id, args.burst.max(2)).await?;
            without.quiet(id, 0).await?;
            first_calls(
                without,
                id,
                from_ref(&name),
                "cold",
                &format!("{id} cold"),
                rows,
            )
            .await?;
        }
        if args.burst > 0 {
            let names: Vec<_> = (0..args.burst).map(|n| format!("burst-{n}")).collect();
            let row = |kind: &str| format!("{id} {kind}, {} at once", args.burst);
            together(
                manifest,
                yard,
                (args.burst, &row("container"), &row("ready")),
                rows,
            )
            .await?;
            with.quiet(id, args.burst.max(2)).await?;
            first_calls(with, id, &names, "stem", &row("stem"), rows).await?;
            with.quiet(id, args.burst.max(2)).await?;
            without.quiet(id, 0).await?;
            first_calls(without, id, &names, "cold", &row("cold"), rows).await?;
        }
    }
    Ok(())
}

/// The shim as a plain process.
async fn bare(manifest: &Manifest, rows: &mut Rows) -> anyhow::Result<()> {
    let id = manifest.id.as_str();
    let shim = Shim::start(manifest, &template(id)).await?;
    rows.took(&format!("{id} process to hello"), shim.booted_in);
    rows.took(&format!("{id} init in a process"), shim.initialised_in);
    Ok(())
}

/// One container, made by the engine driver alone.
async fn contained(manifest: &Manifest, yard: &Yard, rows: &mut Rows) -> anyhow::Result<()> {
    let id = manifest.id.as_str();
    let begun = clock::now();
    let mut worker = yard.boot(manifest).await?;
    let booted = clock::now();
    yard.specialise(&mut worker, manifest, &template(id))
        .await?;
    let ready = clock::now();
    rows.took(
        &format!("{id} container"),
        booted.saturating_duration_since(begun),
    );
    rows.took(
        &format!("{id} init in a container"),
        ready.saturating_duration_since(booted),
    );
    yard.remove(&worker).await
}

/// As many containers at once as there are calls in a burst, each given its code as soon as it is there; the rows count from the start of all.
async fn together(
    manifest: &Manifest,
    yard: &Yard,
    (count, container, ready): (usize, &str, &str),
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let folder = template(manifest.id.as_str());
    let begun = clock::now();
    let so_far = || clock::now().saturating_duration_since(begun);
    let one = async || {
        let mut worker = yard.boot(manifest).await?;
        let booted = so_far();
        yard.specialise(&mut worker, manifest, &folder).await?;
        anyhow::Ok((booted, so_far(), worker))
    };
    for (booted, specialised, worker) in try_join_all((0..count).map(|_| one())).await? {
        rows.took(container, booted);
        rows.took(ready, specialised);
        yard.remove(&worker).await?;
    }
    Ok(())
}

/// Deploys functions nobody has called, calls each once, all together, and deletes them.
async fn first_calls(
    instance: &Instance,
    runtime: &str,
    names: &[String],
    kind: &str,
    row: &str,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    for name in names {
        instance.deploy(&template(runtime), name, runtime).await?;
    }
    let calls = names.iter().map(|name| first_call(instance, name));
    let answers = try_join_all(calls).await?;
    for (took, answer) in answers {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "{row}: {} {body}", answer.status);
        let start = answer.headers.get("x-hearth-start");
        let start = start
            .and_then(|v| v.to_str().ok())
            .context("a start kind")?;
        if start != kind {
            bail!("{row}: it was a {start} start");
        }
        let tally = rows.of(row);
        tally.answered(took, took, answer.status);
        tally.told(&answer.headers);
    }
    for name in names {
        instance.delete(name).await?;
    }
    Ok(())
}

async fn first_call(instance: &Instance, name: &str) -> anyhow::Result<(Duration, Answer)> {
    let call = instance.call(name)?;
    let mut connection = Connection::new(instance.origin(), CALL_TIMEOUT)?;
    let begun = clock::now();
    let answer = connection.call(&call).await;
    let took = clock::now().saturating_duration_since(begun);
    let answer = answer.map_err(|f| anyhow::anyhow!("{name}: {}", f.as_str()))?;
    Ok((took, answer))
}

impl Instance {
    /// Waits until nothing is being created or removed, and the stem workers are there.
    async fn quiet(&self, runtime: &str, stems: usize) -> anyhow::Result<()> {
        // So that the figures are younger than what was done last.
        tokio::time::sleep(FIGURES).await;
        let runtime = format!("runtime=\"{runtime}\"");
        let enough = |n: f64| n >= stems as f64;
        self.until("hearth_stem_workers", &runtime, enough).await?;
        self.until("hearth_creation_lanes", "", |n| n == 0.0)
            .await?;
        self.until("hearth_workers", "", |n| n == 0.0).await?;
        self.until("hearth_clearing", "", |n| n == 0.0).await
    }
}

fn print(rows: &Rows, manifests: &[&Manifest]) {
    println!(
        "\n  {:<34} {:>4} {:>9} {:>9} {:>9} {:>8}   where the time went (p50, ms)",
        "", "n", "p50 ms", "p90 ms", "max ms", "× limit"
    );
    let lines = rows.lines();
    let p50 = |name: &str| {
        let line = lines.iter().find(|line| line.row == name)?;
        Some(line.report.latency_ms.p50)
    };
    for line in &lines {
        let latency = &line.report.latency_ms;
        // What a start of this kind cannot do without.
        let limit = manifests.iter().find_map(|manifest| {
            let rest = line.row.strip_prefix(manifest.id.as_str())?;
            let id = &manifest.id;
            let init = || p50(&format!("{id} init in a container"));
            match rest.trim_start().split_once(", ") {
                None if rest == " stem" => init(),
                None if rest == " cold" => Some(p50(&format!("{id} container"))? + init()?),
                Some(("cold", at_once)) => p50(&format!("{id} ready, {at_once}")),
                _ => None,
            }
        });
        let ratio = limit.map_or_else(String::new, |limit| format!("{:.2}", latency.p50 / limit));
        let phases: Vec<_> = line
            .report
            .phases_ms
            .iter()
            .map(|(phase, p)| format!("{phase} {:.1}", p.p50))
            .collect();
        println!(
            "  {:<34} {:>4} {:>9.1} {:>9.1} {:>9.1} {ratio:>8}   {}",
            line.row,
            line.report.calls,
            latency.p50,
            latency.p90,
            latency.max,
            phases.join(", ")
        );
    }
}

/// What was set out to be reached, beside what a bare process takes and what Docker takes.
fn print_reached(rows: &Rows, manifests: &[&Manifest]) {
    println!("\n  {:<58} {:>9} {:>9}", "", "measured", "to reach");
    let lines = rows.lines();
    for manifest in manifests {
        let id = manifest.id.as_str();
        let of = |row: &str| {
            let line = lines
                .iter()
                .find(|line| line.row == format!("{id} {row}"))?;
            Some(&line.report.latency_ms)
        };
        let say = |what: &str, value: Option<f64>, bound: f64| {
            if let Some(value) = value {
                println!(
                    "  {:<58} {value:>7.2} × {:>9}",
                    format!("{id} {what}"),
                    format!("≤ {bound} ×")
                );
            }
        };
        let process = || Some(of("process to hello")?.p50 + of("init in a process")?.p50);
        let docker = || Some(of("container")?.p50 + of("init in a container")?.p50);
        let (stem, cold) = (of("stem"), of("cold"));
        say(
            "first call by a stem worker, p50, of a bare process",
            stem.zip(process()).map(|(s, p)| s.p50 / p),
            1.5,
        );
        say(
            "first call by a stem worker, slowest, of a bare process",
            stem.zip(process()).map(|(s, p)| s.max / p),
            3.0,
        );
        say(
            "first call without one, p50, of Docker and the shim",
            cold.zip(docker()).map(|(c, d)| c.p50 / d),
            1.1,
        );
        let slowest = |row: &str| {
            let line = lines
                .iter()
                .find(|line| line.row.starts_with(&format!("{id} {row}, ")))?;
            Some(line.report.latency_ms.max)
        };
        say(
            "many at once without one, slowest, of Docker's and the shim's",
            slowest("cold").zip(slowest("ready")).map(|(c, d)| c / d),
            1.1,
        );
    }
}
