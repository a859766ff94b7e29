//! Writes what is provisioned, and keeps what functions take of the account's limit for themselves within it.

use std::sync::Arc;

use crate::api::control::deploy::Deploy;
use crate::api::control::deploy::versions::problem;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::Grant;
use crate::domain::version::{Published, Qualifier};
use crate::scheduler::provision::claim;

impl Deploy {
    /// Has so many workers kept ready. They are there when `Scheduler::provisioning` says so.
    pub async fn provision(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: Qualifier,
        requested: u32,
    ) -> Result<(), Problem> {
        let this = self.clone();
        let decide = move |function: &Function, published: &Published| {
            let edit = published.provision(&qualifier, requested, clock::wall());
            let edit = edit.map_err(|refused| problem(refused, function))?;
            this.check_provisioned(function, &published.after(edit.clone()), requested)?;
            Ok((Some(edit), ()))
        };
        self.edit_reserving("provision", caller, called, decide)
            .await
    }

    pub async fn unprovision(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: String,
    ) -> Result<(), Problem> {
        let decide = move |function: &Function, published: &Published| {
            let edit = published.unprovision(&qualifier);
            let edit = edit.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), ()))
        };
        self.edit_reserving("unprovision", caller, called, decide)
            .await
    }

    /// Whether there is room for what would be provisioned.
    fn check_provisioned(
        &self,
        function: &Function,
        next: &Published,
        requested: u32,
    ) -> Result<(), Problem> {
        let refused = |message: String| Err(Problem::invalid("requested", message));
        let sum = next.provisioned_in_all();
        let others = sum.saturating_sub(requested);
        if let Some(reserved) = function.reserved_concurrency {
            if sum > reserved {
                let most = reserved.saturating_sub(others);
                return refused(format!(
                    "may be {most} at most: the function's reserved_concurrency is {reserved}"
                ));
            }
        } else {
            let (most, least) = self.unclaimed(&function.id);
            if claim(None, next).is_some_and(|claim| claim > most) {
                let most = most.saturating_sub(others);
                let account = self.account_concurrency;
                return refused(format!(
                    "may be {most} at most: of the {account} calls there may be, {least} have to stay unreserved and others have the rest"
                ));
            }
        }
        let budget = self.scheduler.memory_budget();
        let memory = self.provisioned_memory(&function.id, next);
        match memory > budget {
            true => refused(format!(
                "is more than fits: all provisioned workers would take {} MiB, and the host's budget is {} MiB",
                memory / (1024 * 1024),
                budget / (1024 * 1024)
            )),
            false => Ok(()),
        }
    }

    /// What a function may take of the account's limit for itself, and what has to stay for those that take nothing.
    pub(super) fn unclaimed(&self, id: &FunctionId) -> (u32, u32) {
        let targets = self.scheduler.targets();
        let others = targets.iter().filter(|t| t.function.id != *id);
        let claimed = others
            .filter_map(|target| target.claim())
            .fold(0, u32::saturating_add);
        let least = self.unreserved_least;
        let most = self.account_concurrency.saturating_sub(least);
        (most.saturating_sub(claimed), least)
    }

    /// What all provisioned workers take, with the function's as they would be.
    fn provisioned_memory(&self, id: &FunctionId, next: &Published) -> u64 {
        let of = |published: &Published| -> u64 {
            let all = published.provisioned();
            let memory = all.iter().filter_map(|(number, count)| {
                let version = published.version(*number)?;
                Some(version.function.memory.bytes() * u64::from(*count))
            });
            memory.sum()
        };
        let targets = self.scheduler.targets();
        let others = targets.iter().filter(|t| t.function.id != *id);
        others.map(|target| of(target.published())).sum::<u64>() + of(next)
    }
}
