//! What INIT says of the function and INVOKE of one invocation, read and checked. Pure.

use bytes::Bytes;
use serde_json::{Map, Value};

/// INIT, every setting of it.
#[derive(Debug, Clone)]
pub struct Settings {
    pub function_name: String,
    pub function_version: String,
    pub handler: String,
    pub task_root: String,
    pub memory_mb: u64,
    pub timeout_ms: u64,
    pub log_group: String,
    pub log_stream: String,
    pub function_arn: String,
    /// The one its name is in.
    pub region: String,
    /// On demand, or because it is kept ready.
    pub initialization: String,
    pub environment: Vec<(String, String)>,
}

impl Settings {
    /// The error says what of it is wrong.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let init: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let text = |key: &str| match init[key].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("{key} is no text")),
        };
        let number = |key: &str| {
            init[key]
                .as_u64()
                .ok_or_else(|| format!("{key} is no number"))
        };
        let environment = init["environment"]
            .as_object()
            .ok_or("environment is no object")?;
        let variable = |(name, value): (&String, &Value)| match value.as_str() {
            Some(value) if is_name(name) && !value.contains('\0') => {
                Ok((name.clone(), value.to_owned()))
            }
            _ => Err(format!("{name:?} cannot be an environment variable")),
        };
        Ok(Self {
            function_name: text("function_name")?,
            function_version: text("function_version")?,
            handler: text("handler")?,
            task_root: text("task_root")?,
            memory_mb: number("memory_mb")?,
            timeout_ms: number("timeout_ms")?,
            log_group: text("log_group")?,
            log_stream: text("log_stream")?,
            region: region(&text("function_arn")?)?,
            function_arn: text("function_arn")?,
            initialization: init["initialization_type"]
                .as_str()
                .unwrap_or("on-demand")
                .into(),
            environment: environment.iter().map(variable).collect::<Result<_, _>>()?,
        })
    }

    /// One of the function's own variables.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn region(arn: &str) -> Result<String, String> {
    let region = arn.split(':').nth(3).filter(|region| !region.is_empty());
    Ok(region.ok_or("function_arn names no region")?.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// INVOKE.
#[derive(Debug)]
pub struct Invocation {
    pub stream: u32,
    pub request_id: String,
    pub deadline_ms: u64,
    /// Trace, client and identity, as far as they are known.
    pub extra: Map<String, Value>,
    pub payload: Bytes,
    /// The payload is no JSON and does not claim to be.
    pub raw: bool,
}

impl Invocation {
    /// The error says what of it is wrong.
    pub fn read(stream: u32, raw: bool, body: Vec<u8>) -> Result<Self, String> {
        let mut rest = body.as_slice();
        let deadline = take(&mut rest, 8)?;
        let deadline_ms = u64::from_be_bytes(deadline.try_into().expect("eight were taken"));
        let length = usize::from(take(&mut rest, 1)?[0]);
        let request_id = match std::str::from_utf8(take(&mut rest, length)?) {
            Ok(id) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic()) => id.to_owned(),
            _ => return Err("the request id is not ASCII".into()),
        };
        let length = take(&mut rest, 2)?;
        let length = u16::from_be_bytes(length.try_into().expect("two were taken"));
        let extra = match take(&mut rest, usize::from(length))? {
            [] => Map::new(),
            text => serde_json::from_slice(text).map_err(|error| error.to_string())?,
        };
        let at = body.len() - rest.len();
        Ok(Self {
            stream,
            request_id,
            deadline_ms,
            extra,
            payload: Bytes::from(body).slice(at..),
            raw,
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    match rest.split_at_checked(length) {
        Some((taken, left)) => {
            *rest = left;
            Ok(taken)
        }
        None => Err("the body ends too early".into()),
    }
}
