//! Settings for asynchronous calls: what a change makes of them, and how those of a version or an alias are written. The function's own
//! are a part of the function.

use std::sync::Arc;

use crate::api::control::change::{Change, Faults};
use crate::api::control::deploy::Deploy;
use crate::api::control::deploy::versions::problem;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::destination::{Asynchronous, Destination};
use crate::domain::function::Function;
use crate::domain::key::{Denied, Grant, Scope};
use crate::domain::version::{EventSettings, Published, Qualifier};

impl Change {
    /// What it makes of the settings there are.
    pub fn asynchronous(&self, there: &Asynchronous) -> Asynchronous {
        let destination = |given: &Option<Option<Destination>>, there: &Option<Destination>| {
            given.as_ref().unwrap_or(there).clone()
        };
        Asynchronous {
            max_retries: self.max_retries.unwrap_or(there.max_retries),
            max_event_age_seconds: self.max_event_age.unwrap_or(there.max_event_age_seconds),
            on_success: destination(&self.on_success, &there.on_success),
            on_failure: destination(&self.on_failure, &there.on_failure),
        }
    }

    /// Calls of a destination are made for whoever set it.
    pub(in crate::api::control) fn permit_destinations(
        &self,
        caller: &Grant,
    ) -> Result<(), Denied> {
        for to in [&self.on_success, &self.on_failure] {
            if let Some(Some(Destination::Function(name, _))) = to {
                caller.may_with(Scope::Invoke, name.as_str())?;
            }
        }
        Ok(())
    }

    /// A stream can be written to only where there are streams, and a queue only where there is a service for queues.
    pub(in crate::api::control) fn check_destinations(
        &self,
        streams: bool,
        queues: Option<&str>,
        faults: &mut Faults,
    ) {
        let fields = [
            ("on_success", &self.on_success),
            ("on_failure", &self.on_failure),
        ];
        for (field, to) in fields {
            if !streams && matches!(to, Some(Some(Destination::Stream(_)))) {
                faults.add(field, "may be a stream only where the store is a Redis");
            }
            if let Some(Some(Destination::Queue(queue))) = to
                && Some(queue.region.as_str()) != queues
            {
                let why = match queues {
                    Some(region) => format!("must be a queue in region {region}"),
                    None => "may be a queue only where aws.sqs names a service for queues".into(),
                };
                faults.add(field, why);
            }
        }
    }
}

impl Deploy {
    /// Writes the settings of a version or an alias, which are none before the first time. `only_there`: `None`, and nothing is written, if
    /// there are none yet.
    pub async fn set_events(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: Qualifier,
        change: Change,
        only_there: bool,
    ) -> Result<Option<EventSettings>, Problem> {
        change.permit_destinations(&caller)?;
        let mut faults = Faults::default();
        let streams = self.store.has_streams();
        change.check_destinations(streams, self.queues.as_deref(), &mut faults);
        faults.into_result()?;
        let decide = move |function: &Function, published: &Published| {
            let there = published.head.events.get(&qualifier.to_string());
            if there.is_none() && only_there {
                return Ok((None, None));
            }
            let none = Asynchronous::default();
            let next = change.asynchronous(there.map_or(&none, |own| &own.asynchronous));
            let edit = published.set_events(&qualifier, next, clock::wall());
            let (settings, edit) = edit.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), Some(settings)))
        };
        self.edit("set event settings", caller, called, decide)
            .await
    }

    /// Takes them away; `false` if there are none.
    pub async fn unset_events(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: String,
    ) -> Result<bool, Problem> {
        let decide = move |_: &Function, published: &Published| {
            let edit = published.unset_events(&qualifier);
            let there = edit.is_some();
            Ok((edit, there))
        };
        self.edit("unset event settings", caller, called, decide)
            .await
    }
}
