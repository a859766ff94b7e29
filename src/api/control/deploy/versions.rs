//! Writes versions and aliases. Every face that does goes through here: decided in `domain::version` from what is published, stored as one
//! edit, and only then made callable, within the turn on the function.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::control::deploy::{ATTEMPTS, Deploy, apart};
use crate::api::error::Problem;
use crate::clock;
use crate::domain::function::Function;
use crate::domain::id::{AliasName, FunctionId};
use crate::domain::key::{Grant, Scope};
use crate::domain::version::{Alias, Edit, Outcome, Published, Refused, Version, Wish};
use crate::scheduler::Target;
use crate::store;

/// What is to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// Of the version; the function's if left out.
    pub description: Option<String>,
    /// Refused if the function's code is another: hex SHA-256.
    pub code_sha256: Option<String>,
    /// Refused if the function is at another revision.
    pub revision: Option<u64>,
}

/// An edit to be written, if there is anything to write, and what is answered when it is.
type Decision<T> = Result<(Option<Edit>, T), Problem>;

impl Deploy {
    /// Publishes a version of the function as it is. The second is whether it is new: nothing was changed since the last one otherwise.
    pub async fn publish_version(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        ask: Publish,
    ) -> Result<(Arc<Version>, bool), Problem> {
        let decide = move |function: &Function, published: &Published| {
            if let Some(given) = ask.revision.filter(|given| *given != function.revision) {
                return Err(Problem::Stale {
                    given: given.to_string(),
                    condition: false,
                });
            }
            let code = &function.code.sha256;
            if let Some(given) = ask.code_sha256.as_ref().filter(|given| *given != code) {
                return Err(Problem::OtherCode {
                    given: given.clone(),
                    current: code.clone(),
                });
            }
            match published.publish(function, ask.description.clone(), clock::wall()) {
                Ok(Outcome::Unchanged(version)) => Ok((None, (version, false))),
                Ok(Outcome::New(version, edit)) => Ok((Some(edit), (version, true))),
                Err(refused) => Err(problem(refused, function)),
            }
        };
        let (version, new) = self.edit("publish version", caller, called, decide).await?;
        if new {
            let function = &version.function;
            tracing::info!(function = %function.name, id = %function.id, version = version.number, "version published");
        }
        Ok((version, new))
    }

    pub async fn delete_version(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        number: u64,
    ) -> Result<(), Problem> {
        let decide = move |function: &Function, published: &Published| {
            let edit = published.delete_version(number);
            let edit = edit.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), ()))
        };
        self.edit("delete version", caller, called, decide).await
    }

    pub async fn create_alias(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        name: AliasName,
        wish: Wish,
    ) -> Result<Alias, Problem> {
        let of = name.to_string();
        let decide = move |function: &Function, published: &Published| {
            let made = published.create_alias(name.clone(), wish.clone(), clock::wall());
            let (alias, edit) = made.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), alias))
        };
        let this = self.clone();
        apart("create alias", async move {
            let _turn = this.turn(&called).await?;
            let there = this.target(&called)?.published().alias(&of).is_some();
            if !there {
                // What a deletion that was cut short has left is not the new one's.
                this.forget_policy(&caller, &called, &of).await?;
            }
            this.edit_in_turn(&caller, &called, decide).await
        })
        .await
    }

    pub async fn update_alias(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        name: String,
        wish: Wish,
    ) -> Result<Alias, Problem> {
        let decide = move |function: &Function, published: &Published| {
            let made = published.update_alias(&name, wish.clone(), clock::wall());
            let (alias, edit) = made.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), alias))
        };
        self.edit("update alias", caller, called, decide).await
    }

    /// `revision` is the one of the alias that is to be deleted. Its policy goes with it.
    pub async fn delete_alias(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        name: String,
        revision: Option<u64>,
    ) -> Result<(), Problem> {
        let of = name.clone();
        let decide = move |function: &Function, published: &Published| {
            let edit = published.delete_alias(&name, revision);
            let edit = edit.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), ()))
        };
        let this = self.clone();
        apart("delete alias", async move {
            let _turn = this.turn(&called).await?;
            let deleted = this.edit_in_turn(&caller, &called, decide).await;
            if let Ok(()) | Err(Problem::NoAlias { .. }) = &deleted {
                this.forget_policy(&caller, &called, &of).await?;
            }
            deleted
        })
        .await
    }

    /// Takes away what AWS's clients wrote of who may call an alias that is not there. Within the function's turn.
    async fn forget_policy(
        &self,
        caller: &Grant,
        called: &str,
        alias: &str,
    ) -> Result<(), Problem> {
        for _ in 0..ATTEMPTS {
            let current = self.find(called)?;
            caller.may_with(Scope::Deploy, current.name.as_str())?;
            if !current.aws.has_policy(Some(alias)) {
                return Ok(());
            }
            let mut settings = (*current.aws).clone();
            settings.clear_policy(Some(alias));
            let next = Function {
                revision: current.revision + 1,
                updated_at: clock::wall(),
                aws: settings.into(),
                ..current.clone()
            };
            match self.store.put(next.clone(), Some(current.revision)).await {
                Ok(()) => {
                    self.scheduler.publish(next);
                    return Ok(());
                }
                Err(store::Error::Stale) => {
                    self.catch_up(&current.id).await;
                    self.catch_up_published(&current.id).await;
                    if self.target(called)?.published().alias(alias).is_some() {
                        // Another process has made it meanwhile: the policy is that one's.
                        return Ok(());
                    }
                }
                Err(error) => return Err(self.failed(&error, &current).await),
            }
        }
        Err(Problem::Contended)
    }

    pub(super) async fn edit<T: Send + 'static>(
        self: &Arc<Self>,
        name: &'static str,
        caller: Arc<Grant>,
        called: String,
        decide: impl Fn(&Function, &Published) -> Decision<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let this = self.clone();
        apart(name, async move {
            let _turn = this.turn(&called).await?;
            this.edit_in_turn(&caller, &called, decide).await
        })
        .await
    }

    /// The same, while nobody else takes a part of the account's limit.
    pub(super) async fn edit_reserving<T: Send + 'static>(
        self: &Arc<Self>,
        name: &'static str,
        caller: Arc<Grant>,
        called: String,
        decide: impl Fn(&Function, &Published) -> Decision<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let this = self.clone();
        apart(name, async move {
            let _turn = this.turn(&called).await?;
            let _reserving = this.reserving.lock().await;
            this.edit_in_turn(&caller, &called, decide).await
        })
        .await
    }

    async fn edit_in_turn<T>(
        &self,
        caller: &Grant,
        called: &str,
        decide: impl Fn(&Function, &Published) -> Decision<T>,
    ) -> Result<T, Problem> {
        for _ in 0..ATTEMPTS {
            let target = self.target(called)?;
            let function = &target.function;
            // Its name may be another than when the request came in.
            caller.may_with(Scope::Deploy, function.name.as_str())?;
            let published = match target.published().revision() {
                0 => Arc::new(Published::none(function.id.clone())),
                _ => target.published().clone(),
            };
            let (edit, answer) = decide(function, &published)?;
            let Some(edit) = edit else {
                return Ok(answer);
            };
            match self.store.edit(edit.clone()).await {
                Ok(()) => {
                    self.scheduler.set_published(published.after(edit));
                    return Ok(answer);
                }
                // Another instance wrote it, or a write of ours went through although it failed.
                Err(store::Error::Stale) => {
                    self.catch_up(&function.id).await;
                    self.catch_up_published(&function.id).await;
                }
                Err(error) => {
                    let problem = self.failed(&error, function).await;
                    self.catch_up_published(&function.id).await;
                    return Err(problem);
                }
            }
        }
        Err(Problem::Contended)
    }

    fn target(&self, called: &str) -> Result<Arc<Target>, Problem> {
        let found = self.scheduler.find(called);
        found.ok_or_else(|| Problem::NoFunction(called.into()))
    }

    /// Everything that is published.
    pub(super) async fn stored_published(&self) -> Result<Vec<Published>, store::Error> {
        let mut all = Vec::new();
        for head in self.store.heads().await? {
            all.extend(self.store.published(&head.function).await?);
        }
        Ok(all)
    }

    /// Takes over what another process published of a function, of which it said that it has this revision now.
    pub(super) async fn follow_published(
        &self,
        id: &FunctionId,
        revision: u64,
    ) -> Result<bool, store::Error> {
        if self.revision_of_published(id) >= Some(revision) {
            return Ok(false);
        }
        let _turn = self.turn_on_id(id).await;
        self.take_published(id).await
    }

    /// The same for everything, however it came to differ.
    pub(super) async fn reload_published(&self) -> Result<usize, store::Error> {
        let mut count = 0;
        let heads = self.store.heads().await?;
        let known: HashSet<_> = heads.iter().map(|head| &head.function).collect();
        let targets = self.scheduler.targets();
        let forgotten = targets.iter().filter_map(|target| {
            let id = &target.function.id;
            let published = target.published().revision() > 0;
            (published && !known.contains(id)).then(|| id.clone())
        });
        let differ = heads.iter().filter_map(|head| {
            let id = &head.function;
            let known = self.revision_of_published(id);
            (known != Some(head.revision)).then(|| id.clone())
        });
        for id in forgotten.chain(differ) {
            let _turn = self.turn_on_id(&id).await;
            count += usize::from(self.take_published(&id).await?);
        }
        Ok(count)
    }

    /// Publishes what the store has. Within the turn on the id. Whether that was another.
    pub(super) async fn take_published(&self, id: &FunctionId) -> Result<bool, store::Error> {
        let stored = self.store.published(id).await?;
        let stored = stored.unwrap_or_else(|| Published::none(id.clone()));
        match self.revision_of_published(id) {
            Some(known) if known != stored.revision() => {
                self.scheduler.set_published(stored);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn catch_up_published(&self, id: &FunctionId) {
        if let Err(error) = self.take_published(id).await {
            tracing::warn!(%id, %error, "could not compare versions with the store");
        }
    }

    fn revision_of_published(&self, id: &FunctionId) -> Option<u64> {
        let target = self.scheduler.find(id.as_str())?;
        // A name may look like an id.
        (target.function.id == *id).then(|| target.published().revision())
    }
}

pub(super) fn problem(refused: Refused, function: &Function) -> Problem {
    let of = function.name.to_string();
    let text = refused.to_string();
    match refused {
        Refused::NoVersion(number) => Problem::NoVersion {
            function: of,
            qualifier: number.to_string(),
        },
        Refused::NoAlias(alias) => Problem::NoAlias {
            function: of,
            alias,
        },
        Refused::AliasTaken(name) => Problem::AliasTaken {
            function: of,
            alias: name.to_string(),
        },
        Refused::InUse { by, .. } => Problem::VersionInUse { text, by },
        Refused::TooMany { what, most } => Problem::TooMany { what, most },
        Refused::Invalid { field, message } => Problem::invalid(field, message),
        Refused::NotProvisioned(qualifier) => Problem::NotProvisioned {
            function: of,
            qualifier,
        },
        Refused::UrlTaken(qualifier) => Problem::UrlTaken {
            function: of,
            qualifier,
        },
        Refused::NoUrl(qualifier) => Problem::NoUrl {
            function: of,
            qualifier,
        },
        Refused::Stale(given) => Problem::Stale {
            given: given.to_string(),
            condition: false,
        },
    }
}
