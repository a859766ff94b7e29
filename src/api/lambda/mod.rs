//! The AWS Lambda face: what boto3, the aws CLI, SDKs and Terraform say, over the same functions, the same `Deploy` and the same calls as
//! the native face. `routes` finds the operation, `auth` who asks, and one file per kind of operation answers. Called by the gateway
//! for paths that begin with a date. Errors have AWS's shapes: `errors` is the only place that knows them.

mod absent;
pub mod account;
pub mod aliases;
pub mod auth;
pub mod body;
pub mod bucket;
pub mod change;
pub mod code;
pub mod create;
pub mod delete;
pub mod document;
pub mod errors;
pub mod event_invoke;
pub mod fields;
pub mod invoke;
pub mod layer_policy;
pub mod layers;
pub mod list;
pub mod names;
mod origin;
pub mod policy;
pub mod provisioned;
pub mod read;
pub mod resource_policy;
pub mod routes;
pub mod runtimes;
pub mod settings;
pub mod signing;
pub mod sigv4;
pub mod sources;
pub mod stream;
pub mod tail;
#[cfg(test)]
mod tests;
pub mod update;
pub mod urls;
pub mod versions;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use crate::api::body::Body;
use crate::api::control::Control;
use crate::api::error;
use crate::api::lambda::auth::Unproven;
use crate::api::lambda::errors::{REQUEST_ID, Refusal};
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::{Do, Found};
use crate::api::room::Room;
use crate::config;
use crate::domain::function::{Function, LATEST};
use crate::domain::id::RequestId;
use crate::domain::key::Grant;
use crate::domain::version::{Qualifier, VersionId};
use crate::scheduler::{Resolved, Target};
use crate::sources::Sources;

pub use crate::api::lambda::auth::Doubt;

/// What AWS calls this service where it is signed for.
pub const SERVICE: &str = "lambda";

/// Everything the face works with. A cheap handle.
#[derive(Debug, Clone)]
pub struct Lambda {
    control: Control,
    settings: Arc<config::Aws>,
    /// Whether the listener speaks TLS: URLs that are handed out begin with it.
    tls: bool,
    body_timeout: Duration,
    arriving: Arc<Room>,
    /// What calls functions with queues' messages.
    sources: Arc<Sources>,
    /// What brings code that is not sent.
    bucket: Option<Arc<bucket::Client>>,
    /// Whether hosts of function URLs are names on this machine; not asked before it matters.
    names_lead_here: Arc<OnceCell<bool>>,
}

/// A request whose sender is known, and what it asks for.
#[derive(Debug)]
struct Asked {
    caller: Arc<Grant>,
    parts: Parts,
    /// Of the path, in order; the first of most is a function's name.
    parameters: Vec<String>,
    query: Vec<(String, String)>,
    body: Bytes,
    /// The body's room, for as long as it is worked on.
    room: Option<OwnedSemaphorePermit>,
}

impl Asked {
    fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// As text, whatever it is: what is none is to be refused, and not to be passed over.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.parts.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    }
}

impl Lambda {
    pub fn new(
        control: Control,
        sources: Arc<Sources>,
        settings: config::Aws,
        tls: bool,
        body_timeout: Duration,
        arriving: Arc<Room>,
    ) -> Result<Self, bucket::NoEndpoint> {
        let bucket = settings.s3.as_ref().map(bucket::Client::new).transpose()?;
        Ok(Self {
            control,
            sources,
            settings: Arc::new(settings),
            tls,
            body_timeout,
            arriving,
            bucket: bucket.map(Arc::new),
            names_lead_here: Arc::default(),
        })
    }

    /// The answer to a request, or why nobody knows who sent it. A grant that is in its extensions was found by other means than a signature.
    pub async fn serve(
        &self,
        request: Request<axum::body::Body>,
    ) -> Result<Response<Body>, Unproven> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let found = routes::find(&parts.method, parts.uri.path(), query);
        let (operation, parameters) = match found {
            Some(Found {
                operation,
                parameters,
            }) => {
                let parameters = parameters.into_iter().map(|text| text.into_owned());
                (Some(operation), parameters.collect())
            }
            None => (None, Vec::new()),
        };
        let query = form_urlencoded::parse(query.as_bytes()).into_owned();
        let query = query.collect();
        let does = operation.and_then(|operation| operation.does);
        let admitted = match auth::admit(self, &parts, body, does).await {
            Ok(admitted) => admitted,
            Err(auth::Refused::Unproven(unproven)) => return Err(unproven),
            Err(auth::Refused::Body(refusal)) => return Ok(refusal.response()),
        };
        let asked = Asked {
            caller: admitted.caller,
            parts,
            parameters,
            query,
            body: admitted.body,
            room: admitted.room,
        };
        let answer = match (operation, does) {
            (Some(_), Some(does)) => self.answer(does, asked).await,
            (Some(operation), None) => Err(Refusal::not_implemented(operation.name)),
            (None, _) => Err(Refusal::no_operation()),
        };
        let mut response = answer.unwrap_or_else(|refusal| refusal.response());
        let headers = response.headers_mut();
        headers
            .entry(REQUEST_ID)
            .or_insert_with(|| error::request_id_value(RequestId::generate()));
        Ok(response)
    }

    async fn answer(&self, does: Do, asked: Asked) -> Result<Response<Body>, Refusal> {
        match does {
            Do::AddLayerVersionPermission => layer_policy::add(self, asked).await,
            Do::AddPermission => policy::add(self, asked).await,
            Do::CreateAlias => aliases::create(self, asked).await,
            Do::CreateCodeSigningConfig => signing::create(self, asked).await,
            Do::CreateEventSourceMapping => sources::create(self, asked).await,
            Do::CreateFunction => create::create(self, asked).await,
            Do::CreateFunctionUrlConfig => urls::config::create(self, asked).await,
            Do::DeleteAlias => aliases::delete(self, asked).await,
            Do::DeleteCapacityProvider
            | Do::GetCapacityProvider
            | Do::ListFunctionVersionsByCapacityProvider
            | Do::UpdateCapacityProvider => absent::provider(self, &asked, does),
            Do::DeleteCodeSigningConfig => signing::delete(self, asked).await,
            Do::DeleteDurableExecution
            | Do::GetDurableExecution
            | Do::GetDurableExecutionHistory
            | Do::PauseDurableExecution
            | Do::ResumeDurableExecution
            | Do::StopDurableExecution => absent::execution(&asked, does),
            Do::DeleteEventSourceMapping => sources::delete(self, asked).await,
            Do::DeleteFunction => delete::delete(self, asked).await,
            Do::DeleteFunctionCodeSigningConfig => signing::delete_function(self, asked).await,
            Do::DeleteFunctionConcurrency => change::delete_concurrency(self, asked).await,
            Do::DeleteFunctionEventInvokeConfig => event_invoke::delete(self, asked).await,
            Do::DeleteProvisionedConcurrencyConfig => provisioned::delete(self, asked).await,
            Do::DeleteResourcePolicy => resource_policy::delete(self, asked).await,
            Do::DeleteLayerVersion => layers::delete(self, asked).await,
            Do::DeleteFunctionUrlConfig => urls::config::delete(self, asked).await,
            Do::DownloadCode => code::download(self, &asked).await,
            Do::DownloadLayer => layers::download(self, &asked).await,
            Do::GetAccountSettings => account::settings(self, &asked).await,
            Do::GetAlias => aliases::get(self, &asked),
            Do::GetCodeSigningConfig => signing::get(self, &asked).await,
            Do::GetEventSourceMapping => sources::get(self, &asked).await,
            Do::GetFunction => read::function(self, &asked),
            Do::GetFunctionCodeSigningConfig => signing::get_function(self, &asked),
            Do::GetFunctionConcurrency => change::get_concurrency(self, &asked),
            Do::GetFunctionConfiguration => read::configuration(self, &asked),
            Do::GetFunctionEventInvokeConfig => event_invoke::get(self, &asked),
            Do::GetFunctionRecursionConfig => change::get_recursion(self, &asked),
            Do::GetLayerVersion => layers::get(self, &asked).await,
            Do::GetLayerVersionByArn => layers::get_by_arn(self, &asked).await,
            Do::GetLayerVersionPolicy => layer_policy::get(self, &asked).await,
            Do::GetFunctionUrlConfig => urls::config::get(self, &asked).await,
            Do::GetPolicy => policy::get(self, &asked),
            Do::GetProvisionedConcurrencyConfig => provisioned::get(self, &asked),
            Do::GetResourcePolicy => resource_policy::get(self, &asked),
            Do::GetRuntimeManagementConfig => change::get_runtime_management(self, &asked),
            Do::Invoke => invoke::invoke(self, asked).await,
            Do::InvokeAsync => invoke::later(self, asked).await,
            Do::InvokeWithResponseStream => invoke::streamed(self, asked).await,
            Do::ListAliases => aliases::list(self, &asked),
            Do::ListCapacityProviders => absent::providers(&asked),
            Do::ListCodeSigningConfigs => signing::list(self, &asked).await,
            Do::ListDurableExecutionsByFunction => absent::executions(self, &asked),
            Do::ListEventSourceMappings => sources::list(self, &asked).await,
            Do::ListFunctionEventInvokeConfigs => event_invoke::list(self, &asked),
            Do::ListFunctionUrlConfigs => urls::config::list(self, &asked).await,
            Do::ListFunctions => list::functions(self, &asked),
            Do::ListFunctionsByCodeSigningConfig => signing::functions(self, &asked).await,
            Do::ListProvisionedConcurrencyConfigs => provisioned::list(self, &asked),
            Do::ListLayerVersions => layers::versions(self, &asked).await,
            Do::ListLayers => layers::layers(self, &asked).await,
            Do::ListTags if sources::is_tagged(&asked) => sources::tags(self, &asked).await,
            Do::ListTags if signing::is_tagged(&asked) => signing::tags(self, &asked).await,
            Do::ListTags => change::tags(self, &asked),
            Do::ListVersionsByFunction => versions::list(self, &asked),
            Do::PublishLayerVersion => layers::publish(self, asked).await,
            Do::PublishVersion => versions::publish(self, asked).await,
            Do::PutFunctionCodeSigningConfig => signing::put_function(self, asked).await,
            Do::PutFunctionConcurrency => change::put_concurrency(self, asked).await,
            Do::PutFunctionEventInvokeConfig => event_invoke::put(self, asked).await,
            Do::PutFunctionRecursionConfig => change::put_recursion(self, asked).await,
            Do::PutProvisionedConcurrencyConfig => provisioned::put(self, asked).await,
            Do::PutResourcePolicy => resource_policy::put(self, asked).await,
            Do::PutRuntimeManagementConfig => change::put_runtime_management(self, asked).await,
            Do::RemoveLayerVersionPermission => layer_policy::remove(self, asked).await,
            Do::RemovePermission => policy::remove(self, asked).await,
            Do::TagResource if sources::is_tagged(&asked) => sources::tag(self, asked).await,
            Do::TagResource if signing::is_tagged(&asked) => signing::tag(self, asked).await,
            Do::TagResource => change::tag(self, asked).await,
            Do::UntagResource if sources::is_tagged(&asked) => sources::untag(self, asked).await,
            Do::UntagResource if signing::is_tagged(&asked) => signing::untag(self, asked).await,
            Do::UntagResource => change::untag(self, asked).await,
            Do::UpdateAlias => aliases::update(self, asked).await,
            Do::UpdateCodeSigningConfig => signing::update(self, asked).await,
            Do::UpdateEventSourceMapping => sources::update(self, asked).await,
            Do::UpdateFunctionCode => update::code(self, asked).await,
            Do::UpdateFunctionConfiguration => update::configuration(self, asked).await,
            Do::UpdateFunctionEventInvokeConfig => event_invoke::update(self, asked).await,
            Do::UpdateFunctionUrlConfig => urls::config::update(self, asked).await,
        }
    }

    /// The function a request names, whether or not there is one, if its key is good for it.
    fn named(&self, asked: &Asked, does: Do, action: &str) -> Result<Named, Refusal> {
        let text = asked.parameters.first().map_or("", String::as_str);
        let qualifier = asked.query("Qualifier");
        let named = names::read(does.form(), text, qualifier, &self.settings.place)?;
        self.permit(&asked.caller, does, action, &named)?;
        Ok(named)
    }

    fn permit(&self, caller: &Grant, does: Do, action: &str, named: &Named) -> Result<(), Refusal> {
        let arn = || self.settings.place.function(&named.name);
        self.permit_on(caller, does, action, &named.name, arn)
    }

    /// Keys are for functions by their names, and for layers by theirs.
    fn permit_on(
        &self,
        caller: &Grant,
        does: Do,
        action: &str,
        name: &str,
        arn: impl Fn() -> String,
    ) -> Result<(), Refusal> {
        let permitted = caller.may_with(does.scope(), name);
        permitted.map_err(|denied| {
            let place = &self.settings.place;
            Refusal::denied(format!(
                "User: {} is not authorized to perform: lambda:{action} on resource: {} because {}",
                place.user(&caller.name),
                arn(),
                error::Problem::from(denied)
            ))
        })
    }

    /// What is deployed under a name, whatever its qualifier.
    fn latest(&self, named: &Named) -> Option<Arc<Target>> {
        let target = self.control.scheduler.find(&named.name)?;
        // Ids find functions as well, but no client of AWS knows one.
        let found = target.function.name.as_str() == named.name;
        found.then_some(target)
    }

    /// The same; if there is none, AWS's words for it.
    fn found(&self, named: &Named) -> Result<Arc<Target>, Refusal> {
        self.latest(named).ok_or_else(|| self.not_found(named))
    }

    fn not_found(&self, named: &Named) -> Refusal {
        let arn = named.arn(&self.settings.place);
        Refusal::not_found(format!("Function not found: {arn}"))
    }

    /// What a call is for: of an alias with two versions, one.
    fn resolve(&self, named: &Named) -> Option<Resolved> {
        self.latest(named)?;
        let qualifier = named.qualifier.as_deref();
        self.control.scheduler.resolve(&named.name, qualifier).ok()
    }

    /// What is to be shown at a qualifier: of an alias, its first version.
    fn shown(&self, named: &Named) -> Result<Shown, Refusal> {
        let latest = self.found(named)?;
        let shown = || {
            let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
            let published = latest.published();
            let version = match Qualifier::parse(qualifier).ok()? {
                Qualifier::Version(version) => version,
                Qualifier::Alias(name) => published.alias(name.as_str())?.1.version,
            };
            let function = match version {
                VersionId::Latest => latest.function.clone(),
                VersionId::Number(number) => {
                    let version = published.version(number)?;
                    Arc::new(document::as_published(version, &latest.function))
                }
            };
            Some((function, version))
        };
        let (function, version) = shown().ok_or_else(|| self.not_found(named))?;
        Ok(Shown {
            function,
            version,
            latest,
        })
    }
}

/// A version of a function, to be shown.
#[derive(Debug)]
struct Shown {
    function: Arc<Function>,
    version: VersionId,
    latest: Arc<Target>,
}

fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::Full(error::to_json(document)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// A header's value that is ASCII by where it comes from.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_odd| HeaderValue::from_static("?"))
}
