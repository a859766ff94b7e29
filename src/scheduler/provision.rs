//! Provisioned concurrency: workers of published versions that are kept ready, and the part of the account's limit that is for calls of
//! them. The pool keeps the workers; here is how many, and how it stands. Each process keeps as many, because calls come to any of them;
//! the places under the limit are for all processes together.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::domain::fault::{Blame, Fault};
use crate::domain::id::{FunctionId, RuntimeId};
use crate::domain::version::{Published, VersionId};
use crate::runtime::style::Style;
use crate::scheduler::admit::{self, Permit};
use crate::scheduler::gates::{gate, set_limit};
use crate::scheduler::share::{Share, Term};
use crate::scheduler::{Scheduler, Target};

/// How it stands with what is provisioned for a qualifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    pub requested: u32,
    /// Workers that are there, idle or busy.
    pub ready: u32,
    pub status: Status,
    /// Why it failed, if it did; it is tried again.
    pub reason: Option<String>,
    /// It was the function's own code.
    pub by_function: bool,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Ready,
    Failed,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::InProgress => "IN_PROGRESS",
            Status::Ready => "READY",
            Status::Failed => "FAILED",
        }
    }
}

/// What a function takes of the account's limit for itself: what is reserved, and what is provisioned where nothing is.
pub fn claim(reserved: Option<u32>, published: &Published) -> Option<u32> {
    reserved.or_else(|| {
        let sum = published.provisioned_in_all();
        (sum > 0).then_some(sum)
    })
}

impl Target {
    /// What the function takes of the account's limit for itself.
    pub fn claim(&self) -> Option<u32> {
        claim(self.function.reserved_concurrency, self.published())
    }
}

impl Scheduler {
    /// Has as many workers kept ready as is asked for. After every change of what is published, or of where it runs.
    pub(super) fn provision(&self, latest: &Target) {
        let published = latest.published();
        let wanted = published.provisioned();
        let (share, reserved) = (self.share.as_ref(), latest.function.reserved_concurrency);
        let scope = latest.function.id.as_str();
        let gates = &latest.shared.gates;
        gates.divide(share, scope, reserved, published.provisioned_in_all());
        for (number, target) in latest.qualifiers.opened() {
            let count = wanted.get(&number).copied().unwrap_or(0);
            if count > 0 || target.provisioned.get().is_some() {
                let scope = format!("provisioned:{}", target.digest);
                // Of what is reserved if anything is, else of the account's limit.
                let part = reserved.is_none();
                let places = target
                    .provisioned
                    .get_or_init(|| gate(share, &scope, count, part));
                set_limit(share, &scope, places, count, part);
            }
            // What has no place yet and needs none stays without.
            if (count > 0 || target.slot.get().is_some())
                && let Ok(slot) = self.slot(target)
            {
                self.pool.provision(slot, count as usize);
            }
        }
    }

    /// The same for what is found under an id now.
    pub(super) fn provision_current(&self, id: &FunctionId) {
        if let Some(latest) = self.find(id.as_str()) {
            self.provision(&latest);
        }
    }

    /// How it stands; `None` if nothing is provisioned for the qualifier.
    pub fn provisioning(&self, latest: &Arc<Target>, qualifier: &str) -> Option<Provisioning> {
        let published = latest.published();
        let provisioned = published.head.provisioned.get(qualifier)?;
        let (mut ready, mut all_ready, mut reason) = (0, true, None);
        let mut by_function = false;
        for (number, share) in published.shares(qualifier) {
            let target = self.version(latest, VersionId::Number(number))?;
            let slot = match self.slot(&target) {
                Ok(slot) => slot,
                Err(why) => {
                    (all_ready, reason) = (false, Some(why.into()));
                    continue;
                }
            };
            let stands = slot.provisioning();
            let there = u32::try_from(stands.ready).unwrap_or(u32::MAX);
            ready += share.min(there);
            if stands.ready < stands.wanted {
                all_ready = false;
                let failure = stands.failure;
                by_function = failure
                    .as_ref()
                    .map_or(by_function, |fault| fault.blame() == Blame::Function);
                reason = failure.map(|fault| fault.to_string()).or(reason);
            }
            if !target.installed {
                reason = Some(format!(
                    "its runtime {} is not installed",
                    target.function.runtime
                ));
            }
        }
        let status = match (&reason, all_ready && ready >= provisioned.requested) {
            (_, true) => Status::Ready,
            (Some(_), false) => Status::Failed,
            (None, false) => Status::InProgress,
        };
        Some(Provisioning {
            requested: provisioned.requested,
            ready,
            status,
            by_function: by_function && status == Status::Failed,
            reason: reason.filter(|_| status == Status::Failed),
            updated_at: provisioned.updated_at,
        })
    }

    /// How the errors of a runtime's functions look.
    pub fn style(&self, runtime: &RuntimeId) -> Style {
        self.pool.style(runtime)
    }

    /// The memory all workers may have together, in bytes.
    pub fn memory_budget(&self) -> u64 {
        self.pool.options.memory_budget
    }

    /// Whether a permit is still this process's to spend.
    pub(super) fn may_begin(&self, term: Option<Term>) -> bool {
        still(self.share.as_ref(), term)
    }

    /// The same, for who asks later.
    pub(super) fn begins(&self, term: Option<Term>) -> impl FnOnce() -> bool + use<> {
        let share = self.share.clone();
        move || still(share.as_ref(), term)
    }

    /// A place for a call, first among those its version's provisioned workers have to themselves.
    pub(super) async fn admit(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<(Permit, Option<Term>), Fault> {
        let limited = &target.shared.gates;
        let gates = limited.gates(&self.unreserved, &self.account);
        let places = target.provisioned.get().filter(|gate| gate.limit() > 0);
        let own = places.map(|places| limited.kept(gates, places));
        let Some(share) = &self.share else {
            if let Some(permit) = own.and_then(|own| admit::admit(own).ok()) {
                return Ok((permit, None));
            }
            // More calls than workers are kept: they have what all others have.
            let permit = admit::admit(gates).map_err(|full| full.fault)?;
            return Ok((permit, None));
        };
        if let Some(own) = own {
            // All others may have nothing.
            let alone = gates.within.is_some_and(|rest| rest.limit() == 0);
            let others = (!alone).then_some(gates);
            let mut here = std::iter::once(own).chain(others);
            if let Some((permit, term)) = here.find_map(|gates| share.admit_now(gates)) {
                return Ok((permit, Some(term)));
            }
            // What the version has to itself may be with another process, and is its own however much the others use.
            let admitted = match others {
                None => share.admit(own, deadline).await,
                Some(others) => Box::pin(share.admit_at_either(own, others, deadline)).await,
            };
            return admitted.map(|(permit, term)| (permit, Some(term)));
        }
        let (permit, term) = share.admit(gates, deadline).await?;
        Ok((permit, Some(term)))
    }
}

fn still(share: Option<&Arc<Share>>, term: Option<Term>) -> bool {
    share
        .zip(term)
        .is_none_or(|(share, term)| share.still(term))
}
