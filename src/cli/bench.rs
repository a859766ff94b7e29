//! `hearth bench`: puts a load on functions of the server on this machine and says what came of it: a table, one JSON document, one
//! page. The load itself is `load`'s; here are the flags, the bar and the words.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::args::Global;
use crate::cli::error::Error;
use crate::cli::instance;
use crate::cli::output::{Output, Tone};
use crate::clock;
use crate::load::bench::{self, Progress, Target};
use crate::load::document::Document;
use crate::load::origin::Origin;
use crate::load::page;
use crate::load::report::{Percentiles, Report};
use crate::load::scenario::{Raw, RawFunction, RawStep, RawTrace, Scenario};

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(200);

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
A scenario is a TOML file, as in benches/scenarios/; flags win over it, and without one they say it all.
The server must be on this machine. In an open loop (constant, poisson, trace) calls come when they come and a
call's latency counts from when it was due; a closed loop sends the next call when the last is answered.
--fail-if takes p50, p90, p95, p99, p99.9, max, mean, error_rate, errors, unsent, calls, throughput and cpu,
alone or for one function (hello:p99>20ms). A latency is judged over all calls that were due: one
that failed, was answered with an error or could not be sent is slower than any bound. In a closed
loop the calls are added that it leaves out while an answer is late.

Exit codes: 0 all thresholds were held, 99 one was missed, 1 there is no result (no call was
answered, or what was to be called cannot be), 2 the command or the scenario makes no sense.

  hearth bench benches/scenarios/hello.toml --fail-if 'p99>20ms' --html report.html
  hearth bench --function hello --rate 300 --length 30s
  hearth bench --function a --weight 3 --function b --connections 8 --calls 10000")]
pub struct Args {
    /// A scenario
    #[arg(value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// A function to call; may be repeated
    #[arg(long, short, value_name = "NAME")]
    function: Vec<String>,
    /// How often the function is called beside the others; once for each of them, in their order
    #[arg(long, value_name = "NUMBER", requires = "function")]
    weight: Vec<f64>,
    /// Payload of the functions named with --function: JSON, or @FILE
    #[arg(long, short, value_name = "JSON", requires = "function")]
    data: Option<String>,
    /// When calls come: constant, poisson, closed or trace
    #[arg(long, value_name = "HOW")]
    arrivals: Option<String>,
    /// Calls a second, in an open loop
    #[arg(long, value_name = "CALLS")]
    rate: Option<f64>,
    /// A step of an open loop whose rate changes; may be repeated
    #[arg(long, value_name = "RATE[..RATE]:TIME", value_parser = step)]
    step: Vec<RawStep>,
    /// Recorded arrivals to replay
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How much faster the trace is replayed
    #[arg(long, value_name = "FACTOR", requires = "trace")]
    speed: Option<f64>,
    /// Calls under way at once at most [default: 1 in a closed loop, else 64]
    #[arg(long, short, value_name = "NUMBER")]
    connections: Option<u64>,
    /// How long calls are sent [default: 10s]
    #[arg(long, short, value_name = "TIME")]
    length: Option<String>,
    /// The most calls that are sent
    #[arg(long, value_name = "NUMBER")]
    calls: Option<u64>,
    /// Time before anything counts; with 0s first calls are measured too [default: 2s]
    #[arg(long, value_name = "TIME")]
    warm_up: Option<String>,
    /// A call that takes longer has failed [default: 30s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// What random arrivals depend on [default: 1]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Fail if this holds: p99>20ms, error_rate>0.1%, throughput<500; may be repeated
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<String>,
    /// Process whose processor time is counted [default: the running instance's]
    #[arg(long)]
    pid: Option<u32>,
    /// Write all numbers as JSON; --json prints them instead
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Write a report with plots, one page without scripts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// `100:5s` or `100..500:5s`.
fn step(text: &str) -> Result<RawStep, String> {
    let wrong = || format!("{text:?} is no step, expected RATE:TIME or RATE..RATE:TIME");
    let (rates, length) = text.split_once(':').ok_or_else(wrong)?;
    let (from, to) = match rates.split_once("..") {
        Some((from, to)) => (from, Some(to)),
        None => (rates, None),
    };
    let number = |text: &str| text.trim().parse().map_err(|_no_number| wrong());
    Ok(RawStep {
        rate: number(from)?,
        to: to.map(number).transpose()?,
        length: length.to_owned(),
    })
}

pub async fn run(args: Args, global: &Global, output: &mut Output) -> Result<(), Error> {
    let scenario = scenario(&args)?;
    let target = target(&args, global)?;
    let cpu = scenario.thresholds.iter().any(|t| t.needs_process());
    if cpu && target.pid.is_none() {
        return Err(Error::Usage(
            "fail_if: cpu needs the server's process: name it with --pid, or its state directory with --state-dir"
                .into(),
        ));
    }
    let document = watched(&scenario, &target, output).await?;
    if let Some(path) = &args.json_file {
        let json = serde_json::to_vec_pretty(&document).map_err(std::io::Error::other)?;
        write(path, &json)?;
    }
    if let Some(path) = &args.html {
        write(path, page::html(&document).as_bytes())?;
    }
    match output.json {
        true => output.document(&document)?,
        false => print(&document, output)?,
    }
    // Of a run without answers there is nothing to judge: whatever its thresholds came to, it is the server that is to be looked at.
    if document.total.calls == 0 {
        return Err(Error::Failed("no call was answered".into()));
    }
    match document.missed() {
        0 => Ok(()),
        1 => Err(Error::Missed("a threshold was missed".into())),
        n => Err(Error::Missed(format!("{n} thresholds were missed"))),
    }
}

fn scenario(args: &Args) -> Result<Scenario, Error> {
    let (file, directory) = match &args.scenario {
        Some(path) => (Raw::read(path)?, path.parent().unwrap_or(Path::new("."))),
        None => (Raw::default(), Path::new(".")),
    };
    let given = flags(args)?;
    // Paths on the command line are the caller's, those in a file are the file's.
    let trace = given.trace.is_some();
    let directory = if trace { Path::new(".") } else { directory };
    Ok(file.with(given).check(directory)?)
}

fn flags(args: &Args) -> Result<Raw, Error> {
    if !args.weight.is_empty() && args.weight.len() != args.function.len() {
        let (weights, functions) = (args.weight.len(), args.function.len());
        return Err(Error::Usage(format!(
            "--weight: there are {weights} for {functions} functions, expected one for each"
        )));
    }
    let payload = match args
        .data
        .as_deref()
        .map(|data| data.strip_prefix('@').ok_or(data))
    {
        None => None,
        Some(Err(text)) => Some(text.to_owned()),
        Some(Ok(path)) => Some(std::fs::read_to_string(path).map_err(|source| Error::Read {
            what: path.into(),
            source,
        })?),
    };
    let numbered = args.function.iter().enumerate();
    Ok(Raw {
        title: None,
        arrivals: args.arrivals.clone(),
        connections: args.connections,
        length: args.length.clone(),
        warm_up: args.warm_up.clone(),
        timeout: args.timeout.clone(),
        rate: args.rate,
        calls: args.calls,
        seed: args.seed,
        functions: numbered
            .map(|(place, name)| RawFunction {
                name: name.clone(),
                weight: args.weight.get(place).copied(),
                payload: payload.clone(),
                ..RawFunction::default()
            })
            .collect(),
        steps: args.step.clone(),
        trace: args.trace.clone().map(|file| RawTrace {
            file,
            speed: args.speed,
        }),
        fail_if: args.fail_if.clone(),
    })
}

fn target(args: &Args, global: &Global) -> Result<Target, Error> {
    let instance::Target { url, key } = instance::target(global);
    let origin = Origin::parse(&url)?;
    let running = instance::read(global.state_dir()).ok();
    let is_it = |i: &instance::Instance| Origin::parse(&i.url).is_ok_and(|o| o == origin);
    let pid = args.pid.or(running.filter(is_it).map(|i| i.pid));
    Ok(Target { origin, key, pid })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Write {
        what: path.display().to_string(),
        source,
    })
}

/// Runs it, with a bar where somebody watches.
async fn watched(scenario: &Scenario, target: &Target, output: &Output) -> Result<Document, Error> {
    let progress = Progress::default();
    let run = bench::run(scenario, target, &progress);
    if output.json || !output.err_is_terminal {
        return Ok(run.await?);
    }
    let bar = bar(scenario);
    let mut run = std::pin::pin!(run);
    let mut tick = tokio::time::interval(REDRAW);
    let mut begun = clock::now();
    let mut measuring = false;
    let done = loop {
        tokio::select! {
            done = &mut run => break done,
            _ = tick.tick() => {
                if progress.is_measuring() && !measuring {
                    (measuring, begun) = (true, clock::now());
                }
                let ended = progress.ended.load(std::sync::atomic::Ordering::Relaxed);
                match measuring {
                    false => bar.set_message("warming up"),
                    true => bar.set_message(format!("{ended} calls")),
                }
                if measuring {
                    let gone = clock::now().saturating_duration_since(begun);
                    bar.set_position(gone.min(scenario.length).as_millis() as u64);
                }
            }
        }
    };
    bar.finish_and_clear();
    Ok(done?)
}

fn bar(scenario: &Scenario) -> ProgressBar {
    let length = scenario.length.as_millis() as u64;
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:30} {elapsed} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_of_the_template) => bar,
    }
}

fn print(document: &Document, output: &mut Output) -> std::io::Result<()> {
    let heading = [
        "FUNCTION", "CALLS", "/S", "P50 MS", "P90", "P99", "P99.9", "MAX", "ERRORS",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let unanswered = document.total.unanswered > 0;
    if unanswered {
        rows[0].push("NOT ANSWERED".into());
    }
    let row = |name: &str, report: &Report| {
        let mut row = row(name, report);
        if unanswered {
            row.push(report.unanswered.to_string());
        }
        row
    };
    if document.functions.len() > 1 {
        rows.extend(document.functions.iter().map(|f| row(&f.name, &f.report)));
    }
    let name = match document.functions.as_slice() {
        [one] => &one.name,
        _ => "all",
    };
    rows.push(row(name, &document.total));
    output.rows(&rows)?;
    for line in remarks(document) {
        output.line(&line)?;
    }
    for judged in &document.thresholds {
        let value = match (judged.value, &judged.reason) {
            (Some(value), _) => format!("measured: {value:.3}"),
            (None, reason) => reason.clone().unwrap_or("not measured".into()),
        };
        let (tone, word) = match judged.missed {
            true => (Tone::Bad, "missed"),
            false => (Tone::Good, "held"),
        };
        let word = output.paint(tone, word);
        output.line(&format!("{word}: fail if {} ({value})", judged.condition))?;
    }
    Ok(())
}

fn row(name: &str, report: &Report) -> Vec<String> {
    let Percentiles {
        p50,
        p90,
        p99,
        p99_9,
        max,
        ..
    } = report.latency_ms;
    let mut row = vec![
        name.to_owned(),
        report.calls.to_string(),
        format!("{:.1}", report.per_second),
    ];
    row.extend([p50, p90, p99, p99_9, max].map(|ms| format!("{ms:.3}")));
    row.push(report.errors().to_string());
    row
}

/// What does not fit a table.
fn remarks(document: &Document) -> Vec<String> {
    let Document { total, load, .. } = document;
    let mut remarks = Vec::new();
    let list = |counts: &mut dyn Iterator<Item = (String, u64)>| {
        let mut text = String::new();
        for (what, calls) in counts {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{what} × {calls}").ok();
        }
        text
    };
    let statuses = list(&mut total.statuses.iter().map(|(s, n)| (s.to_string(), *n)));
    let starts = list(&mut total.starts.iter().map(|(s, n)| (s.clone(), *n)));
    let failures = list(&mut total.failures.iter().map(|(s, n)| ((*s).to_owned(), *n)));
    for (name, counts) in [
        ("statuses", statuses),
        ("starts", starts),
        ("no answer", failures),
    ] {
        if !counts.is_empty() {
            remarks.push(format!("{name}: {counts}"));
        }
    }
    if total.unsent > 0 {
        let planned = load.planned.unwrap_or_default();
        remarks.push(format!("not sent in time: {} of {planned}", total.unsent));
    }
    remarks.extend(total.notes());
    if let Some(cpu) = &document.cpu {
        let per_call = cpu.us_per_call.map_or("-".into(), |us| format!("{us:.1}"));
        remarks.push(format!(
            "processor time of process {}: {per_call} µs per call, {:.1} % of one processor",
            cpu.pid, cpu.percent
        ));
    }
    remarks.push(format!(
        "{} arrivals, {} connections, {} s; warm-up of {} calls not counted",
        load.arrivals, load.connections, load.seconds, document.warm_up.calls
    ));
    remarks
}

#[cfg(test)]
mod tests;
