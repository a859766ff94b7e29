//! `hearth deploy`: packs code and creates the function, or updates it if there is one of that name. Says what changed, how to
//! call it and where the time went. What to send is decided by `plan`, which sees no file and no server.

mod change;
mod plan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content};
use crate::cli::error::Error;
use crate::cli::output::{self, Output, Tone};
use crate::cli::package::{self, Code};
use crate::clock;
use crate::domain::id::FunctionName;

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
A directory is zipped; patterns in its .hearthignore stay at home. A single source file is sent as it is, and so is a .zip.
Deploying to a name that exists updates it: what is not given stays as it was, and calls under way finish on the old code.

  hearth deploy ./thumbnails --handler app.handler --memory 512
  hearth deploy ./report --name nightly-report --env REGION=north
  hearth deploy --image team/report:7 --command app.handler")]
pub struct Args {
    /// Directory, source file or .zip
    #[arg(
        value_name = "DIR|FILE",
        required_unless_present = "image",
        conflicts_with = "image"
    )]
    path: Option<PathBuf>,
    /// Name of the function [default: that of the directory, file or image]
    #[arg(long, short)]
    name: Option<String>,
    /// Runtime, by id or short name [default: the one whose files these are]
    #[arg(long, short, visible_alias = "language")]
    runtime: Option<String>,
    /// Where the code begins: MODULE.FUNCTION [default: as in the runtime's template]
    #[arg(long)]
    handler: Option<String>,
    /// Container image on the server to run instead of code, by name
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["runtime", "handler"])]
    image: Option<String>,
    /// What to start in the image instead of its own entry point; may be repeated, one word each
    #[arg(
        long,
        value_name = "WORD",
        requires = "image",
        allow_hyphen_values = true
    )]
    entrypoint: Vec<String>,
    /// Arguments of the entry point instead of the image's own; may be repeated, one word each
    #[arg(
        long,
        value_name = "WORD",
        requires = "image",
        allow_hyphen_values = true
    )]
    command: Vec<String>,
    /// Where in the image it is started, instead of the image's own directory
    #[arg(long, value_name = "DIR", requires = "image")]
    working_dir: Option<String>,
    /// Memory in MiB; processor time is in proportion
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// How long a call may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Environment variable; may be repeated, variables that are not named stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Remove an environment variable; may be repeated
    #[arg(long, value_name = "KEY")]
    unset_env: Vec<String>,
    /// Tag; may be repeated, tags that are not named stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    tag: Vec<(String, String)>,
    /// Remove a tag; may be repeated
    #[arg(long, value_name = "KEY")]
    untag: Vec<String>,
    /// What the function is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Calls that may be under way at once, or "none" for the account's limit only
    #[arg(long, value_name = "CALLS", value_parser = optional_number)]
    max_concurrency: Option<Optional<u32>>,
    /// Calls that only this function may have under way, and its most, or "none"
    #[arg(long, value_name = "CALLS", value_parser = optional_number)]
    reserved_concurrency: Option<Optional<u32>>,
    /// How often an asynchronous call that failed is tried again, 0 to 2, or "none" for the server's own
    #[arg(long, value_name = "TIMES", value_parser = optional_number)]
    max_retries: Option<Optional<u32>>,
    /// Seconds after which an asynchronous call is given up, or "none" for the server's own
    #[arg(long, value_name = "SECONDS", value_parser = optional_number)]
    max_event_age: Option<Optional<u32>>,
    /// Who is told of asynchronous calls that end well: function:NAME, a URL, stream:KEY, a queue's ARN, or "none"
    #[arg(long, value_name = "TO", value_parser = optional_text)]
    on_success: Option<Optional<String>>,
    /// Who is told of asynchronous calls that are given up, or "none"
    #[arg(long, value_name = "TO", value_parser = optional_text)]
    on_failure: Option<Optional<String>>,
    /// Path at which the function answers plain HTTP, or "none"
    #[arg(long, value_name = "/PATH", value_parser = optional_text)]
    route: Option<Optional<String>>,
    /// Network: "none", or "egress" to open connections to the outside
    #[arg(long, value_parser = ["none", "egress"])]
    network: Option<String>,
}

impl Args {
    /// The image that is wanted, with nothing said of what shall be the image's own.
    fn of_image(&self) -> Option<Code> {
        let mut image = json!({ "uri": self.image.as_ref()? });
        for (field, words) in [("entrypoint", &self.entrypoint), ("command", &self.command)] {
            if !words.is_empty() {
                image[field] = json!(words);
            }
        }
        if let Some(directory) = &self.working_dir {
            image["working_dir"] = directory.as_str().into();
        }
        Some(Code::Image(image))
    }
}

/// A setting that can be taken away. (Its own type: clap reads `Option<Option<_>>` in another way.)
#[derive(Debug, Clone, PartialEq, Eq)]
struct Optional<T>(Option<T>);

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn optional_text(text: &str) -> Result<Optional<String>, std::convert::Infallible> {
    Ok(Optional((text != "none").then(|| text.to_owned())))
}

fn optional_number(text: &str) -> Result<Optional<u32>, std::num::ParseIntError> {
    match text {
        "none" => Ok(Optional(None)),
        text => Ok(Optional(Some(text.parse()?))),
    }
}

/// A runtime, as `GET /runtimes/` shows it.
#[derive(Debug, Clone, Deserialize)]
struct Runtime {
    id: String,
    names: Vec<String>,
    default_handler: String,
    /// Of the modules handlers name.
    source_extension: Option<String>,
    /// A program of this name, where handlers name no modules.
    source_file: Option<String>,
}

#[derive(Deserialize)]
struct Runtimes {
    items: Vec<Runtime>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let from = clock::now();
    let name = name(&args)?;
    let code = match (&args.path, args.of_image()) {
        (Some(path), None) => package::read(path)?,
        (_, Some(image)) => image,
        (None, None) => unreachable!("one of them is required"),
    };
    let packed_in = clock::now() - from;

    let runtimes: Runtimes = client.get("/runtimes/").await?;
    let before = existing(client, &name).await?;
    let plan = plan::plan(&args, &name, &code, &runtimes.items, before.as_ref())?;
    for note in &plan.notes {
        let label = output.paint_talk(Tone::Warning, "note:");
        output.talk(&format!("{label} {note}"))?;
    }

    let (method, path) = match &before {
        Some(function) => (Method::PUT, client::path(&["functions", id(function)])),
        None => (Method::POST, "/functions/".into()),
    };
    let mut content = Content::json(&plan.body)?;
    let size = content.bytes.len() as u64;
    content.progress = progress(size, output);
    let bar = content.progress.clone();
    let sent_from = clock::now();
    let answer = client.send(method, &path, content).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let after: Value = client.parse(&answer?)?;
    let timings = Timings {
        packed: packed_in,
        sent: clock::now() - sent_from,
        whole: clock::now() - from,
    };
    let given: Vec<&str> = args.env.iter().map(|(name, _)| name.as_str()).collect();
    let changes = before.map(|before| change::changes(&before, &after, &given));
    report(changes, &after, &code, &timings, output)
}

struct Timings {
    packed: Duration,
    /// Upload, check and write.
    sent: Duration,
    whole: Duration,
}

/// The name asked for, or that of what is deployed.
fn name(args: &Args) -> Result<String, Error> {
    let from_path = || {
        if let Some(image) = &args.image {
            let last = image.rsplit('/').next().unwrap_or_default();
            return last.split([':', '@']).next().map(str::to_owned);
        }
        // The real path, because `.` has a name too.
        let path = args.path.clone().unwrap_or_default();
        let path = path.canonicalize().unwrap_or(path);
        let name = if path.is_dir() {
            path.file_name()
        } else {
            path.file_stem()
        };
        name.map(|name| name.to_string_lossy().into_owned())
    };
    let given = args.name.clone();
    let name = given.or_else(from_path).unwrap_or_default();
    match FunctionName::parse(&name) {
        Ok(_) => Ok(name),
        Err(what) if args.name.is_some() => Err(Error::Usage(format!("the name {name:?} {what}"))),
        Err(what) => Err(Error::Usage(format!(
            "the name {name:?}, taken from {}, {what}: give one with --name",
            if args.image.is_some() {
                "the image"
            } else {
                "the path"
            }
        ))),
    }
}

async fn existing(client: &Client, name: &str) -> Result<Option<Value>, Error> {
    match client
        .get::<Value>(&client::path(&["functions", name]))
        .await
    {
        Ok(function) => Ok(Some(function)),
        Err(client::Error::Refused(refusal)) if refusal.status == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn id(function: &Value) -> &str {
    function["id"].as_str().unwrap_or_default()
}

/// A bar for uploads that take a while, where somebody watches.
fn progress(size: u64, output: &Output) -> Option<ProgressBar> {
    if output.json || !output.err_is_terminal {
        return None;
    }
    let style = "uploading {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
    let style = ProgressStyle::with_template(style).ok()?;
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    Some(bar.with_style(style))
}

/// `changes` is `None` for a new function.
fn report(
    changes: Option<Vec<String>>,
    after: &Value,
    code: &Code,
    timings: &Timings,
    output: &mut Output,
) -> Result<(), Error> {
    let action = match &changes {
        None => "created",
        Some(changes) if changes.is_empty() => "unchanged",
        Some(_) => "updated",
    };
    let ms = |d: Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
    if output.json {
        return Ok(output.document(&json!({
            "action": action,
            "changes": changes.unwrap_or_default(),
            "function": after,
            "timings_ms": {
                "pack": ms(timings.packed), "upload": ms(timings.sent), "total": ms(timings.whole),
            },
        }))?);
    }
    let text = |field: &str| after[field].as_str().unwrap_or_default().to_owned();
    let (name, verb) = (text("name"), output.paint(Tone::Good, action));
    let runs = match after["code"]["image"]["uri"].as_str() {
        Some(image) => format!("image {image}"),
        None => format!("{}, {}", text("language"), text("handler")),
    };
    output.line(&format!(
        "{verb} {name}: {runs}, {} MiB, {} s",
        after["memory"], after["timeout"]
    ))?;
    for change in changes.unwrap_or_default() {
        output.line(&format!("  {change}"))?;
    }
    let size = match code {
        Code::Text { text, .. } => text.len(),
        Code::Zip(zip) => zip.bytes.len(),
        Code::Image(_) => 0,
    };
    let line = match code {
        Code::Image(_) => format!("{:.0} ms in all", ms(timings.whole)),
        _ => format!(
            "{} packed in {:.0} ms, uploaded in {:.0} ms, {:.0} ms in all",
            output::size(size as u64),
            ms(timings.packed),
            ms(timings.sent),
            ms(timings.whole)
        ),
    };
    let line = output.paint_talk(Tone::Faint, &line);
    output.talk(&line)?;
    output.talk(&format!("call it: hearth invoke {name} --data '{{}}'"))?;
    if let Some(route) = after["route"].as_str() {
        output.talk(&format!("or at its route: {route}"))?;
    }
    Ok(())
}

/// The path's last part, for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
