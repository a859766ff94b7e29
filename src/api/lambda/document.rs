//! A function as AWS's clients read it: the configuration document, every field that AWS has and nothing it has not. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::control::change::is_credential;
use crate::api::lambda::{Lambda, layers, runtimes};
use crate::domain::environment::MASK;
use crate::domain::function::Function;
use crate::domain::image;
use crate::domain::version::{Version, VersionId};

const STORAGE_MIB: u32 = 512;

/// What the answer is to. A change is done when it is answered; AWS's clients expect to be told so by their next question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Creating,
    Updating,
    Settled,
    /// In a list, where states are left out.
    Listed,
}

/// `arn` is the function's as the request named it: with the qualifier that it gave.
pub fn configuration(
    face: &Lambda,
    function: &Function,
    version: VersionId,
    arn: &str,
    moment: Moment,
) -> Map<String, Value> {
    let (aws, place) = (&function.aws, &face.settings.place);
    let mut document = Map::new();
    let mut set = |name: &str, value: Value| {
        document.insert(name.to_owned(), value);
    };
    let name = function.name.as_str();
    let catalog = &face.control.runtimes;
    set("FunctionName", name.into());
    set("FunctionArn", arn.into());
    let role = || place.iam(&place.account, "role/hearth");
    set("Role", aws.role.clone().unwrap_or_else(role).into());
    set("Description", function.description.as_str().into());
    set("Timeout", function.timeout_seconds.into());
    set("MemorySize", function.memory.0.into());
    let modified = function.updated_at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000");
    set("LastModified", modified.to_string().into());
    set("CodeSha256", code_of(function).into());
    set("Version", version.to_string().into());
    let tracing = aws.tracing.as_deref().unwrap_or("PassThrough");
    set("TracingConfig", json!({ "Mode": tracing }));
    let revision = revision_id(function, version, made(face, function), moment);
    set("RevisionId", revision.into());
    set("Architectures", json!([architecture(function)]));
    let storage = aws.ephemeral_storage.unwrap_or(STORAGE_MIB);
    set("EphemeralStorage", json!({ "Size": storage }));
    let apply_on = aws.snap_start.as_deref().unwrap_or("None");
    set(
        "SnapStart",
        json!({"ApplyOn": apply_on, "OptimizationStatus": "Off"}),
    );
    if let Some(image) = function.image() {
        set("PackageType", "Image".into());
        set("CodeSize", 0.into());
        if image.settings != image::Settings::default() {
            let settings = image_settings(&image.settings);
            set("ImageConfigResponse", json!({ "ImageConfig": settings }));
        }
    } else {
        set("PackageType", "Zip".into());
        set("CodeSize", function.code.size.into());
        let runtime = runtimes::shown(function, catalog);
        set("Runtime", runtime.into());
        set("Handler", function.handler.as_str().into());
        if moment != Moment::Listed {
            let arn = runtimes::version_arn(place, catalog, function);
            set("RuntimeVersionConfig", json!({ "RuntimeVersionArn": arn }));
        }
    }
    set("LoggingConfig", logging(function));
    let mut shown = function.environment.0.keys();
    if aws.environment || shown.any(|name| !is_credential(name)) {
        set("Environment", environment(face, function));
    }
    if !function.layers.is_empty() {
        set("Layers", layers::of_function(place, function));
    }
    if let Some(target) = &aws.dead_letter {
        set("DeadLetterConfig", json!({ "TargetArn": target }));
    }
    if let Some(key) = &aws.kms_key {
        set("KMSKeyArn", key.as_str().into());
    }
    if let Some(vpc) = &aws.vpc {
        let id = if vpc.subnets.is_empty() {
            ""
        } else {
            "vpc-00000000000000000"
        };
        set(
            "VpcConfig",
            json!({"SubnetIds": vpc.subnets, "SecurityGroupIds": vpc.security_groups, "VpcId": id, "Ipv6AllowedForDualStack": vpc.dual_stack}),
        );
    }
    match moment {
        Moment::Creating => {
            set("State", "Pending".into());
            set("StateReason", "The function is being created.".into());
            set("StateReasonCode", "Creating".into());
        }
        Moment::Updating => {
            set("State", "Active".into());
            set("LastUpdateStatus", "InProgress".into());
            set(
                "LastUpdateStatusReason",
                "The function is being created.".into(),
            );
            set("LastUpdateStatusReasonCode", "Creating".into());
        }
        Moment::Settled => {
            set("State", "Active".into());
            set("LastUpdateStatus", "Successful".into());
        }
        Moment::Listed => {}
    }
    document
}

/// A version as its clients see it: under the function's name of today.
pub fn as_published(version: &Version, latest: &Function) -> Function {
    Function {
        description: version.description.clone(),
        ..version.as_of(latest)
    }
}

fn image_settings(settings: &image::Settings) -> Map<String, Value> {
    let words = |words: &Option<Vec<String>>| words.clone().map(Value::from);
    let directory = settings.working_dir.clone().map(Value::from);
    let all = [
        ("EntryPoint", words(&settings.entrypoint)),
        ("Command", words(&settings.command)),
        ("WorkingDirectory", directory),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn architecture(function: &Function) -> &str {
    let host = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    function.aws.architecture.as_deref().unwrap_or(host)
}

fn logging(function: &Function) -> Value {
    let given = function.aws.logging.clone().unwrap_or_default();
    let format = given.format.as_deref().unwrap_or("Text");
    let mut document = json!({"LogFormat": format, "LogGroup": function.log_group()});
    if given.is_json() {
        document["ApplicationLogLevel"] = given.level().into();
        document["SystemLogLevel"] = given.system_level.as_deref().unwrap_or("INFO").into();
    }
    document
}

fn environment(face: &Lambda, function: &Function) -> Value {
    if !face.settings.show_environment {
        let masked = function
            .environment
            .0
            .keys()
            .filter(|name| !is_credential(name))
            .map(|name| (name.clone(), Value::from(MASK)));
        return json!({ "Variables": masked.collect::<Map<_, _>>() });
    }
    let secrets = face.control.scheduler.secrets();
    match secrets.open(&function.id, &function.environment) {
        Ok(mut opened) => {
            opened.0.retain(|name, _| !is_credential(name));
            json!({ "Variables": opened.0 })
        }
        Err((name, why)) => json!({"Error": {
            "ErrorCode": "KMSAccessDeniedException",
            "Message": format!("{name}: {why}"),
        }}),
    }
}

/// What code of a function it is: an image's own digest, as it is, or a package's.
pub fn code_of(function: &Function) -> String {
    match function.image() {
        Some(image) => image.digest().to_owned(),
        None => code_sha256(&function.code.sha256),
    }
}

/// Base64 of the hash, as AWS writes it.
pub fn code_sha256(hex_digest: &str) -> String {
    STANDARD.encode(hex::decode(hex_digest).unwrap_or_default())
}

/// Another with every change, and once more when a change is done; of the one that can be edited, also with every version that was `made` of
/// the function. It follows from what is stored alone, so every process says the same.
pub fn revision_id(function: &Function, version: VersionId, made: u64, moment: Moment) -> String {
    let done = !matches!(moment, Moment::Creating | Moment::Updating);
    let made = if version == VersionId::Latest {
        made
    } else {
        0
    };
    opaque(&format!(
        "{}/{version}/{}/{made}/{done}",
        function.id, function.revision
    ))
}

/// How many versions there were of a function.
fn made(face: &Lambda, function: &Function) -> u64 {
    let target = face.control.scheduler.find(function.name.as_str());
    target.map_or(0, |target| target.published().head.last)
}

/// A text that has the form of an id and says nothing else.
pub fn opaque(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}
