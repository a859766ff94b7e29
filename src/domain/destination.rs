//! How a function's asynchronous calls are run, and where what became of one is sent. Plain data; whether a destination may be used is for
//! whoever takes the wish.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::id::FunctionName;
use crate::domain::mapping::Queue;
use crate::domain::seldom::Usual;
use crate::domain::version::Qualifier;

/// Longest destination, in characters.
const LENGTH_MAX: usize = 1024;
/// Keys of a shared store that are its own begin with this.
const RESERVED_STREAMS: &str = "{hearth}";

/// A function's own settings for its asynchronous calls; what is not set is the instance's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asynchronous {
    /// How often one that failed is tried again.
    #[serde(default)]
    pub max_retries: Option<u32>,
    /// One this old is given up.
    #[serde(default)]
    pub max_event_age_seconds: Option<u32>,
    /// Who is told of one that ended well.
    #[serde(default)]
    pub on_success: Option<Destination>,
    /// And of one that did not; without it, that is a dead letter.
    #[serde(default)]
    pub on_failure: Option<Destination>,
}

impl Usual for Asynchronous {
    fn usual() -> &'static Self {
        static USUAL: Asynchronous = Asynchronous {
            max_retries: None,
            max_event_age_seconds: None,
            on_success: None,
            on_failure: None,
        };
        &USUAL
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// It is called with the record, asynchronously: the function, or what stands behind its name.
    Function(FunctionName, Option<Qualifier>),
    /// The record is posted there.
    Webhook(String),
    /// The record is added to this stream of the Redis that is the store.
    Stream(String),
    /// The record is sent to this queue of SQS's.
    Queue(Queue),
}

impl Destination {
    pub fn parse(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if length > LENGTH_MAX {
            return Err(format!(
                "must have at most {LENGTH_MAX} characters, has {length}"
            ));
        }
        if let Some(called) = text.strip_prefix("function:") {
            let (name, qualifier) = match called.split_once(':') {
                Some((name, qualifier)) => (name, Some(Qualifier::parse(qualifier)?)),
                None => (called, None),
            };
            let name = FunctionName::parse(name)?;
            return Ok(Destination::Function(name, qualifier));
        }
        if let Some(key) = text.strip_prefix("stream:") {
            let good = !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic());
            if !good {
                return Err("must name a stream in visible ASCII characters".into());
            }
            return match key.starts_with(RESERVED_STREAMS) {
                true => Err(format!("must not begin with {RESERVED_STREAMS:?}")),
                false => Ok(Destination::Stream(key.into())),
            };
        }
        if text.starts_with("arn:") {
            let queue = Queue::try_from(text.to_owned())?;
            // As on AWS: a message of a FIFO queue needs a group, and an event is of none.
            return match queue.is_fifo() {
                true => Err("must not be a FIFO queue".into()),
                false => Ok(Destination::Queue(queue)),
            };
        }
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err(
                "must be \"function:NAME\", with or without a version or an alias behind it, a URL with http:// or https://, \"stream:KEY\", or the ARN of a queue"
                    .into(),
            );
        };
        let authority = authority(rest);
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be a URL without spaces, in ASCII".into());
        }
        if authority.contains('@') {
            return Err("must not have a user or a password: it is shown".into());
        }
        if authority.is_empty() || authority.starts_with(':') || text.contains('#') {
            return Err("must be a URL with a host and without a fragment".into());
        }
        Ok(Destination::Webhook(text.into()))
    }

    /// Who takes what is sent there, as far as can be told: one that is silent is silent for all of these. `None` where it is not sent out.
    pub fn way(&self) -> Option<&str> {
        match self {
            Destination::Function(..) | Destination::Stream(_) => None,
            Destination::Webhook(url) => {
                let rest = url.split_once("://").map_or(&**url, |(_, rest)| rest);
                Some(authority(rest))
            }
            // All of them are at one service.
            Destination::Queue(_) => Some("arn:aws:sqs"),
        }
    }

    /// As a metric label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Destination::Function(..) => "function",
            Destination::Webhook(_) => "webhook",
            Destination::Stream(_) => "stream",
            Destination::Queue(_) => "queue",
        }
    }
}

/// Of a URL without its scheme.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Function(name, None) => write!(f, "function:{name}"),
            Destination::Function(name, Some(qualifier)) => {
                write!(f, "function:{name}:{qualifier}")
            }
            Destination::Webhook(url) => f.write_str(url),
            Destination::Stream(key) => write!(f, "stream:{key}"),
            Destination::Queue(queue) => queue.fmt(f),
        }
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_as_it_is_written() {
        for text in [
            "function:orders",
            "function:orders:7",
            "function:orders:live",
            "function:orders:$LATEST",
            "https://example.org/hook?x=1",
            "http://127.0.0.1:8080",
            "stream:orders:failed",
            "stream:{a}b",
            "arn:aws:sqs:us-east-1:000000000000:failed",
        ] {
            let read = Destination::parse(text).expect(text);
            assert_eq!(read.to_string(), text);
            let stored = serde_json::to_string(&read).expect("is text");
            assert_eq!(
                serde_json::from_str::<Destination>(&stored).ok(),
                Some(read)
            );
        }
        for bad in [
            "",
            "orders",
            "function:",
            "function:a/b",
            "function:a:",
            "function:a:01",
            "function:a:b:c",
            "ftp://example.org",
            "https://",
            "https://:80/",
            "https://user:secret@example.org/",
            "https://example.org/#x",
            "https://example.org/a b",
            "stream:",
            "stream:a b",
            "stream:{hearth}:events",
            "arn:aws:sqs:us-east-1:000000000000:failed.fifo",
            "arn:aws:sns:us-east-1:000000000000:failed",
            &format!("https://example.org/{}", "x".repeat(LENGTH_MAX)),
        ] {
            assert!(Destination::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_of_older_versions_are_none() {
        let read: Asynchronous = serde_json::from_str("{}").expect("is read");
        assert_eq!(read, Asynchronous::default());
    }
}
