//! The bodies of `hearth-worker/1` frames. Wire types only; see `runtimes/PROTOCOL.md`.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::domain::fault::Report;
use crate::domain::id::RequestId;

pub const PROTOCOL: &str = "hearth-worker/1";

#[derive(Debug, Deserialize)]
pub struct Hello {
    pub protocol: String,
    pub runtime: String,
    #[serde(default)]
    pub language: String,
}

// Not Debug: the environment in it is in the clear.
#[derive(Serialize)]
#[expect(missing_debug_implementations, reason = "it holds secrets")]
pub struct Init<'a> {
    pub function_name: &'a str,
    pub function_version: &'a str,
    pub handler: &'a str,
    pub task_root: &'a str,
    pub memory_mb: u32,
    pub timeout_ms: u64,
    pub log_group: &'a str,
    pub log_stream: &'a str,
    pub function_arn: &'a str,
    /// As AWS calls it.
    pub initialization_type: &'static str,
    pub environment: &'a BTreeMap<String, String>,
}

/// What the shim says it applied.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Ready {
    pub handler: String,
    pub function_name: String,
    pub function_version: String,
    pub memory_mb: u32,
    pub timeout_ms: u64,
    pub environment_count: usize,
    /// What has something left to do at the end takes at most as long; nothing, if left out.
    #[serde(default)]
    pub shutdown_ms: u64,
}

impl Init<'_> {
    /// The first thing the worker applied differently, if any.
    pub fn differs_from(&self, ready: &Ready) -> Option<&'static str> {
        let checks = [
            ("handler", ready.handler == self.handler),
            ("function_name", ready.function_name == self.function_name),
            (
                "function_version",
                ready.function_version == self.function_version,
            ),
            ("memory_mb", ready.memory_mb == self.memory_mb),
            ("timeout_ms", ready.timeout_ms == self.timeout_ms),
            (
                "environment_count",
                ready.environment_count == self.environment.len(),
            ),
        ];
        checks
            .into_iter()
            .find(|(_, same)| !same)
            .map(|(name, _)| name)
    }
}

#[derive(Debug, Deserialize)]
pub struct ResponseHead {
    pub content_type: String,
}

/// Why an invocation is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Deadline,
    ClientGone,
}

impl Reason {
    pub const fn body(self) -> &'static [u8] {
        match self {
            Reason::Deadline => br#"{"reason":"deadline"}"#,
            Reason::ClientGone => br#"{"reason":"client_gone"}"#,
        }
    }
}

/// The part of an INVOKE body before the payload.
pub fn invoke_head(
    out: &mut BytesMut,
    deadline_unix_ms: u64,
    request_id: RequestId,
    context: &[u8],
) {
    out.put_u64(deadline_unix_ms);
    let mut id = [0u8; 36];
    let id = request_id.encode(&mut id);
    out.put_u8(id.len() as u8);
    out.put_slice(id.as_bytes());
    out.put_u16(context.len() as u16);
    out.put_slice(context);
}

/// Length of what `invoke_head` writes.
pub const fn invoke_head_len(context: usize) -> usize {
    8 + 1 + 36 + 2 + context
}

/// A worker's error body. What cannot be read is still an error, and says so.
pub fn report(body: &[u8]) -> Report {
    let read = serde_json::from_slice(body);
    let mut report: Report = read.unwrap_or_else(|error| {
        let text = format!("the runtime's error report cannot be read: {error}");
        Report::new("Runtime.Unknown", text)
    });
    // It goes out as it is.
    let is_object =
        |text: &String| serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text).is_ok();
    report.document = report.document.filter(is_object);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_if_it_is_an_object() {
        let body = |document: &str| {
            let error =
                serde_json::json!({"errorType": "E", "errorMessage": "m", "document": document});
            report(error.to_string().as_bytes()).document
        };
        let written = r#"{"errorType": "E", "trace": []}"#;
        assert_eq!(body(written).as_deref(), Some(written));
        for bad in ["", "[1]", "null", "{", "{} {}"] {
            assert_eq!(body(bad), None, "{bad}");
        }
        assert_eq!(report(b"no JSON").kind, "Runtime.Unknown");
    }
}
