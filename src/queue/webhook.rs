//! What the queue knows of webhooks: that a document can be posted to a URL, and what may come of it. How that is done is told by `app`: HTTP
//! is spoken further up.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::id::RequestId;

/// Why a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// It may be taken later.
    pub for_now: bool,
}

type Post =
    dyn Fn(String, RequestId, Bytes) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync;

/// Posts documents. A cheap handle.
#[derive(Clone)]
pub struct Webhooks(Arc<Post>);

impl Webhooks {
    pub fn new(
        post: impl Fn(String, RequestId, Bytes) -> BoxFuture<'static, Result<(), Refusal>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(post))
    }

    pub async fn post(&self, url: &str, id: RequestId, document: Bytes) -> Result<(), Refusal> {
        (self.0)(url.to_owned(), id, document).await
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}
