//! The gates of a function and how they follow its settings. What is reserved for it is a part of the account's limit, of which its own gate
//! keeps count, so that a call needs one permit; without a reservation its calls are in the part of all others.

use std::sync::{Arc, OnceLock};

use crate::domain::fault::Throttle;
use crate::scheduler::admit::{Gate, Gates};
use crate::scheduler::share::Share;

/// What all versions and revisions of a function have in common of its limits.
#[derive(Debug, Clone)]
pub struct FunctionGates {
    own: Arc<Gate>,
    limited_by: Throttle,
    /// Has its part of the account's limit.
    has_part: bool,
    /// Counts the calls that are in the function's own part, and has no room any more when there is none. `None` without a reservation,
    /// or if no other process shares the limits.
    reserved: Option<Arc<Gate>>,
    /// What is reserved and not provisioned. Not made before something is both.
    rest: Arc<OnceLock<Arc<Gate>>>,
}

impl FunctionGates {
    /// `scope` is what the function is called among processes, `old` what its gates were.
    pub fn of(
        share: Option<&Arc<Share>>,
        scope: &str,
        max: Option<u32>,
        reservation: Option<u32>,
        old: Option<&Self>,
    ) -> Self {
        let (limit, limited_by) = limit(max, reservation);
        let has_part = reservation.is_some();
        let reserved_scope = format!("reserved:{scope}");
        let reserved = old.and_then(|old| old.reserved.clone());
        // In this order, so that the calls under way are counted somewhere at any moment.
        if let (Some(reserved), false) = (&reserved, has_part) {
            set_limit(share, &reserved_scope, reserved, 0, true);
        }
        let own = match old {
            Some(old) => old.own.clone(),
            None => gate(share, scope, limit, has_part),
        };
        if own.limit() != limit || old.is_some_and(|old| old.has_part != has_part) {
            set_limit(share, scope, &own, limit, has_part);
        }
        let reserved = match share {
            Some(share) if has_part => {
                Some(reserved.unwrap_or_else(|| share.gate(&reserved_scope, u32::MAX, true)))
            }
            _ => None,
        };
        Self {
            own,
            limited_by,
            has_part,
            reserved,
            rest: old.map(|old| old.rest.clone()).unwrap_or_default(),
        }
    }

    /// Divides what is reserved: `provisioned` of it is for calls of versions whose workers are kept ready.
    pub fn divide(
        &self,
        share: Option<&Arc<Share>>,
        scope: &str,
        reservation: Option<u32>,
        provisioned: u32,
    ) {
        let rest = match reservation {
            Some(reserved) if provisioned > 0 => reserved.saturating_sub(provisioned),
            _ if self.rest.get().is_none() => return,
            _ => u32::MAX,
        };
        let scope = format!("rest:{scope}");
        let gate = self.rest.get_or_init(|| gate(share, &scope, rest, false));
        if gate.limit() != rest {
            set_limit(share, &scope, gate, rest, false);
        }
    }

    /// What a call of the function goes through.
    pub fn gates<'a>(&'a self, unreserved: &'a Arc<Gate>, account: &'a Arc<Gate>) -> Gates<'a> {
        Gates {
            function: &self.own,
            limited_by: self.limited_by,
            within: self.rest.get().filter(|_| self.has_part),
            part: match self.has_part {
                true => self.reserved.as_ref(),
                false => Some(unreserved),
            },
            account,
        }
    }

    /// The same for a call of a version that has places to itself.
    pub fn kept<'a>(&self, gates: Gates<'a>, places: &'a Arc<Gate>) -> Gates<'a> {
        match self.has_part {
            true => Gates {
                within: Some(places),
                ..gates
            },
            false => Gates {
                part: Some(places),
                ..gates
            },
        }
    }

    /// Calls of it are in its own part of the account's limit.
    pub fn has_part(&self) -> bool {
        self.has_part
    }
}

/// `part`: of the account's limit.
pub fn gate(share: Option<&Arc<Share>>, scope: &str, limit: u32, part: bool) -> Arc<Gate> {
    match share {
        None => Gate::new(limit),
        Some(share) => share.gate(scope, limit, part),
    }
}

pub fn set_limit(
    share: Option<&Arc<Share>>,
    scope: &str,
    gate: &Arc<Gate>,
    limit: u32,
    part: bool,
) {
    match share {
        None => gate.set_limit(limit),
        Some(share) => share.limit(scope, gate, limit, part),
    }
}

/// How many calls of a function may be under way, and what that limit is called.
fn limit(max: Option<u32>, reservation: Option<u32>) -> (u32, Throttle) {
    let own = max.unwrap_or(u32::MAX);
    match reservation {
        Some(reserved) if reserved <= own => (reserved, Throttle::ReservedConcurrency),
        _ => (own, Throttle::FunctionConcurrency),
    }
}
