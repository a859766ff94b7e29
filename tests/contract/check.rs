//! Compares what an invocation came to with what its case says it should. Pure: no worker, no time.

use anyhow::{Context, Result, bail, ensure};
use hearth::worker::frame::{self, Frame, Kind};
use serde_json::Value;

use crate::case::{Call, Error};

/// What an invocation came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) head: Option<String>,
    pub(crate) pieces: Vec<usize>,
    pub(crate) body: Vec<u8>,
    /// RESPONSE_END or ERROR.
    pub(crate) end: Option<Frame>,
}

pub(crate) fn answer(call: &Call, payload: &[u8], outcome: &Outcome) -> Result<()> {
    let end = outcome.end.as_ref().context("no end")?;
    if let Some(expected) = &call.stream {
        ensure!(
            outcome.head.as_deref() == Some(expected.content_type.as_str()),
            "the content type is {:?}",
            outcome.head
        );
        let body = match (&expected.body, &expected.body_hex) {
            (Some(text), _) => Some(text.as_bytes().to_vec()),
            (None, Some(text)) => Some(hex::decode(text)?),
            (None, None) => None,
        };
        let got = String::from_utf8_lossy(&outcome.body[..outcome.body.len().min(300)]);
        if let Some(body) = body {
            ensure!(outcome.body == body, "the streamed body is {got:?}");
        }
        if let Some(length) = expected.body_bytes {
            ensure!(
                outcome.body.len() == length,
                "{} bytes were streamed",
                outcome.body.len()
            );
        }
        if let Some(pieces) = expected.pieces {
            ensure!(
                outcome.pieces.len() == pieces,
                "the chunks are {:?} long",
                outcome.pieces
            );
        }
    } else {
        ensure!(
            outcome.head.is_none(),
            "a streaming answer, {:?}",
            outcome.head
        );
    }
    if let Some(expected) = &call.error {
        ensure!(end.kind == Kind::Error, "no error, but {:?}", short(end));
        return self::error(expected, end);
    }
    ensure!(end.kind == Kind::ResponseEnd, "an error: {}", short(end));
    if call.stream.is_some() {
        ensure!(end.body.is_empty(), "RESPONSE_END of a stream has a body");
        return Ok(());
    }
    value(call, payload, end)
}

fn value(call: &Call, payload: &[u8], end: &Frame) -> Result<()> {
    let raw = end.flags & frame::RAW != 0;
    ensure!(
        raw == call.answer_hex.is_some(),
        "RAW is {raw}: {}",
        short(end)
    );
    if let Some(text) = &call.answer_hex {
        ensure!(
            end.body == hex::decode(text)?,
            "the answer is {}",
            hex::encode(&end.body)
        );
        return Ok(());
    }
    if let Some(text) = &call.answer_text {
        ensure!(end.body == text.as_bytes(), "the answer is {}", short(end));
        return Ok(());
    }
    let answer: Value =
        serde_json::from_slice(&end.body).with_context(|| format!("not JSON: {}", short(end)))?;
    if let Some(text) = &call.answer {
        ensure!(
            same(&answer, &serde_json::from_str(text)?),
            "the answer is {answer}"
        );
    } else if call.answer_is_payload {
        let sent: Value = serde_json::from_slice(payload)?;
        ensure!(answer == sent, "the answer is {}", short(end));
    } else if let Some(length) = call.answer_bytes {
        ensure!(
            end.body.len() == length,
            "the answer has {} bytes",
            end.body.len()
        );
    } else if let Some(least) = call.remaining_fell_by_ms {
        let (Some(before), Some(after)) = (answer["before"].as_u64(), answer["after"].as_u64())
        else {
            bail!("the answer is {answer}")
        };
        ensure!(
            before <= call.timeout_ms && before >= after + least,
            "the answer is {answer}"
        );
    } else {
        bail!("the case says nothing about the answer {}", short(end));
    }
    Ok(())
}

/// Languages write the same number as 500 and 500.0.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

pub(crate) fn error(expected: &Error, frame: &Frame) -> Result<()> {
    let error: Value = serde_json::from_slice(&frame.body)?;
    let (Some(kind), Some(message), Some(stack)) = (
        error["errorType"].as_str(),
        error["errorMessage"].as_str(),
        error["stackTrace"].as_array(),
    ) else {
        bail!("the error is {error}")
    };
    ensure!(kind == expected.kind, "the error is {error}");
    if let Some(text) = &expected.message {
        ensure!(message == text, "the error is {error}");
    }
    if let Some(text) = &expected.message_has {
        ensure!(message.contains(text.as_str()), "the error is {error}");
    }
    for text in &expected.stack_has {
        let found = stack
            .iter()
            .any(|entry| entry.as_str().is_some_and(|entry| entry.contains(text)));
        ensure!(found, "{text:?} is not in the stack of {error}");
    }
    let own = stack.iter().any(|entry| {
        entry.to_string().contains("/shim/") || entry.to_string().contains("/usr/lib/hearth")
    });
    ensure!(!own, "the shim shows in the stack of {error}");
    let flags = if expected.bad_request {
        frame::BAD_REQUEST
    } else {
        0
    } | if expected.last { frame::LAST } else { 0 };
    ensure!(frame.flags == flags, "the flags are {:#04x}", frame.flags);
    Ok(())
}

fn short(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.body[..frame.body.len().min(300)]).into_owned()
}
