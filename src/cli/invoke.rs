//! `hearth invoke`: calls a function and prints its answer to stdout. How it started and where the time went is talk; what went
//! wrong in the function is an error with its type, message, stack and the last lines it printed.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::cli::client::{self, Client, Content, Opened};
use crate::cli::error::Error;
use crate::cli::output::{Output, Tone};
use crate::clock;
use crate::domain::limits::PAYLOAD_MAX;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the function
    #[arg(value_name = "NAME")]
    name: String,
    /// The payload: JSON, @FILE, or - for stdin
    #[arg(
        long,
        short,
        value_name = "JSON",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    data: String,
    /// The payload is bytes and not JSON
    #[arg(long)]
    binary: bool,
    /// Have it run later, and print the request id: GET /invocations/ID says how it stands
    #[arg(long = "async", conflicts_with = "raw")]
    later: bool,
    /// Name the call, so that it is run once: again with the same key prints the same answer
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the answer byte for byte: nothing is laid out, no line end is added
    #[arg(long)]
    raw: bool,
}

pub async fn run(args: Args, client: &Client, output: &mut Output) -> Result<(), Error> {
    let payload = payload(&args.data)?;
    if !args.binary {
        check_json(&payload)?;
    }
    let mut headers = Vec::new();
    if args.later {
        headers.push(("x-amz-invocation-type", "Event".into()));
    }
    if let Some(key) = &args.idempotency_key {
        headers.push(("idempotency-key", key.clone()));
    }
    let content = Content {
        bytes: payload,
        kind: Some(if args.binary {
            "application/octet-stream"
        } else {
            "application/json"
        }),
        headers,
        ..Content::default()
    };
    let path = client::path(&["functions", &args.name, "execute"]);
    let from = clock::now();
    let Opened { headers, mut body } = client.open(Method::POST, &path, content).await?;
    if args.later {
        let id = client::header(&headers, "x-request-id");
        match output.json {
            true => output.document(&json!({ "request_id": id, "state": "queued" }))?,
            false => output.line(id)?,
        }
        return Ok(());
    }
    let is_json = client::header(&headers, "content-type").starts_with("application/json");

    if output.json {
        let answer = rest(client, &mut body).await?;
        return Ok(output.document(&document(&headers, &answer, is_json))?);
    }
    if is_json {
        let answer = rest(client, &mut body).await?;
        print_json(&args, &answer, output)?;
    } else {
        // It may be a stream that goes on for minutes: what is there is shown at once.
        while let Some(bytes) = client.next(&mut body).await? {
            output.bytes(&bytes)?;
        }
    }
    if output.err_is_terminal || output.verbose {
        let line = summary(&headers, clock::now() - from);
        let line = output.paint_talk(Tone::Faint, &line);
        output.talk(&line)?;
    }
    Ok(())
}

fn payload(data: &str) -> Result<Bytes, Error> {
    let from_file = |path: &str| {
        std::fs::read(path).map_err(|source| Error::Read {
            what: path.to_owned(),
            source,
        })
    };
    let bytes = match data.strip_prefix('@') {
        Some(path) => from_file(path)?,
        None if data == "-" => {
            let mut bytes = Vec::new();
            // One byte more than may be sent is enough to know that it is too long.
            let mut input = std::io::stdin().take(PAYLOAD_MAX as u64 + 1);
            input
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Read {
                    what: "stdin".into(),
                    source,
                })?;
            bytes
        }
        None => data.as_bytes().to_vec(),
    };
    Ok(bytes.into())
}

/// A quoting mistake in a shell is the usual reason, so it is told before anything is sent.
fn check_json(payload: &[u8]) -> Result<(), Error> {
    match serde_json::from_slice::<serde::de::IgnoredAny>(payload) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Usage(format!(
            "the payload is not JSON ({e}): {}; quote it as --data '{{\"key\": \"value\"}}', or say --binary",
            String::from_utf8_lossy(payload)
                .chars()
                .take(60)
                .collect::<String>()
        ))),
    }
}

async fn rest(client: &Client, body: &mut hyper::body::Incoming) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    while let Some(bytes) = client.next(body).await? {
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

fn print_json(args: &Args, answer: &[u8], output: &mut Output) -> Result<(), Error> {
    if args.raw {
        return Ok(output.bytes(answer)?);
    }
    // Laid out for a person; programs get what the function said.
    let value = output
        .out_is_terminal
        .then(|| serde_json::from_slice::<Value>(answer).ok());
    match value.flatten() {
        Some(value) => output.line(&format!("{value:#}"))?,
        None => {
            output.bytes(answer)?;
            output.bytes(b"\n")?;
        }
    }
    Ok(())
}

fn document(headers: &HeaderMap, answer: &[u8], is_json: bool) -> Value {
    let parsed = is_json.then(|| serde_json::from_slice::<Value>(answer).ok());
    let text = || String::from_utf8_lossy(answer).into_owned().into();
    let timings = timings(client::header(headers, "server-timing"));
    json!({
        "answer": parsed.flatten().unwrap_or_else(text),
        "content_type": client::header(headers, "content-type"),
        "start": client::header(headers, "x-hearth-start"),
        "version": client::header(headers, "x-hearth-version"),
        "request_id": client::header(headers, "x-request-id"),
        "timings_ms": timings.into_iter().map(|t| (t.phase, t.milliseconds.into())).collect::<serde_json::Map<_, _>>(),
    })
}

#[derive(Debug, Clone, PartialEq)]
struct Timing {
    phase: String,
    milliseconds: f64,
}

/// The phases of a `Server-Timing` header; what has no duration is left out.
fn timings(header: &str) -> Vec<Timing> {
    let parse = |entry: &str| {
        let mut parts = entry.split(';').map(str::trim);
        let phase = parts.next()?.to_owned();
        let dur = parts.find_map(|part| part.strip_prefix("dur="))?;
        Some(Timing {
            phase,
            milliseconds: dur.parse().ok()?,
        })
    };
    header.split(',').filter_map(parse).collect()
}

/// `stem start · queue 0.1 ms · init 12.0 ms · run 3.2 ms · 16.1 ms in all · request 7f…`
fn summary(headers: &HeaderMap, total: Duration) -> String {
    let mut parts = Vec::new();
    match client::header(headers, "x-hearth-start") {
        "" => {}
        kind => parts.push(format!("{kind} start")),
    }
    if client::header(headers, "idempotency-replayed") == "true" {
        parts.push("answered before".into());
    }
    for Timing {
        phase,
        milliseconds,
    } in timings(client::header(headers, "server-timing"))
    {
        parts.push(format!("{phase} {milliseconds:.1} ms"));
    }
    parts.push(format!("{:.1} ms in all", total.as_secs_f64() * 1e3));
    match client::header(headers, "x-request-id") {
        "" => {}
        id => parts.push(format!("request {id}")),
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests;
