//! What mappings know of queues: the actions of SQS they need, and what may come of them. How a request is made is told by `app`: HTTP is spoken
//! further up. A cheap handle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::mapping::Queue;
use crate::sources::room::Intake;
use crate::task;

/// Messages that one request takes away.
const DELETE_MAX: usize = 10;
/// Such requests at the same time.
const DELETES: usize = 8;
/// Larger answers are read where it may take long.
const INLINE_MAX: usize = 64 * 1024;

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the queue does not exist")]
    NoQueue,
    #[error("Hearth's key may not {0}")]
    Denied(&'static str),
    /// The configuration, or the service, has to be seen to.
    #[error("the queues' service does not take Hearth's key: {code}: {message}")]
    Key { code: String, message: String },
    #[error("the queues' service refused: {code}: {message}")]
    Refused { code: String, message: String },
    /// Here, and not there.
    #[error("there was no room for its messages")]
    NoRoom,
    #[error("the queues' service {did}")]
    Away {
        /// In general, for whoever asked.
        did: String,
        /// And what the log says of it besides.
        why: String,
    },
}

impl Refusal {
    pub fn away(did: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Away {
            did: did.into(),
            why: why.into(),
        }
    }
}

/// An action: its name, what it is told, how long the service may take beyond its usual time, and where there is room for its answer if that may
/// be a large one.
#[derive(Debug, Clone)]
pub struct Action {
    pub name: &'static str,
    pub told: Value,
    pub waits: Duration,
    pub intake: Option<Arc<Intake>>,
}

type Ask = dyn Fn(Action) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync;

#[derive(Clone)]
pub struct Queues {
    ask: Arc<Ask>,
    region: Arc<str>,
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// What is to be known of a queue before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// For so long nobody else has a message.
    pub visibility: Duration,
}

/// A message as SQS writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    pub message_id: String,
    pub receipt_handle: String,
    #[serde(default)]
    pub body: String,
    #[serde(default, rename = "MD5OfBody")]
    pub md5_of_body: String,
    #[serde(default, rename = "MD5OfMessageAttributes")]
    pub md5_of_attributes: Option<String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    #[serde(default)]
    pub message_attributes: BTreeMap<String, Attribute>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attribute {
    #[serde(default)]
    pub string_value: Option<String>,
    /// In base64.
    #[serde(default)]
    pub binary_value: Option<String>,
    pub data_type: String,
}

impl Queues {
    /// `region` is the only one whose queues can be asked for.
    pub fn new(
        region: &str,
        ask: impl Fn(Action) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            ask: Arc::new(ask),
            region: region.into(),
        }
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &'static str,
        told: Value,
    ) -> Result<T, Refusal> {
        let (waits, intake) = (Duration::ZERO, None);
        let action = Action {
            name,
            told,
            waits,
            intake,
        };
        self.answer(action).await
    }

    async fn answer<T: DeserializeOwned + Send + 'static>(
        &self,
        action: Action,
    ) -> Result<T, Refusal> {
        let name = action.name;
        let said = (self.ask)(action).await?;
        let read = match said.len() <= INLINE_MAX {
            true => serde_json::from_slice(&said),
            false => task::blocking("read messages", move || serde_json::from_slice(&said)).await,
        };
        read.map_err(|error| {
            let did = format!("answered {name} as SQS does not");
            Refusal::away(did, error.to_string())
        })
    }

    /// What requests name a queue by. It is never asked where this leads.
    pub async fn url(&self, queue: &Queue) -> Result<String, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            queue_url: String,
        }
        let told = json!({"QueueName": queue.name, "QueueOwnerAWSAccountId": queue.account});
        let answer = self.ask::<Answer>("GetQueueUrl", told);
        Ok(answer.await?.queue_url)
    }

    pub async fn send(&self, told: Value) -> Result<(), Refusal> {
        let (waits, intake) = (Duration::ZERO, None);
        let action = Action {
            name: "SendMessage",
            told,
            waits,
            intake,
        };
        (self.ask)(action).await.map(drop)
    }

    pub async fn look(&self, url: &str) -> Result<Look, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            attributes: BTreeMap<String, String>,
        }
        let told = json!({"QueueUrl": url, "AttributeNames": ["VisibilityTimeout"]});
        let answer = self.ask::<Answer>("GetQueueAttributes", told);
        let attributes = answer.await?.attributes;
        let seconds = attributes.get("VisibilityTimeout");
        let seconds = seconds.and_then(|seconds| seconds.parse().ok());
        let seconds = seconds.ok_or_else(|| {
            let did = "did not say how long a message of the queue is hidden";
            Refusal::away(did, format!("{attributes:?}"))
        })?;
        Ok(Look {
            visibility: Duration::from_secs(seconds),
        })
    }

    /// Up to `most` messages; waits for the first of them, in whole seconds, and for the room that they take.
    pub async fn receive(
        &self,
        url: &str,
        most: u32,
        wait: Duration,
        intake: Arc<Intake>,
    ) -> Result<Vec<Message>, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            messages: Vec<Message>,
        }
        // Some services know the one name for the attributes, some the other.
        let told = json!({
            "QueueUrl": url, "MaxNumberOfMessages": most, "WaitTimeSeconds": wait.as_secs(),
            "AttributeNames": ["All"], "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"],
        });
        let answer = self.answer::<Answer>(Action {
            name: "ReceiveMessage",
            told,
            waits: wait,
            intake: Some(intake),
        });
        Ok(answer.await?.messages)
    }

    /// Says which of these messages are still there because it was not told to take them away, and why the last of them is.
    pub async fn delete(&self, url: &str, handles: Vec<String>) -> (Vec<String>, Option<Refusal>) {
        self.each("DeleteMessageBatch", url, handles, None).await
    }

    /// Lets everybody have these messages again at once.
    pub async fn give_back(
        &self,
        url: &str,
        handles: Vec<String>,
    ) -> (Vec<String>, Option<Refusal>) {
        let name = "ChangeMessageVisibilityBatch";
        self.each(name, url, handles, Some(0)).await
    }

    async fn each(
        &self,
        name: &'static str,
        url: &str,
        handles: Vec<String>,
        visibility: Option<u32>,
    ) -> (Vec<String>, Option<Refusal>) {
        let parts = handles.chunks(DELETE_MAX).map(<[String]>::to_vec);
        let parts: Vec<_> = parts.collect();
        let done = stream::iter(parts)
            .map(|part| self.part(name, url, part, visibility))
            .buffer_unordered(DELETES);
        done.fold((Vec::new(), None), |(mut all, why), (left, refusal)| {
            all.extend(left);
            std::future::ready((all, refusal.or(why)))
        })
        .await
    }

    async fn part(
        &self,
        name: &'static str,
        url: &str,
        handles: Vec<String>,
        visibility: Option<u32>,
    ) -> (Vec<String>, Option<Refusal>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            failed: Vec<Failed>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Failed {
            id: String,
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let entries = handles.iter().enumerate().map(|(at, handle)| {
            let mut entry = json!({"Id": at.to_string(), "ReceiptHandle": handle});
            if let Some(visibility) = visibility {
                entry["VisibilityTimeout"] = visibility.into();
            }
            entry
        });
        let told = json!({"QueueUrl": url, "Entries": entries.collect::<Vec<_>>()});
        let failed = match self.ask::<Answer>(name, told).await {
            Ok(answer) => answer.failed,
            Err(refusal) => return (handles, Some(refusal)),
        };
        let refusal = failed.last().map(|last| Refusal::Refused {
            code: last.code.clone(),
            message: last.message.clone().unwrap_or_default(),
        });
        let left = failed.iter().map(|one| {
            let at: usize = one.id.parse().ok()?;
            handles.get(at).cloned()
        });
        match left.collect() {
            Some(left) => (left, refusal),
            // Which of them it means, it does not say.
            None => (handles, refusal),
        }
    }
}
