//! Event source mappings: which queue's messages a function is called with, and how. A mapping names its function by name, as on AWS: it
//! outlives the function, and is of whatever has the name next. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::id::FunctionName;

/// Messages that one request may bring.
pub const RECEIVE_MAX: u32 = 10;
/// Messages of one batch, where there is time to gather them; a FIFO queue's batch is what one request brings.
pub const BATCH_MAX: u32 = 10_000;
pub const WINDOW_SECONDS_MAX: u32 = 300;
/// Batches at the same time, as a mapping may say.
pub const CONCURRENCY: std::ops::RangeInclusive<u32> = 2..=1000;
/// Patterns of one mapping.
pub const FILTERS_MAX: usize = 10;
/// Mappings that there may be: each that is enabled holds a connection.
pub const MAPPINGS_MAX: usize = 1000;
const QUEUE_NAME_MAX: usize = 80;

/// A mapping's id, made once and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MappingId(Uuid);

impl MappingId {
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// As it is written, in lower case and with hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        (text.len() == 36).then_some(Self(id))
    }
}

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A queue, as its ARN names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Queue {
    pub partition: String,
    pub region: String,
    pub account: String,
    pub name: String,
}

impl Queue {
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            region,
            account,
            name,
        } = self;
        write!(f, "arn:{partition}:sqs:{region}:{account}:{name}")
    }
}

impl From<Queue> for String {
    fn from(queue: Queue) -> Self {
        queue.to_string()
    }
}

impl TryFrom<String> for Queue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no ARN of a queue");
        let parts: Vec<_> = text.split(':').collect();
        let &["arn", partition, "sqs", region, account, name] = &parts[..] else {
            return Err(wrong());
        };
        let word = |text: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            !text.is_empty() && text.chars().all(good)
        };
        let named = word(name.strip_suffix(".fifo").unwrap_or(name));
        let fits = named && name.len() <= QUEUE_NAME_MAX;
        if !(fits && word(partition) && word(region) && word(account)) {
            return Err(wrong());
        }
        Ok(Self {
            partition: partition.into(),
            region: region.into(),
            account: account.into(),
            name: name.into(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    pub id: MappingId,
    /// Grows by one with every change.
    pub revision: u64,
    pub queue: Queue,
    pub function: FunctionName,
    /// A version's number, an alias, or `$LATEST`, as it was written.
    pub qualifier: Option<String>,
    pub enabled: bool,
    pub batch_size: u32,
    pub window_seconds: u32,
    /// Patterns, each as it was written; a message is for the function if one of them says so, or there are none.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Whether the function says which messages of a batch it failed to handle.
    #[serde(default)]
    pub reports_failures: bool,
    /// Batches at the same time; `None` is the server's number.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// What only AWS's clients see.
    #[serde(default)]
    pub kms_key: Option<String>,
    #[serde(default)]
    pub metrics: Vec<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub changed_at: Timestamp,
}

impl Mapping {
    /// What no other mapping has: of one queue, one function, version or alias is called once.
    pub fn place(&self) -> String {
        let qualifier = self.qualifier.as_deref().unwrap_or_default();
        format!("{} {}:{qualifier}", self.queue, self.function)
    }
}

/// A change of one mapping, as a store writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A new one has revision 1; any other is refused unless its revision follows the one that is stored.
    Put(Box<Mapping>),
    /// What is not there is deleted already.
    Delete(MappingId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_read_as_it_is_written() {
        for text in [
            "arn:aws:sqs:us-east-1:000000000000:orders",
            "arn:aws-cn:sqs:cn-north-1:123456789012:a_b-1.fifo",
        ] {
            let queue = Queue::try_from(text.to_owned()).expect("a queue");
            assert_eq!(queue.to_string(), text);
            assert_eq!(queue.is_fifo(), text.ends_with(".fifo"));
        }
        let long = format!("arn:aws:sqs:us-east-1:000000000000:{}", "q".repeat(81));
        for bad in [
            "",
            "orders",
            "arn:aws:sqs:us-east-1:000000000000:",
            "arn:aws:sqs:us-east-1:000000000000:a/b",
            "arn:aws:sqs:us-east-1:000000000000:a:b",
            "arn:aws:sqs::000000000000:a",
            "arn:aws:sns:us-east-1:000000000000:a",
            "arn:aws:sqs:us-east-1:000000000000:a.b.fifo",
            "arn:aws:sqs:us-east-1:000000000000:.fifo",
            &long,
        ] {
            assert!(Queue::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_one_form() {
        let id = MappingId::generate();
        assert_eq!(MappingId::parse(&id.to_string()), Some(id));
        for bad in ["", "x", &id.to_string().replace('-', ""), "{}"] {
            assert_eq!(MappingId::parse(bad), None, "{bad}");
        }
    }
}
