//! Every operation of AWS Lambda's API, where it is, and whether Hearth does it. The one table: requests are found in it, and a test holds
//! the documented list of operations to it. Pure.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::api::lambda::names::Form;
use crate::domain::key::Scope;

/// An operation Hearth does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    AddLayerVersionPermission,
    AddPermission,
    CreateAlias,
    CreateCodeSigningConfig,
    CreateEventSourceMapping,
    CreateFunction,
    CreateFunctionUrlConfig,
    DeleteAlias,
    DeleteCapacityProvider,
    DeleteCodeSigningConfig,
    DeleteDurableExecution,
    DeleteEventSourceMapping,
    DeleteFunction,
    DeleteFunctionCodeSigningConfig,
    DeleteFunctionConcurrency,
    DeleteFunctionEventInvokeConfig,
    DeleteFunctionUrlConfig,
    DeleteLayerVersion,
    DeleteProvisionedConcurrencyConfig,
    DeleteResourcePolicy,
    /// Not AWS's: where the URL of a function's code leads.
    DownloadCode,
    /// The same for a layer's content.
    DownloadLayer,
    GetAccountSettings,
    GetAlias,
    GetCapacityProvider,
    GetCodeSigningConfig,
    GetDurableExecution,
    GetDurableExecutionHistory,
    GetEventSourceMapping,
    GetFunction,
    GetFunctionCodeSigningConfig,
    GetFunctionConcurrency,
    GetFunctionConfiguration,
    GetFunctionEventInvokeConfig,
    GetFunctionRecursionConfig,
    GetFunctionUrlConfig,
    GetLayerVersion,
    GetLayerVersionByArn,
    GetLayerVersionPolicy,
    GetPolicy,
    GetProvisionedConcurrencyConfig,
    GetResourcePolicy,
    GetRuntimeManagementConfig,
    Invoke,
    InvokeAsync,
    InvokeWithResponseStream,
    ListAliases,
    ListCapacityProviders,
    ListCodeSigningConfigs,
    ListDurableExecutionsByFunction,
    ListEventSourceMappings,
    ListFunctionEventInvokeConfigs,
    ListFunctionUrlConfigs,
    ListFunctionVersionsByCapacityProvider,
    ListFunctions,
    ListFunctionsByCodeSigningConfig,
    ListLayerVersions,
    ListLayers,
    ListProvisionedConcurrencyConfigs,
    ListTags,
    ListVersionsByFunction,
    PauseDurableExecution,
    PublishLayerVersion,
    PublishVersion,
    PutFunctionCodeSigningConfig,
    PutFunctionConcurrency,
    PutFunctionEventInvokeConfig,
    PutFunctionRecursionConfig,
    PutProvisionedConcurrencyConfig,
    PutResourcePolicy,
    PutRuntimeManagementConfig,
    RemoveLayerVersionPermission,
    RemovePermission,
    ResumeDurableExecution,
    StopDurableExecution,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateCapacityProvider,
    UpdateCodeSigningConfig,
    UpdateEventSourceMapping,
    UpdateFunctionCode,
    UpdateFunctionConfiguration,
    UpdateFunctionEventInvokeConfig,
    UpdateFunctionUrlConfig,
}

impl Do {
    /// What a key needs for it.
    pub fn scope(self) -> Scope {
        match self {
            Do::Invoke | Do::InvokeAsync | Do::InvokeWithResponseStream => Scope::Invoke,
            _ => Scope::Deploy,
        }
    }

    /// How it has a function named.
    pub fn form(self) -> Form {
        match self {
            Do::CreateAlias
            | Do::CreateFunction
            | Do::DeleteAlias
            | Do::DeleteFunctionConcurrency
            | Do::DeleteProvisionedConcurrencyConfig
            | Do::GetAlias
            | Do::GetFunctionConcurrency
            | Do::GetProvisionedConcurrencyConfig
            | Do::ListAliases
            | Do::ListProvisionedConcurrencyConfigs
            | Do::PublishVersion
            | Do::PutFunctionConcurrency
            | Do::PutProvisionedConcurrencyConfig
            | Do::UpdateAlias
            | Do::UpdateFunctionCode
            | Do::UpdateFunctionConfiguration => Form::Plain,
            Do::GetFunctionRecursionConfig | Do::PutFunctionRecursionConfig => Form::Bare,
            Do::DeleteResourcePolicy | Do::GetResourcePolicy | Do::PutResourcePolicy => Form::Whole,
            Do::CreateFunctionUrlConfig
            | Do::DeleteFunctionUrlConfig
            | Do::GetFunctionUrlConfig
            | Do::ListFunctionUrlConfigs
            | Do::UpdateFunctionUrlConfig => Form::Url,
            _ => Form::Dotted,
        }
    }
}

/// An operation of AWS's model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub name: &'static str,
    pub method: Method,
    /// With `{Parameter}` for a segment that is one.
    pub path: &'static str,
    /// `name=value` that tells it from another operation at the same place; empty if nothing has to.
    pub query: &'static str,
    /// `None`: Hearth does not do it.
    pub does: Option<Do>,
}

const fn row(
    name: &'static str,
    method: Method,
    path: &'static str,
    query: &'static str,
    does: Option<Do>,
) -> Operation {
    Operation {
        name,
        method,
        path,
        query,
        does,
    }
}

#[rustfmt::skip]
pub static OPERATIONS: [Operation; 91] = [
    row("AddLayerVersionPermission", Method::POST, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy", "", Some(Do::AddLayerVersionPermission)),
    row("AddPermission", Method::POST, "/2015-03-31/functions/{FunctionName}/policy", "", Some(Do::AddPermission)),
    row("CheckpointDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint", "", None),
    row("CreateAlias", Method::POST, "/2015-03-31/functions/{FunctionName}/aliases", "", Some(Do::CreateAlias)),
    row("CreateCapacityProvider", Method::POST, "/2025-11-30/capacity-providers", "", None),
    row("CreateCodeSigningConfig", Method::POST, "/2020-04-22/code-signing-configs", "", Some(Do::CreateCodeSigningConfig)),
    row("CreateEventSourceMapping", Method::POST, "/2015-03-31/event-source-mappings", "", Some(Do::CreateEventSourceMapping)),
    row("CreateFunction", Method::POST, "/2015-03-31/functions", "", Some(Do::CreateFunction)),
    row("CreateFunctionUrlConfig", Method::POST, "/2021-10-31/functions/{FunctionName}/url", "", Some(Do::CreateFunctionUrlConfig)),
    row("DeleteAlias", Method::DELETE, "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "", Some(Do::DeleteAlias)),
    row("DeleteCapacityProvider", Method::DELETE, "/2025-11-30/capacity-providers/{CapacityProviderName}", "", Some(Do::DeleteCapacityProvider)),
    row("DeleteCodeSigningConfig", Method::DELETE, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}", "", Some(Do::DeleteCodeSigningConfig)),
    row("DeleteDurableExecution", Method::DELETE, "/2025-12-01/durable-executions/{DurableExecutionArn}", "", Some(Do::DeleteDurableExecution)),
    row("DeleteEventSourceMapping", Method::DELETE, "/2015-03-31/event-source-mappings/{UUID}", "", Some(Do::DeleteEventSourceMapping)),
    row("DeleteFunction", Method::DELETE, "/2015-03-31/functions/{FunctionName}", "", Some(Do::DeleteFunction)),
    row("DeleteFunctionCodeSigningConfig", Method::DELETE, "/2020-06-30/functions/{FunctionName}/code-signing-config", "", Some(Do::DeleteFunctionCodeSigningConfig)),
    row("DeleteFunctionConcurrency", Method::DELETE, "/2017-10-31/functions/{FunctionName}/concurrency", "", Some(Do::DeleteFunctionConcurrency)),
    row("DeleteFunctionEventInvokeConfig", Method::DELETE, "/2019-09-25/functions/{FunctionName}/event-invoke-config", "", Some(Do::DeleteFunctionEventInvokeConfig)),
    row("DeleteFunctionUrlConfig", Method::DELETE, "/2021-10-31/functions/{FunctionName}/url", "", Some(Do::DeleteFunctionUrlConfig)),
    row("DeleteLayerVersion", Method::DELETE, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}", "", Some(Do::DeleteLayerVersion)),
    row("DeleteProvisionedConcurrencyConfig", Method::DELETE, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "", Some(Do::DeleteProvisionedConcurrencyConfig)),
    row("DeleteResourcePolicy", Method::DELETE, "/2026-07-09/resource-policy/{ResourceArn}", "", Some(Do::DeleteResourcePolicy)),
    row("GetAccountSettings", Method::GET, "/2016-08-19/account-settings", "", Some(Do::GetAccountSettings)),
    row("GetAlias", Method::GET, "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "", Some(Do::GetAlias)),
    row("GetCapacityProvider", Method::GET, "/2025-11-30/capacity-providers/{CapacityProviderName}", "", Some(Do::GetCapacityProvider)),
    row("GetCodeSigningConfig", Method::GET, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}", "", Some(Do::GetCodeSigningConfig)),
    row("GetDurableExecution", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}", "", Some(Do::GetDurableExecution)),
    row("GetDurableExecutionHistory", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}/history", "", Some(Do::GetDurableExecutionHistory)),
    row("GetDurableExecutionState", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}/state", "", None),
    row("GetEventSourceMapping", Method::GET, "/2015-03-31/event-source-mappings/{UUID}", "", Some(Do::GetEventSourceMapping)),
    row("GetFunction", Method::GET, "/2015-03-31/functions/{FunctionName}", "", Some(Do::GetFunction)),
    row("GetFunctionCodeSigningConfig", Method::GET, "/2020-06-30/functions/{FunctionName}/code-signing-config", "", Some(Do::GetFunctionCodeSigningConfig)),
    row("GetFunctionConcurrency", Method::GET, "/2019-09-30/functions/{FunctionName}/concurrency", "", Some(Do::GetFunctionConcurrency)),
    row("GetFunctionConfiguration", Method::GET, "/2015-03-31/functions/{FunctionName}/configuration", "", Some(Do::GetFunctionConfiguration)),
    row("GetFunctionEventInvokeConfig", Method::GET, "/2019-09-25/functions/{FunctionName}/event-invoke-config", "", Some(Do::GetFunctionEventInvokeConfig)),
    row("GetFunctionRecursionConfig", Method::GET, "/2024-08-31/functions/{FunctionName}/recursion-config", "", Some(Do::GetFunctionRecursionConfig)),
    row("GetFunctionScalingConfig", Method::GET, "/2025-11-30/functions/{FunctionName}/function-scaling-config", "", None),
    row("GetFunctionUrlConfig", Method::GET, "/2021-10-31/functions/{FunctionName}/url", "", Some(Do::GetFunctionUrlConfig)),
    row("GetLayerVersion", Method::GET, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}", "", Some(Do::GetLayerVersion)),
    row("GetLayerVersionByArn", Method::GET, "/2018-10-31/layers", "find=LayerVersion", Some(Do::GetLayerVersionByArn)),
    row("GetLayerVersionPolicy", Method::GET, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy", "", Some(Do::GetLayerVersionPolicy)),
    row("GetPolicy", Method::GET, "/2015-03-31/functions/{FunctionName}/policy", "", Some(Do::GetPolicy)),
    row("GetProvisionedConcurrencyConfig", Method::GET, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "", Some(Do::GetProvisionedConcurrencyConfig)),
    row("GetResourcePolicy", Method::GET, "/2026-07-09/resource-policy/{ResourceArn}", "", Some(Do::GetResourcePolicy)),
    row("GetRuntimeManagementConfig", Method::GET, "/2021-07-20/functions/{FunctionName}/runtime-management-config", "", Some(Do::GetRuntimeManagementConfig)),
    row("Invoke", Method::POST, "/2015-03-31/functions/{FunctionName}/invocations", "", Some(Do::Invoke)),
    row("InvokeAsync", Method::POST, "/2014-11-13/functions/{FunctionName}/invoke-async", "", Some(Do::InvokeAsync)),
    row("InvokeWithResponseStream", Method::POST, "/2021-11-15/functions/{FunctionName}/response-streaming-invocations", "", Some(Do::InvokeWithResponseStream)),
    row("ListAliases", Method::GET, "/2015-03-31/functions/{FunctionName}/aliases", "", Some(Do::ListAliases)),
    row("ListCapacityProviders", Method::GET, "/2025-11-30/capacity-providers", "", Some(Do::ListCapacityProviders)),
    row("ListCodeSigningConfigs", Method::GET, "/2020-04-22/code-signing-configs", "", Some(Do::ListCodeSigningConfigs)),
    row("ListDurableExecutionsByFunction", Method::GET, "/2025-12-01/functions/{FunctionName}/durable-executions", "", Some(Do::ListDurableExecutionsByFunction)),
    row("ListEventSourceMappings", Method::GET, "/2015-03-31/event-source-mappings", "", Some(Do::ListEventSourceMappings)),
    row("ListFunctionEventInvokeConfigs", Method::GET, "/2019-09-25/functions/{FunctionName}/event-invoke-config/list", "", Some(Do::ListFunctionEventInvokeConfigs)),
    row("ListFunctionUrlConfigs", Method::GET, "/2021-10-31/functions/{FunctionName}/urls", "", Some(Do::ListFunctionUrlConfigs)),
    row("ListFunctionVersionsByCapacityProvider", Method::GET, "/2025-11-30/capacity-providers/{CapacityProviderName}/function-versions", "", Some(Do::ListFunctionVersionsByCapacityProvider)),
    row("ListFunctions", Method::GET, "/2015-03-31/functions", "", Some(Do::ListFunctions)),
    row("ListFunctionsByCodeSigningConfig", Method::GET, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions", "", Some(Do::ListFunctionsByCodeSigningConfig)),
    row("ListLayerVersions", Method::GET, "/2018-10-31/layers/{LayerName}/versions", "", Some(Do::ListLayerVersions)),
    row("ListLayers", Method::GET, "/2018-10-31/layers", "", Some(Do::ListLayers)),
    row("ListProvisionedConcurrencyConfigs", Method::GET, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "List=ALL", Some(Do::ListProvisionedConcurrencyConfigs)),
    row("ListTags", Method::GET, "/2017-03-31/tags/{Resource}", "", Some(Do::ListTags)),
    row("ListVersionsByFunction", Method::GET, "/2015-03-31/functions/{FunctionName}/versions", "", Some(Do::ListVersionsByFunction)),
    row("PauseDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/pause", "", Some(Do::PauseDurableExecution)),
    row("PublishLayerVersion", Method::POST, "/2018-10-31/layers/{LayerName}/versions", "", Some(Do::PublishLayerVersion)),
    row("PublishVersion", Method::POST, "/2015-03-31/functions/{FunctionName}/versions", "", Some(Do::PublishVersion)),
    row("PutFunctionCodeSigningConfig", Method::PUT, "/2020-06-30/functions/{FunctionName}/code-signing-config", "", Some(Do::PutFunctionCodeSigningConfig)),
    row("PutFunctionConcurrency", Method::PUT, "/2017-10-31/functions/{FunctionName}/concurrency", "", Some(Do::PutFunctionConcurrency)),
    row("PutFunctionEventInvokeConfig", Method::PUT, "/2019-09-25/functions/{FunctionName}/event-invoke-config", "", Some(Do::PutFunctionEventInvokeConfig)),
    row("PutFunctionRecursionConfig", Method::PUT, "/2024-08-31/functions/{FunctionName}/recursion-config", "", Some(Do::PutFunctionRecursionConfig)),
    row("PutFunctionScalingConfig", Method::PUT, "/2025-11-30/functions/{FunctionName}/function-scaling-config", "", None),
    row("PutProvisionedConcurrencyConfig", Method::PUT, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "", Some(Do::PutProvisionedConcurrencyConfig)),
    row("PutResourcePolicy", Method::PUT, "/2026-07-09/resource-policy/{ResourceArn}", "", Some(Do::PutResourcePolicy)),
    row("PutRuntimeManagementConfig", Method::PUT, "/2021-07-20/functions/{FunctionName}/runtime-management-config", "", Some(Do::PutRuntimeManagementConfig)),
    row("RemoveLayerVersionPermission", Method::DELETE, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId}", "", Some(Do::RemoveLayerVersionPermission)),
    row("RemovePermission", Method::DELETE, "/2015-03-31/functions/{FunctionName}/policy/{StatementId}", "", Some(Do::RemovePermission)),
    row("ResumeDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/resume", "", Some(Do::ResumeDurableExecution)),
    row("SendDurableExecutionCallbackFailure", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/fail", "", None),
    row("SendDurableExecutionCallbackHeartbeat", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat", "", None),
    row("SendDurableExecutionCallbackSuccess", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/succeed", "", None),
    row("StopDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/stop", "", Some(Do::StopDurableExecution)),
    row("TagResource", Method::POST, "/2017-03-31/tags/{Resource}", "", Some(Do::TagResource)),
    row("UntagResource", Method::DELETE, "/2017-03-31/tags/{Resource}", "", Some(Do::UntagResource)),
    row("UpdateAlias", Method::PUT, "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "", Some(Do::UpdateAlias)),
    row("UpdateCapacityProvider", Method::PUT, "/2025-11-30/capacity-providers/{CapacityProviderName}", "", Some(Do::UpdateCapacityProvider)),
    row("UpdateCodeSigningConfig", Method::PUT, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}", "", Some(Do::UpdateCodeSigningConfig)),
    row("UpdateEventSourceMapping", Method::PUT, "/2015-03-31/event-source-mappings/{UUID}", "", Some(Do::UpdateEventSourceMapping)),
    row("UpdateFunctionCode", Method::PUT, "/2015-03-31/functions/{FunctionName}/code", "", Some(Do::UpdateFunctionCode)),
    row("UpdateFunctionConfiguration", Method::PUT, "/2015-03-31/functions/{FunctionName}/configuration", "", Some(Do::UpdateFunctionConfiguration)),
    row("UpdateFunctionEventInvokeConfig", Method::POST, "/2019-09-25/functions/{FunctionName}/event-invoke-config", "", Some(Do::UpdateFunctionEventInvokeConfig)),
    row("UpdateFunctionUrlConfig", Method::PUT, "/2021-10-31/functions/{FunctionName}/url", "", Some(Do::UpdateFunctionUrlConfig)),
];

/// Where the URL of a function's code leads.
#[rustfmt::skip]
static DOWNLOAD: Operation = row("DownloadCode", Method::GET, "/2015-03-31/functions/{FunctionName}/code", "", Some(Do::DownloadCode));

/// And that of a layer's content.
#[rustfmt::skip]
static DOWNLOAD_LAYER: Operation = row("DownloadLayer", Method::GET, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/content", "", Some(Do::DownloadLayer));

/// A request's operation, and the values of its path's parameters in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    pub operation: &'static Operation,
    pub parameters: Vec<Cow<'a, str>>,
}

/// `None` if there is no such operation.
pub fn find<'a>(method: &Method, path: &'a str, query: &str) -> Option<Found<'a>> {
    let given: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let given = match given.split_last() {
        // The model writes some with a slash at the end.
        Some((&"", rest)) => rest,
        _ => &given,
    };
    let mut found: Option<Found<'a>> = None;
    for operation in OPERATIONS.iter().chain([&DOWNLOAD, &DOWNLOAD_LAYER]) {
        let named = !operation.query.is_empty();
        if operation.method != *method || (named && !has(query, operation.query)) {
            continue;
        }
        let Some(parameters) = matched(operation.path, given) else {
            continue;
        };
        // One that the query names is more than one that is only at the same place.
        if found.is_none() || named {
            found = Some(Found {
                operation,
                parameters,
            });
        }
    }
    found
}

fn matched<'a>(path: &str, given: &[&'a str]) -> Option<Vec<Cow<'a, str>>> {
    let mut wanted = path.split('/').skip(1);
    let mut parameters = Vec::new();
    for segment in given {
        let wanted = wanted.next()?;
        if wanted.starts_with('{') {
            let text = percent_decode_str(segment).decode_utf8().ok()?;
            (!text.is_empty()).then(|| parameters.push(text))?;
        } else if *segment != wanted {
            return None;
        }
    }
    wanted.next().is_none().then_some(parameters)
}

fn has(query: &str, wanted: &str) -> bool {
    query.split('&').any(|pair| pair == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &Method, target: &str) -> Option<(&'static str, Vec<String>)> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let found = find(method, path, query)?;
        let parameters = found.parameters.iter().map(|p| p.to_string()).collect();
        Some((found.operation.name, parameters))
    }

    #[test]
    fn operations_are_found_by_method_path_and_query() {
        let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
        for (method, target, wanted, parameters) in [
            (get, "/2015-03-31/functions", "ListFunctions", vec![]),
            (
                get,
                "/2015-03-31/functions/?MaxItems=1",
                "ListFunctions",
                vec![],
            ),
            (post, "/2015-03-31/functions", "CreateFunction", vec![]),
            (get, "/2015-03-31/functions/a", "GetFunction", vec!["a"]),
            (
                get,
                "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aa/configuration",
                "GetFunctionConfiguration",
                vec!["arn:aws:lambda:us-east-1:000000000000:function:a"],
            ),
            (
                post,
                "/2015-03-31/functions/a/invocations?Qualifier=1",
                "Invoke",
                vec!["a"],
            ),
            (
                post,
                "/2014-11-13/functions/a/invoke-async/",
                "InvokeAsync",
                vec!["a"],
            ),
            (get, "/2018-10-31/layers", "ListLayers", vec![]),
            (
                get,
                "/2018-10-31/layers?find=LayerVersion&Arn=x",
                "GetLayerVersionByArn",
                vec![],
            ),
            (
                get,
                "/2018-10-31/layers/l/versions/3",
                "GetLayerVersion",
                vec!["l", "3"],
            ),
            (
                get,
                "/2019-09-30/functions/a/provisioned-concurrency?Qualifier=1",
                "GetProvisionedConcurrencyConfig",
                vec!["a"],
            ),
            (
                get,
                "/2019-09-30/functions/a/provisioned-concurrency?List=ALL",
                "ListProvisionedConcurrencyConfigs",
                vec!["a"],
            ),
            (
                delete,
                "/2017-03-31/tags/arn%3Aaws?tagKeys=a",
                "UntagResource",
                vec!["arn:aws"],
            ),
            (
                get,
                "/2015-03-31/functions/a/code",
                "DownloadCode",
                vec!["a"],
            ),
            (
                get,
                "/2018-10-31/layers/l/versions/3/content",
                "DownloadLayer",
                vec!["l", "3"],
            ),
        ] {
            let parameters = parameters.into_iter().map(str::to_owned).collect();
            assert_eq!(name(method, target), Some((wanted, parameters)), "{target}");
        }
        for (method, target) in [
            (post, "/2015-03-31/functions/a"),
            (get, "/2015-03-31/functions//configuration"),
            (get, "/2015-03-31/functions/a/b/c"),
            (get, "/2015-03-31"),
            (get, "/2013-04-01/hostedzone"),
            (get, "/2015-03-31/functions/%ff"),
        ] {
            assert_eq!(name(method, target), None, "{method} {target}");
        }
    }

    #[test]
    fn the_documented_list_says_what_is_done() {
        let text = include_str!("../../../docs/aws-lambda.md");
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?, cells.next()?))
        });
        let rows: Vec<_> = rows
            .filter(|(_, here)| ["yes", "partly", "no"].contains(here))
            .collect();
        let names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
        let wanted: Vec<_> = OPERATIONS.iter().map(|o| o.name).collect();
        assert_eq!(names, wanted);
        for ((name, here), operation) in rows.iter().zip(&OPERATIONS) {
            assert_eq!(*here != "no", operation.does.is_some(), "{name}");
        }
    }

    #[test]
    fn no_operation_hides_another() {
        for operation in &OPERATIONS {
            let found = find(&operation.method, operation.path, operation.query);
            assert_eq!(found.map(|f| f.operation.name), Some(operation.name));
        }
        let mut names: Vec<_> = OPERATIONS.iter().map(|o| o.name).collect();
        names.dedup();
        assert_eq!(names.len(), 91);
    }
}
