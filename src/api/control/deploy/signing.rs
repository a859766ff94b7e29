//! Code signing configurations, and what becomes of code that is deployed to a function that has one. Signatures are AWS Signer's, which
//! nobody else can check: whatever is deployed counts as not signed. It is refused where the configuration enforces; where it only warns, it
//! is taken, told of and counted. On both faces: what one refuses the other must not take.

use crate::api::control::deploy::layers::{FIELD as LAYERS, unavailable};
use crate::api::control::deploy::{ATTEMPTS, Deploy};
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::function::Function;
use crate::domain::layer;
use crate::domain::signing::{Config, Id, Policy};
use crate::store;
use crate::telemetry::metrics;

const WHAT: &str = "signing";
const CODE: &str = "code";

/// Code was taken although its signature could not be checked: to be told when it is stored.
#[derive(Debug)]
#[must_use]
pub(super) struct Unchecked(Id);

impl Unchecked {
    pub(super) fn tell(self, function: &Function) {
        metrics::code_unchecked("taken");
        tracing::warn!(
            function = %function.name,
            signing = %self.0,
            "code was deployed whose signature was not checked"
        );
    }
}

impl Deploy {
    /// Holds a draft to the configuration of its function. Within the function's turn, as another may be given to it.
    pub(super) async fn check_signed(
        &self,
        draft: &Draft,
        current: Option<&Function>,
    ) -> Result<Option<Unchecked>, Problem> {
        let function = &draft.function;
        let had = |id: &layer::Id| {
            let mut layers = current.into_iter().flat_map(|current| &current.layers);
            layers.any(|layer| layer.id == *id)
        };
        let field = match &draft.package {
            Some(_) => CODE,
            None if function.layers.iter().any(|layer| !had(&layer.id)) => LAYERS,
            None => return Ok(None),
        };
        self.deployable(function, field).await
    }

    /// Whether a function takes new code, before any of it is fetched.
    pub async fn takes_code(&self, function: &Function) -> Result<(), Problem> {
        self.deployable(function, CODE).await.map(drop)
    }

    async fn deployable(
        &self,
        function: &Function,
        field: &'static str,
    ) -> Result<Option<Unchecked>, Problem> {
        let Some(id) = &function.aws.signing else {
            return Ok(None);
        };
        let config = self.signing(id).await?;
        let config = config.ok_or_else(|| Problem::NoSigning(id.clone()))?;
        match config.policy {
            Policy::Warn => Ok(Some(Unchecked(config.id))),
            Policy::Enforce => {
                metrics::code_unchecked("refused");
                tracing::info!(
                    function = %function.name,
                    signing = %id,
                    "code was refused because its signature cannot be checked"
                );
                Err(Problem::Unsigned {
                    function: function.name.to_string(),
                    field,
                })
            }
        }
    }

    pub async fn signing(&self, id: &Id) -> Result<Option<Config>, Problem> {
        let read = self.store.signing(id).await;
        read.map_err(|error| unavailable(WHAT, id, &error))
    }

    /// All there are, by their ids.
    pub async fn signings(&self) -> Result<Vec<Config>, Problem> {
        let listed = self.store.signings().await;
        let mut all = listed.map_err(|error| unavailable(WHAT, "all", &error))?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// A new one, of which `make` says all but its id.
    pub async fn create_signing(&self, make: impl Fn(Id) -> Config) -> Result<Config, Problem> {
        for _ in 0..ATTEMPTS {
            let config = make(Id::generate());
            match self.store.put_signing(config.clone(), None).await {
                Ok(()) => {
                    tracing::info!(signing = %config.id, "code signing configuration created");
                    return Ok(config);
                }
                // The id is another's.
                Err(store::Error::Stale) => {}
                Err(error) => return Err(unavailable(WHAT, &config.id, &error)),
            }
        }
        Err(Problem::Contended)
    }

    /// Changes one as `change` says of what there is; `None` is that there is none.
    pub async fn change_signing<E: From<Problem>>(
        &self,
        id: &Id,
        change: impl Fn(&mut Config) -> Result<(), E>,
    ) -> Result<Option<Config>, E> {
        for _ in 0..ATTEMPTS {
            let Some(mut config) = self.signing(id).await? else {
                return Ok(None);
            };
            change(&mut config)?;
            let from = config.revision;
            config.revision += 1;
            config.modified_at = clock::wall();
            match self.store.put_signing(config.clone(), Some(from)).await {
                Ok(()) => {
                    tracing::info!(signing = %id, policy = config.policy.as_str(), "code signing configuration changed");
                    return Ok(Some(config));
                }
                Err(store::Error::Stale) => {}
                Err(error) => return Err(unavailable(WHAT, id, &error).into()),
            }
        }
        Err(Problem::Contended.into())
    }

    /// `false` if there was none. One that a function has is refused.
    pub async fn delete_signing(&self, id: &Id) -> Result<bool, Problem> {
        match self.store.delete_signing(id).await {
            Ok(false) => Ok(false),
            Ok(true) => {
                tracing::info!(signing = %id, "code signing configuration deleted");
                Ok(true)
            }
            Err(store::Error::SigningInUse(id)) => Err(Problem::SigningInUse(id)),
            Err(error) => Err(unavailable(WHAT, id, &error)),
        }
    }
}
