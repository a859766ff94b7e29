//! What the queue knows of the world around: that a document can be posted to a URL or sent to a queue, and what may come of it. How that is
//! done is told by `app`: HTTP is spoken further up.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::id::RequestId;
use crate::domain::mapping::Queue;

/// Why a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// It may be taken later.
    pub for_now: bool,
}

type Post =
    dyn Fn(String, RequestId, Bytes) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync;

type SendTo =
    dyn Fn(Queue, Bytes, Option<String>) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync;

/// Posts documents, and sends them to queues where there is somebody to send them. A cheap handle.
#[derive(Clone)]
pub struct Carrier {
    post: Arc<Post>,
    queues: Option<Queues>,
}

/// The queues of one region.
#[derive(Clone)]
struct Queues {
    region: Arc<str>,
    send: Arc<SendTo>,
}

impl Carrier {
    pub fn new(
        post: impl Fn(String, RequestId, Bytes) -> BoxFuture<'static, Result<(), Refusal>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            post: Arc::new(post),
            queues: None,
        }
    }

    /// The same, with a service for the queues of a region. A message has a body and, as JSON, its attributes.
    #[must_use]
    pub fn with_queues(
        mut self,
        region: &str,
        send: impl Fn(Queue, Bytes, Option<String>) -> BoxFuture<'static, Result<(), Refusal>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.queues = Some(Queues {
            region: region.into(),
            send: Arc::new(send),
        });
        self
    }

    /// Whose queues may be sent to, if any.
    pub fn region(&self) -> Option<&str> {
        self.queues.as_ref().map(|queues| &*queues.region)
    }

    pub async fn post(&self, url: &str, id: RequestId, document: Bytes) -> Result<(), Refusal> {
        (self.post)(url.to_owned(), id, document).await
    }

    pub async fn send(
        &self,
        queue: &Queue,
        body: Bytes,
        attributes: Option<String>,
    ) -> Result<(), Refusal> {
        match &self.queues {
            Some(queues) if *queues.region == queue.region => {
                (queues.send)(queue.clone(), body, attributes).await
            }
            // It was configured when the queue was named.
            _ => Err(Refusal {
                message: "this server sends to no queues of its region".into(),
                for_now: false,
            }),
        }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}
