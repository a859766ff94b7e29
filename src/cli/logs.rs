//! `hearth logs`: what a function printed, and with `--follow` what it prints from now on. A connection that breaks is made again and
//! goes on where it ended; what was lost meanwhile is said.

pub mod events;

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content, Opened};
use crate::cli::error::Error;
use crate::cli::logs::events::{Event, Events};
use crate::cli::output::{Output, Tone};
use crate::clock;

/// The server sends a sign of life every 15 seconds; after this long without one, the connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Between attempts to connect again, growing from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A server that has not come back by then is not restarting.
const GIVE_UP: Duration = Duration::from_secs(600);
/// Lines asked for when the connection is made again: all of a server that has started anew are new.
const CATCH_UP: u32 = 10_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// Go on with the lines that come
    #[arg(long, short)]
    follow: bool,
    /// Only lines of this call
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Lines that were printed already
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    limit: u32,
}

/// One line a function printed.
#[derive(Debug, Deserialize)]
struct Line {
    at: String,
    request_id: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct Lines {
    items: Vec<Value>,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    if args.follow {
        return follow(&args, client, output).await;
    }
    let lines: Lines = client.get(&path(&args, args.limit, false)).await?;
    if output.json {
        return Ok(output.document(&json!({ "items": lines.items }))?);
    }
    if lines.items.is_empty() {
        output.talk("it has printed nothing yet, or nothing that is still kept")?;
    }
    lines.items.iter().try_for_each(|line| print(line, output))
}

fn path(args: &Args, limit: u32, follow: bool) -> String {
    let mut path = client::path(&["functions", &args.name, "logs"]);
    path.push_str(&format!("?limit={limit}"));
    if follow {
        path.push_str("&follow=true");
    }
    if let Some(id) = &args.request_id {
        path.push_str("&request_id=");
        client::escape(id, &mut path);
    }
    path
}

async fn follow(args: &Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut last = None;
    // The first connection is not tried twice: a mistake should be told at once.
    let mut opened = open(args, client, args.limit, None).await?;
    loop {
        let end = read(client, opened, &mut last, output).await?;
        let text = output.paint_talk(Tone::Warning, &format!("{end}; connecting again"));
        output.talk(&text)?;
        opened = reopen(args, client, last.as_deref()).await?;
    }
}

async fn open(
    args: &Args,
    client: &Client,
    limit: u32,
    last: Option<&str>,
) -> Result<Opened, client::Error> {
    let mut content = Content::default();
    content.headers.push(("accept", "text/event-stream".into()));
    if let Some(id) = last {
        content.headers.push(("last-event-id", id.to_owned()));
    }
    client
        .open(Method::GET, &path(args, limit, true), content)
        .await
}

/// Connects again until it works, the server says no for good, or it has been away for too long.
async fn reopen(args: &Args, client: &Client, last: Option<&str>) -> Result<Opened, Error> {
    let from = clock::now();
    let mut pause = PAUSE.0;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE.1.min(pause * 2);
        match open(args, client, CATCH_UP, last).await {
            Err(error) if may_pass(&error) && clock::now() - from < GIVE_UP => {}
            done => return Ok(done?),
        }
    }
}

/// Whether a server that is starting or stopping could say this.
fn may_pass(error: &client::Error) -> bool {
    match error {
        client::Error::Unreachable { .. }
        | client::Error::Broken { .. }
        | client::Error::Timeout { .. } => true,
        client::Error::Refused(refusal) => refusal.status >= 500,
        client::Error::NotHearth { status, .. } => status.is_server_error(),
        _ => false,
    }
}

/// Prints events until the connection ends, and says how it did. `last` is the id of the last line that was printed.
async fn read(
    client: &Client,
    mut opened: Opened,
    last: &mut Option<String>,
    output: &mut Output,
) -> Result<String, Error> {
    let mut events = Events::default();
    loop {
        let bytes = match tokio::time::timeout(SILENCE, client.next(&mut opened.body)).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Ok("the server ended the log".into()),
            Ok(Err(error)) => return Ok(error.to_string()),
            Err(_elapsed) => return Ok("the server has gone silent".into()),
        };
        let Ok(complete) = events.feed(&bytes) else {
            return Ok("the server sent an event without end".into());
        };
        for event in complete {
            show(&event, output)?;
            if event.id.is_some() {
                *last = event.id;
            }
        }
    }
}

fn show(event: &Event, output: &mut Output) -> Result<(), Error> {
    let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
        return Ok(());
    };
    if event.kind == "lagged" {
        let text = format!("{} lines were lost", data["missed"]);
        let text = output.paint_talk(Tone::Warning, &text);
        return Ok(output.talk(&text)?);
    }
    // One document per line, so that a program can read while it goes on.
    if output.json {
        return Ok(output.document(&data)?);
    }
    print(&data, output)
}

/// `2026-01-31 12:00:00.000 3f2a91c0 text`
fn print(line: &Value, output: &mut Output) -> Result<(), Error> {
    let Ok(Line {
        at,
        request_id,
        text,
    }) = Line::deserialize(line)
    else {
        return Ok(());
    };
    // To the millisecond: the date and the time have the same width in every line.
    let (date, time) = at.split_once('T').unwrap_or(("", &at));
    let time = time.trim_end_matches('Z');
    let call = request_id.as_deref().and_then(|id| id.get(..8));
    let head = format!("{date} {time:.12} {:8}", call.unwrap_or("-"));
    let head = output.paint(Tone::Faint, &head);
    Ok(output.line(&format!("{head} {text}"))?)
}

#[cfg(test)]
mod tests;
