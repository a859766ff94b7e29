//! The Redis that keeps the state, if one does: whether it answers, and whether it keeps what it acknowledges. Nothing is written to it.

use std::path::Path;

use crate::config;
use crate::doctor::Finding;
use crate::store::redis::{self as store, Options};
use crate::store::{Content, Error, embedded};
use crate::task;

const ABOUT: &str = "store";

/// `None` for the embedded one, which is looked at with the state directory.
pub(super) async fn examine(configured: &config::Store) -> Vec<Finding> {
    let Some(options) = options(configured) else {
        return Vec::new();
    };
    match store::examine(&options).await {
        Ok(risks) if risks.is_empty() => {
            vec![Finding::good(
                ABOUT,
                "Redis answers and keeps what it acknowledges",
            )]
        }
        Ok(risks) => risks.into_iter().map(risk).collect(),
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            let why = why.unwrap_or_else(|| error.to_string());
            vec![Finding::bad(
                ABOUT,
                format!("Redis cannot be asked: {why}"),
                "start it, or mend store.url; the server waits for it and answers 503 meanwhile",
            )]
        }
    }
}

/// What the store has now.
pub(super) async fn content(
    configured: &config::Store,
    state_dir: &Path,
) -> Result<Content, Error> {
    if let Some(options) = options(configured) {
        return store::look(&options).await;
    }
    let state_dir = state_dir.to_owned();
    task::blocking("look at the store", move || embedded::look(&state_dir)).await
}

fn options(configured: &config::Store) -> Option<Options> {
    let config::Store::Redis {
        place,
        tls_ca,
        call_timeout,
        look_again,
    } = configured
    else {
        return None;
    };
    Some(Options {
        place: config::redis::Place::clone(place),
        authority: tls_ca.clone(),
        deadline: *call_timeout,
        look_again: *look_again,
    })
}

/// A risk names what is wrong and, behind the colon, what to set.
fn risk(text: &str) -> Finding {
    let (found, mend) = text.split_once(": ").unwrap_or((text, "see its settings"));
    Finding::warning(
        ABOUT,
        format!("Redis may lose what it acknowledged: {found}"),
        mend,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Verdict;

    #[tokio::test]
    async fn a_redis_that_is_not_there_is_bad_and_the_embedded_store_is_not_asked() {
        assert_eq!(examine(&config::Store::Embedded).await, []);
        let nowhere = config::Store::Redis {
            place: Box::new(config::redis::read("redis://:secret@127.0.0.1:1").expect("a URL")),
            tls_ca: None,
            call_timeout: Duration::from_secs(20),
            look_again: Duration::from_secs(1),
        };
        let found = examine(&nowhere).await;
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Bad));
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    }

    #[test]
    fn a_risk_says_what_to_set() {
        let found = risk("it drops keys when it is full: set maxmemory-policy noeviction");
        assert_eq!(found.verdict, Verdict::Warning);
        assert_eq!(
            found.mend.as_deref(),
            Some("set maxmemory-policy noeviction")
        );
    }
}
