//! Layers: published, deleted, and given to functions. No call asks for them, so they are in the store alone; a function has all it needs of
//! its own.

use std::fmt;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::api::control::code::{self, Incoming, Package};
use crate::api::control::deploy::{ATTEMPTS, Deploy, apart};
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::fault::{Blame, with_sources};
use crate::domain::function::Function;
use crate::domain::id::LayerName;
use crate::domain::key::{Grant, Scope};
use crate::domain::layer::{Attached, Content, Edit, Id, Version};
use crate::domain::limits::PACKAGE_UNPACKED_MAX;
use crate::runtime::package;
use crate::store;
use crate::task;
use crate::telemetry::metrics;

/// The field everything that is wrong with them is found in.
pub const FIELD: &str = "layers";

/// What a version of a layer is to be, without its content.
#[derive(Debug)]
pub struct Wanted {
    pub name: LayerName,
    pub description: String,
    pub license: Option<String>,
    pub runtimes: Option<Vec<String>>,
    pub architectures: Option<Vec<String>>,
}

impl Deploy {
    /// Gives a draft the layers it shall have. One that `current` has already it keeps, whether or not it can still be found.
    pub(super) async fn attach(
        &self,
        draft: &mut Draft,
        current: Option<&Function>,
        caller: &Grant,
    ) -> Result<(), Problem> {
        if let Some(ids) = draft.layers.take() {
            let mut attached = Vec::new();
            for id in ids {
                let there = current.into_iter().flat_map(|current| &current.layers);
                if let Some(layer) = there.into_iter().find(|layer| layer.id == id) {
                    attached.push(layer.clone());
                    continue;
                }
                // What a function has, its code can read.
                caller.may_with(Scope::Deploy, id.name.as_str())?;
                let version = self.layer(&id).await?.ok_or_else(|| {
                    Problem::invalid(FIELD, format!("there is no layer version {id}"))
                })?;
                let content = version.content;
                attached.push(Attached { id, content });
            }
            draft.function.layers = attached;
        } else if draft.package.is_none() {
            return Ok(());
        }
        self.measure(&mut draft.function).await
    }

    /// Publishes a zip under the next number of a layer. What is wrong with the zip is a fault of `field`. `room` is held to the end.
    pub async fn publish_layer(
        self: &Arc<Self>,
        wanted: Wanted,
        (field, zip): (&'static str, Incoming),
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Version, Problem> {
        let places = self.places.clone();
        let packed = task::blocking("pack layer", move || code::pack(zip, &places));
        let package = packed.await.map_err(|error| match &error {
            code::Error::Package(package) if package.blame() == Blame::Platform => {
                tracing::error!(%error, "a layer could not be packed");
                Problem::Internal
            }
            error => Problem::invalid(field, error.to_string()),
        })?;
        let version = Version {
            id: Id {
                name: wanted.name,
                number: 0,
            },
            description: wanted.description,
            license: wanted.license,
            runtimes: wanted.runtimes,
            architectures: wanted.architectures,
            content: Content {
                sha256: package.code.sha256.clone(),
                size: package.code.size,
                unpacked_size: package.code.unpacked_size.unwrap_or_default(),
            },
            created_at: clock::wall(),
            revision: 1,
            policy: Vec::new(),
        };
        let this = self.clone();
        apart("publish layer", async move {
            let _room = room;
            for _ in 0..ATTEMPTS {
                let published = this.try_publish_layer(&version, &package).await;
                match published {
                    // Another was faster, or the last that had the same content was deleted just now.
                    Err(store::Error::Stale | store::Error::CodeMissing(_)) => {}
                    Err(error) => return Err(failed(&version.id, &error)),
                    Ok(version) => {
                        tracing::info!(layer = %version.id, "layer published");
                        return Ok(version);
                    }
                }
            }
            Err(Problem::Contended)
        })
        .await
    }

    async fn try_publish_layer(
        &self,
        version: &Version,
        package: &Package,
    ) -> Result<Version, store::Error> {
        self.put_code(package).await?;
        let name = version.id.name.clone();
        let number = self.store.last_of_layer(&name).await? + 1;
        let version = Version {
            id: Id { name, number },
            ..version.clone()
        };
        let edit = Edit::Publish(version.clone());
        self.store.edit_layer(edit).await?;
        Ok(version)
    }

    /// Changes what can change of a version, as `change` says of the one there is; `None` is that there is none.
    pub async fn change_layer<E: From<Problem>>(
        &self,
        id: &Id,
        change: impl Fn(&mut Version) -> Result<(), E>,
    ) -> Result<Option<Version>, E> {
        for _ in 0..ATTEMPTS {
            let Some(mut version) = self.layer(id).await? else {
                return Ok(None);
            };
            change(&mut version)?;
            version.revision += 1;
            let edit = Edit::Policy(version.clone());
            match self.store.edit_layer(edit).await {
                Ok(()) => return Ok(Some(version)),
                Err(store::Error::Stale) => {}
                Err(error) => return Err(failed(id, &error).into()),
            }
        }
        Err(Problem::Contended.into())
    }

    pub async fn delete_layer(&self, id: Id) -> Result<(), Problem> {
        let deleted = self.store.edit_layer(Edit::Delete(id.clone())).await;
        deleted.map_err(|error| failed(&id, &error))?;
        tracing::info!(layer = %id, "layer deleted");
        Ok(())
    }

    pub async fn layer(&self, id: &Id) -> Result<Option<Version>, Problem> {
        let read = self.store.layer(id).await;
        read.map_err(|error| failed(id, &error))
    }

    /// All there are, by name and number.
    pub async fn layers(&self) -> Result<Vec<Version>, Problem> {
        let listed = self.store.layers().await;
        let mut all = listed.map_err(|error| failed("all", &error))?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Refuses a function that is too large with its layers.
    pub(super) async fn measure(&self, function: &mut Function) -> Result<(), Problem> {
        if function.layers.is_empty() {
            return Ok(());
        }
        let code = match function.code.unpacked_size {
            Some(size) => size,
            None => self.unpacked_size(function).await?,
        };
        function.code.unpacked_size = Some(code);
        let sizes = function.layers.iter().map(|l| l.content.unpacked_size);
        let size = sizes.fold(code, u64::saturating_add);
        match size > PACKAGE_UNPACKED_MAX {
            true => Err(Problem::LayersTooLarge {
                size,
                limit: PACKAGE_UNPACKED_MAX,
            }),
            false => Ok(()),
        }
    }

    /// Of code that an older version took in, which did not note it.
    async fn unpacked_size(&self, function: &Function) -> Result<u64, Problem> {
        let zip = self.store.code(&function.code.sha256).await;
        let zip = zip.map_err(|error| failed(&function.name, &error))?;
        let zip = zip.ok_or(Problem::CodeUnavailable)?;
        let summary = task::blocking("inspect code", move || package::inspect(&zip)).await;
        match summary {
            Ok(summary) => Ok(summary.unpacked_size),
            Err(error) => {
                tracing::error!(function = %function.name, %error, "stored code cannot be read");
                Err(Problem::CodeUnavailable)
            }
        }
    }
}

fn failed(of: impl fmt::Display, error: &store::Error) -> Problem {
    unavailable("layers", of, error)
}

/// What a store that failed means for the client; `of` is what it was asked about.
pub(super) fn unavailable(
    what: &'static str,
    of: impl fmt::Display,
    error: &store::Error,
) -> Problem {
    match error {
        store::Error::DiskFull { operation, source } => {
            metrics::store_error(operation);
            metrics::disk_full("store");
            tracing::error!(%of, operation, source = with_sources(&**source), "the store's disk is full");
            Problem::DiskFull
        }
        error => {
            metrics::store_error(what);
            tracing::error!(%of, error = with_sources(error), "store failed");
            Problem::StoreUnavailable
        }
    }
}
