//! Plays one case on one worker and says what was otherwise than it should be.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use hearth::worker::frame::{self, Kind};
use serde_json::{Value, json};

use crate::case::{Call, Case, Ends, Send, Step};
use crate::check::{self, Outcome};
use crate::worker::{Arrival, Exit, PATIENCE, Worker};

/// What INIT says; the containers of the tests have as much.
pub(crate) const MEMORY_MB: u32 = 192;
const CHUNK_MAX: usize = 1024 * 1024;
const REMINDER: Duration = Duration::from_millis(50);

/// HELLO was read; sends INIT as the case wants it.
pub(crate) fn specialise(worker: &mut Worker, case: &Case) -> Result<()> {
    let mut init = json!({
        "function_name": "contract-function",
        "function_version": "$LATEST",
        "handler": case.handler,
        "task_root": worker.task_root,
        "memory_mb": MEMORY_MB,
        "timeout_ms": 3000,
        "log_group": "/hearth/contract-function",
        "log_stream": "2026/11/22/[$LATEST]0123456789abcdef",
        "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:contract-function",
        "environment": case.environment,
    });
    if let Some(initialization) = &case.init.initialization {
        init["initialization_type"] = json!(initialization);
    }
    worker.send(Kind::Ping, 0, b"proof of life")?;
    ensure!(
        worker.expect(Kind::Pong)?.body == "proof of life",
        "another PONG"
    );
    worker.send(Kind::Init, 0, init.to_string().as_bytes())?;
    if case.init.ends {
        return Ok(());
    }
    if let Some(expected) = &case.init.error {
        let frame = worker.expect(Kind::InitError)?;
        check::error(expected, &frame)?;
    } else {
        let ready: Value = serde_json::from_slice(&worker.expect(Kind::Ready)?.body)?;
        for key in [
            "handler",
            "function_name",
            "function_version",
            "memory_mb",
            "timeout_ms",
        ] {
            ensure!(ready[key] == init[key], "READY says {ready}");
        }
        ensure!(
            ready["environment_count"] == case.environment.len(),
            "READY says {ready}"
        );
        ensure!(ready["init_us"].is_u64(), "READY says {ready}");
    }
    worker.log.drain();
    let lines = worker.log.lines();
    ensure!(
        worker.log.has(&case.init.log_has),
        "the log of INIT is {lines:?}"
    );
    Ok(())
}

/// The steps, on a worker that is as far as the case wants it.
pub(crate) fn play(worker: &mut Worker, case: &Case) -> Result<()> {
    worker.log.mark();
    for (number, step) in case.step.iter().enumerate() {
        let what = || format!("step {}", number + 1);
        match step {
            Step::Call(call) => play_call(worker, call).with_context(what)?,
            Step::Ping(body) => play_ping(worker, body).with_context(what)?,
            Step::Send(send) => worker.send_bytes(&bytes_of(send)?).with_context(what)?,
            Step::Shutdown(_) => worker.send(Kind::Shutdown, 0, b"").with_context(what)?,
            Step::HangUp(_) => worker.hang_up().with_context(what)?,
            Step::Ends(ends) => return play_end(worker, ends).with_context(what),
        }
    }
    if case.leaves_worker() {
        // Nothing more came than was asked for, and it is fit for the next.
        play_ping(worker, "and now?").context("after the last step")?;
    }
    Ok(())
}

fn play_ping(worker: &mut Worker, body: &str) -> Result<()> {
    worker.send(Kind::Ping, 0, body.as_bytes())?;
    let pong = worker.expect(Kind::Pong)?;
    ensure!(pong.body == body.as_bytes(), "PONG has {:?}", pong.body);
    Ok(())
}

fn bytes_of(send: &Send) -> Result<Vec<u8>> {
    if let Some(text) = &send.hex {
        return Ok(hex::decode(text)?);
    }
    let name = send.kind.as_deref().context("send needs kind or hex")?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| format!("{kind:?}").to_uppercase() == name.replace('_', ""))
        .with_context(|| format!("{name} is no kind"))?;
    let body = match &send.hex_body {
        Some(text) => hex::decode(text)?,
        None => send.body.as_bytes().to_vec(),
    };
    let header = frame::header(kind, 0, send.stream, body.len());
    Ok([&header[..], &body].concat())
}

fn play_end(worker: &mut Worker, ends: &Ends) -> Result<()> {
    let exit = worker.wait_for_end()?;
    match ends.status {
        Some(status) => ensure!(exit == Exit::Status(status), "it ended with {exit:?}"),
        None => ensure!(ends.signal && exit.is_signal(), "it ended with {exit:?}"),
    }
    let lines = worker.log.lines();
    ensure!(worker.log.has(&ends.log_has), "its log is {lines:?}");
    Ok(())
}

fn play_call(worker: &mut Worker, call: &Call) -> Result<()> {
    worker.log.drain();
    worker.log.mark();
    let stream = call.stream_id.unwrap_or(worker.last_stream + 1);
    worker.last_stream = worker.last_stream.max(stream);
    let (payload, flags) = payload_of(call)?;
    let mut bytes = Vec::new();
    if let Some(body) = &call.after_ping {
        bytes.extend(frame::header(Kind::Ping, 0, 0, body.len()));
        bytes.extend(body.as_bytes());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let any_id = uuid::Uuid::new_v4().to_string();
    let request_id = call.request_id.as_ref().unwrap_or(&any_id);
    let body = invoke_body(request_id, now + call.timeout_ms, &call.extra, &payload)?;
    bytes.extend(frame::header(Kind::Invoke, flags, stream, body.len()));
    bytes.extend(body);
    if call.cancel.as_deref() == Some("at_once") {
        bytes.extend(cancel_frame(stream));
    }
    match call.split {
        None => worker.send_bytes(&bytes)?,
        Some(length) => {
            for piece in bytes.chunks(length) {
                worker.send_bytes(piece)?;
                // So that the shim is likely to read each piece by itself. Nothing fails if it does not.
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
    if let Some(body) = &call.after_ping {
        ensure!(
            worker.expect(Kind::Pong)?.body == body.as_bytes(),
            "another PONG"
        );
    }
    if !call.unanswered {
        let outcome = wait_for_answer(worker, call, stream)?;
        // What was printed is in the pipe by now: this one look must find all of it.
        worker.log.drain();
        let lines = worker.log.lines();
        check::answer(call, &payload, &outcome)
            .with_context(|| format!("the log is {:?}", first(&lines)))?;
        if let Some(expected) = &call.log {
            ensure!(&lines == expected, "the log is {:?}", first(&lines));
        }
        ensure!(
            worker.log.has(&call.log_has),
            "the log is {:?}",
            first(&lines)
        );
        if let Some(count) = call.log_lines {
            ensure!(lines.len() == count, "the log has {} lines", lines.len());
        }
    }
    wait_for_log(worker, &call.log_later)
}

fn first(lines: &[String]) -> &[String] {
    &lines[..lines.len().min(20)]
}

fn payload_of(call: &Call) -> Result<(Vec<u8>, u8)> {
    if let Some(text) = &call.payload {
        return Ok((text.as_bytes().to_vec(), 0));
    }
    if let Some(text) = &call.payload_hex {
        return Ok((hex::decode(text)?, if call.raw { frame::RAW } else { 0 }));
    }
    if let Some(length) = call.payload_bytes {
        let inner = length
            .checked_sub(2)
            .context("payload_bytes has no room for quotes")?;
        return Ok((format!("\"{}\"", "x".repeat(inner)).into_bytes(), 0));
    }
    let depth = call.payload_nested.context("a call needs a payload")?;
    Ok((
        ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes(),
        0,
    ))
}

pub(crate) fn invoke_body(
    request_id: &str,
    deadline_ms: u64,
    extra: &str,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut body = deadline_ms.to_be_bytes().to_vec();
    body.push(u8::try_from(request_id.len())?);
    body.extend(request_id.as_bytes());
    body.extend(u16::try_from(extra.len())?.to_be_bytes());
    body.extend(extra.as_bytes());
    body.extend(payload);
    Ok(body)
}

fn cancel_frame(stream: u32) -> Vec<u8> {
    let body = br#"{"reason":"deadline"}"#;
    [
        &frame::header(Kind::Cancel, 0, stream, body.len())[..],
        body,
    ]
    .concat()
}

fn wait_for_answer(worker: &mut Worker, call: &Call, stream: u32) -> Result<Outcome> {
    let deadline = Instant::now() + PATIENCE;
    let mut outcome = Outcome::default();
    let mut cancel_at = None;
    loop {
        let due = match call.cancel.as_deref().map(|when| when.split_once(':')) {
            Some(Some(("after_log", line))) => worker.log.has(&[line.to_owned()]),
            Some(None) if call.cancel.as_deref() == Some("after_piece") => {
                !outcome.pieces.is_empty()
            }
            _ => false,
        };
        // Repeated, as Hearth does it.
        if due && cancel_at.is_none_or(|at| Instant::now() >= at) {
            cancel_at = Some(Instant::now() + REMINDER);
            worker.send_bytes(&cancel_frame(stream))?;
        }
        let frame = match worker.look()? {
            Arrival::NothingYet => {
                let lines = worker.log.lines();
                ensure!(
                    Instant::now() < deadline,
                    "no answer; the log is {:?}",
                    first(&lines)
                );
                continue;
            }
            Arrival::Closed => {
                let lines = worker.log.lines();
                bail!(
                    "the connection ended instead; the log is {:?}",
                    first(&lines)
                )
            }
            Arrival::Frame(frame) => frame,
        };
        ensure!(
            frame.stream == stream,
            "{:?} came on stream {}",
            frame.kind,
            frame.stream
        );
        match frame.kind {
            Kind::ResponseHead => {
                ensure!(outcome.head.is_none(), "a second RESPONSE_HEAD");
                let head: Value = serde_json::from_slice(&frame.body)?;
                let content_type = head["content_type"].as_str().context("no content type")?;
                outcome.head = Some(content_type.to_owned());
            }
            Kind::ResponseChunk => {
                ensure!(
                    outcome.head.is_some(),
                    "RESPONSE_CHUNK before RESPONSE_HEAD"
                );
                ensure!(
                    frame.body.len() <= CHUNK_MAX,
                    "a chunk of {} bytes",
                    frame.body.len()
                );
                ensure!(!frame.body.is_empty(), "an empty chunk");
                outcome.pieces.push(frame.body.len());
                outcome.body.extend_from_slice(&frame.body);
            }
            Kind::ResponseEnd | Kind::Error => {
                outcome.end = Some(frame);
                return Ok(outcome);
            }
            kind => bail!("{kind:?} came instead of an answer"),
        }
    }
}

fn wait_for_log(worker: &mut Worker, texts: &[String]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !worker.log.has(texts) {
        let lines = worker.log.lines();
        ensure!(
            Instant::now() < deadline,
            "{texts:?} never came; the log is {:?}",
            first(&lines)
        );
        std::thread::sleep(Duration::from_millis(5));
        worker.log.drain();
    }
    Ok(())
}
