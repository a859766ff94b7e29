//! Limits beside those of functions, which all processes on one store have in common: places that are asked for under a name of their own, from the
//! same ledger and under the same lease as calls' (`share`), and are no part of the account's limit. Event sources have them.

use std::sync::Arc;

use crate::domain::fault::Throttle;
use crate::scheduler::Scheduler;
use crate::scheduler::admit::{Gate, Gates, Permit, UNLIMITED};
use crate::scheduler::share::{Share, Term};

/// What names of such limits begin with; those of functions do not.
pub const SCOPE: &str = "source:";

#[derive(Debug)]
pub struct Places {
    share: Arc<Share>,
    scope: String,
    gate: Arc<Gate>,
    /// Nobody's limit.
    open: Arc<Gate>,
}

/// Somebody's place, until this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: Permit,
    share: Arc<Share>,
    term: Term,
}

impl Scheduler {
    /// Places that this process shares with others; `None` if it has no others.
    pub fn places(&self, name: impl std::fmt::Display, limit: u32) -> Option<Places> {
        let share = self.share.clone()?;
        Some(Places::new(share, format!("{SCOPE}{name}"), limit))
    }
}

impl Places {
    fn new(share: Arc<Share>, scope: String, limit: u32) -> Self {
        Self {
            gate: share.gate(&scope, limit, false),
            open: Gate::new(UNLIMITED),
            share,
            scope,
        }
    }

    pub fn set_limit(&self, limit: u32) {
        if self.gate.limit() != limit {
            self.share.limit(&self.scope, &self.gate, limit, false);
        }
    }

    /// A place, if there is one or one is on its way from others. Dropping it is safe.
    pub async fn enter(&self) -> Option<Place> {
        let gates = Gates {
            function: &self.gate,
            limited_by: Throttle::FunctionConcurrency,
            within: None,
            part: None,
            account: &self.open,
        };
        let (permit, term) = self.share.admit_or_come_again(gates).await?;
        Some(Place {
            _permit: permit,
            share: self.share.clone(),
            term,
        })
    }
}

impl Place {
    /// Whether it may still be used: it may have been given to others when this process was not heard for a while.
    pub fn lasts(&self) -> bool {
        self.share.still(self.term)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock;
    use crate::scheduler::share::{self, asking};
    use crate::store::embedded::Embedded;
    use crate::task;

    /// A process that asks a ledger, with ten places in common with all others.
    fn process(
        name: &str,
        ledger: &Arc<Embedded>,
    ) -> (Places, CancellationToken, JoinHandle<Option<()>>) {
        let share = Share::new(share::Options {
            process: name.into(),
            incarnation: name.into(),
            account: 1,
            lease: Duration::from_secs(5),
            wait: Duration::ZERO,
            waiting: 100,
            cancel_grace: Duration::ZERO,
        });
        let stop = CancellationToken::new();
        let asking = asking::run(share.clone(), ledger.clone(), stop.clone());
        let asking = task::spawn(task::Kind::Local, "permits", asking);
        (Places::new(share, format!("{SCOPE}m"), 10), stop, asking)
    }

    /// As many as it is given within a time in which it could have all.
    async fn fill(places: &Places, have: &mut Vec<Place>, wanted: usize) {
        let deadline = clock::now() + Duration::from_secs(30);
        while have.len() < wanted && clock::now() < deadline {
            match places.enter().await {
                Some(place) => have.push(place),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    #[tokio::test]
    async fn all_processes_together_have_no_more_and_a_dead_ones_come_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ledger = Embedded::open(dir.path()).expect("opens");
        let (first, _first_stop, first_asking) = process("a", &ledger);
        let (second, _second_stop, _second_asking) = process("b", &ledger);
        let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
        fill(&first, &mut of_first, 7).await;
        fill(&second, &mut of_second, 3).await;
        assert_eq!((of_first.len(), of_second.len()), (7, 3));
        for _ in 0..20 {
            assert!(first.enter().await.is_none() && second.enter().await.is_none());
        }
        // What one gives up the other may have.
        of_first.truncate(5);
        fill(&second, &mut of_second, 5).await;
        assert_eq!(of_second.len(), 5);
        assert!(of_first.iter().chain(&of_second).all(Place::lasts));

        // It says nothing any more, as if it were killed.
        first_asking.abort();
        drop(first_asking.await);
        fill(&second, &mut of_second, 10).await;
        assert_eq!(of_second.len(), 10);
        assert!(!of_first.iter().any(Place::lasts), "they are the other's");
        assert!(first.enter().await.is_none());
        // A lower limit waits for those who are inside.
        second.set_limit(2);
        of_second.truncate(2);
        assert!(second.enter().await.is_none());
        of_second.truncate(1);
        fill(&second, &mut of_second, 2).await;
        assert_eq!(of_second.len(), 2);
    }
}
