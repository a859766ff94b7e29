//! What a function's settings shall be, as CreateFunction and UpdateFunctionConfiguration say it: the parts that run are checked in AWS's
//! words here and by `Deploy`'s own rules later; the parts nobody here has a use for are checked and kept.

use std::collections::BTreeMap;

use crate::api::control::change::{Change, is_reserved_on_aws};
use crate::api::control::image::{WORDS_MAX, WORKING_DIR_MAX, is_directory, is_word};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::layers;
use crate::domain::aws::{self, FileSystem, Logging, Vpc};
use crate::domain::environment::Variables;
use crate::domain::image;
use crate::domain::limits::{ENVIRONMENT_MAX, MEMORY_MIB, Mebibytes, TIMEOUT_SECONDS};
use crate::domain::mapping::Queue;

const NO_LEVELS: &str = "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change the LogFormat to \"JSON\" and try again.";
const ROLE: &str = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";
const HANDLER: &str = r"[^\s]+";
const RESOURCE: &str = r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()";
const HANDLER_MAX: usize = 128;
const GROUP_MAX: usize = 512;
/// Of a subnet, or a security group.
const ID_MAX: usize = 1024;
/// Of what has no limit of its own.
const TEXT_MAX: usize = 10_000;
const DESCRIPTION_MAX: usize = 256;
const STORAGE_MIB: (i64, i64) = (512, 10_240);

/// What was given of the settings; all of it may be left out.
#[derive(Debug, Default)]
pub struct Wish {
    pub role: Option<String>,
    pub handler: Option<String>,
    pub runtime: Option<String>,
    pub description: Option<String>,
    pub timeout: Option<u32>,
    pub memory: Option<u32>,
    pub environment: Option<Variables>,
    architecture: Option<String>,
    tracing: Option<String>,
    ephemeral_storage: Option<u32>,
    vpc: Option<Vpc>,
    dead_letter: Option<String>,
    kms_key: Option<String>,
    snap_start: Option<String>,
    logging: Option<Logging>,
    file_systems: Option<Vec<FileSystem>>,
    /// ARNs, well-formed.
    pub layers: Option<Vec<String>>,
    /// How an image is started.
    pub image: Option<image::Settings>,
}

impl Wish {
    pub fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let seconds = (
            i64::from(*TIMEOUT_SECONDS.start()),
            i64::from(*TIMEOUT_SECONDS.end()),
        );
        let mebibytes = (i64::from(*MEMORY_MIB.start()), i64::from(*MEMORY_MIB.end()));
        let wish = Self {
            role: fields.formed("Role", TEXT_MAX, ROLE, is_role)?,
            handler: handler(fields)?,
            runtime: fields.text("Runtime")?,
            description: fields.up_to("Description", DESCRIPTION_MAX)?,
            timeout: fields.whole("Timeout", seconds.0, seconds.1)?,
            memory: fields.whole("MemorySize", mebibytes.0, mebibytes.1)?,
            environment: environment(fields)?,
            architecture: architecture(fields)?,
            tracing: inner(fields, "TracingConfig", |inner| {
                inner.one_of("Mode", &["PassThrough", "Active"])
            })?,
            ephemeral_storage: inner(fields, "EphemeralStorage", |inner| {
                inner.whole("Size", STORAGE_MIB.0, STORAGE_MIB.1)
            })?,
            vpc: vpc(fields)?,
            dead_letter: inner(fields, "DeadLetterConfig", |inner| {
                // An empty text takes away what there was; nothing said changes nothing.
                standard(resource(inner, "TargetArn")?)
            })?,
            kms_key: resource(fields, "KMSKeyArn")?,
            snap_start: inner(fields, "SnapStart", |inner| {
                inner.one_of("ApplyOn", &["PublishedVersions", "None"])
            })?,
            logging: logging(fields)?,
            file_systems: file_systems(fields)?,
            layers: layers::given(fields)?,
            image: image_config(fields)?,
        };
        refuse_the_rest(fields)?;
        Ok(wish)
    }

    /// What AWS's clients see of it, over what there was.
    pub fn over(&self, there: &aws::Settings, runtime: Option<&str>) -> aws::Settings {
        let text = |given: &Option<String>, there: &Option<String>| match given.as_deref() {
            Some("") => None,
            Some(given) => Some(given.to_owned()),
            None => there.clone(),
        };
        aws::Settings {
            role: text(&self.role, &there.role),
            runtime: runtime.map(Into::into).or(there.runtime.clone()),
            architecture: text(&self.architecture, &there.architecture),
            tracing: text(&self.tracing, &there.tracing),
            ephemeral_storage: self.ephemeral_storage.or(there.ephemeral_storage),
            environment: self.environment.is_none() && there.environment,
            vpc: self.vpc.clone().or(there.vpc.clone()),
            dead_letter: text(&self.dead_letter, &there.dead_letter),
            kms_key: text(&self.kms_key, &there.kms_key),
            snap_start: text(&self.snap_start, &there.snap_start),
            logging: self.logging_over(there.logging.as_ref()),
            file_systems: self
                .file_systems
                .clone()
                .unwrap_or(there.file_systems.clone()),
            written: there.written + 1,
            ..there.clone()
        }
    }

    fn logging_over(&self, there: Option<&Logging>) -> Option<Logging> {
        let none = Logging::default();
        let given = self.logging.clone();
        let over = given.map(|given| given.over(there.unwrap_or(&none)));
        over.or(there.cloned())
    }

    /// Levels are for logs in JSON, and a format that nobody says is the one there was: Text, if none was said before.
    pub fn held_to(&self, there: &aws::Settings) -> Result<(), Refusal> {
        let Some(given) = &self.logging else {
            return Ok(());
        };
        let levels = given.application_level.is_some() || given.system_level.is_some();
        let format = self.logging_over(there.logging.as_ref());
        match levels && !format.is_some_and(|logging| logging.is_json()) {
            true => Err(Refusal::parameter(NO_LEVELS)),
            false => Ok(()),
        }
    }

    /// Whether it says what in an image is the image's own affair.
    pub fn is_of_zip(&self) -> bool {
        let layers = self.layers.as_ref().is_some_and(|given| !given.is_empty());
        self.runtime.is_some() || self.handler.is_some() || layers
    }

    /// What runs of it, as a change.
    pub fn change(&self) -> Change {
        Change {
            handler: self.handler.clone(),
            timeout_seconds: self.timeout,
            memory: self.memory.map(Mebibytes),
            environment: self.environment.clone(),
            description: self.description.clone(),
            keeps_code: true,
            ..Change::default()
        }
    }
}

fn inner<T>(
    fields: &mut Fields,
    name: &str,
    read: impl FnOnce(&mut Fields) -> Result<Option<T>, Refusal>,
) -> Result<Option<T>, Refusal> {
    let Some(mut inner) = fields.open(name)? else {
        return Ok(None);
    };
    let value = read(&mut inner)?;
    fields.close(inner);
    Ok(value)
}

fn handler(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let text = fields.up_to("Handler", HANDLER_MAX)?;
    if let Some(text) = &text
        && (text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()))
    {
        let constraint = format!("Member must satisfy regular expression pattern: {HANDLER}");
        fields.fault("Handler", text, &constraint);
    }
    Ok(text)
}

/// An ARN of whatever, or nothing, which takes away what there was.
pub fn resource(fields: &mut Fields, name: &str) -> Result<Option<String>, Refusal> {
    fields.formed(name, TEXT_MAX, RESOURCE, is_resource)
}

/// UpdateFunctionCode has it too.
pub fn architecture(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let Some(list) = fields.list("Architectures")? else {
        return Ok(None);
    };
    let known = |name: &String| matches!(name.as_str(), "x86_64" | "arm64");
    let value = format!("[{}]", list.join(", "));
    if list.is_empty() {
        let constraint = "Member must have length greater than or equal to 1";
        fields.fault("Architectures", &value, constraint);
    } else if list.len() > 1 {
        let constraint = "Member must have length less than or equal to 1";
        fields.fault("Architectures", &value, constraint);
    } else if !list.iter().all(known) {
        let constraint = "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]";
        fields.fault("Architectures", &value, constraint);
    }
    Ok(list.into_iter().next())
}

fn environment(fields: &mut Fields) -> Result<Option<Variables>, Refusal> {
    let Some(mut inner) = fields.open("Environment")? else {
        return Ok(None);
    };
    let variables: BTreeMap<_, _> = inner
        .secrets("Variables")?
        .unwrap_or_default()
        .into_iter()
        .collect();
    let named = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(plain)
    };
    if !variables.keys().all(|name| named(name)) {
        fields.faults.push("Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]".into());
    }
    fields.close(inner);
    let names = variables.keys().filter(|name| is_reserved_on_aws(name));
    let reserved: Vec<_> = names.cloned().collect();
    if !reserved.is_empty() {
        return Err(Refusal::parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    // AWS measures them as JSON, and says it to whoever sent it.
    let measured = serde_json::json!(variables).to_string();
    if measured.len() > ENVIRONMENT_MAX {
        return Err(Refusal::parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    Ok(Some(Variables(variables)))
}

fn vpc(fields: &mut Fields) -> Result<Option<Vpc>, Refusal> {
    inner(fields, "VpcConfig", |inner| {
        Ok(Some(Vpc {
            subnets: ids(inner, "SubnetIds", 16, "subnet-", "[0-9a-z]*")?,
            security_groups: ids(inner, "SecurityGroupIds", 5, "sg-", "[0-9a-zA-Z]*")?,
            dual_stack: inner.flag("Ipv6AllowedForDualStack")?,
        }))
    })
}

/// Names of things of a network, which begin alike. That there are such things is nobody's business here.
fn ids(
    inner: &mut Fields,
    field: &str,
    most: usize,
    start: &str,
    rest: &str,
) -> Result<Vec<String>, Refusal> {
    let constraint = format!(
        "Member must have length less than or equal to {ID_MAX}, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: {start}{rest}"
    );
    let upper = rest.contains('A');
    let good =
        |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || (upper && c.is_ascii_uppercase());
    let is = |text: &str| {
        let rest = text.strip_prefix(start);
        text.len() <= ID_MAX && rest.is_some_and(|rest| rest.chars().all(good))
    };
    let given = inner.list_to(field, most)?.unwrap_or_default();
    if !given.iter().all(|text| is(text)) {
        let value = format!("[{}]", given.join(", "));
        let constraint = format!("Member must satisfy constraint: [{constraint}]");
        inner.fault(field, &value, &constraint);
    }
    Ok(given)
}

/// Nothing could be sent to another: a message of a FIFO queue needs a group, and an event is of none.
fn standard(dead_letters: Option<String>) -> Result<Option<String>, Refusal> {
    let queue = dead_letters.clone().map(Queue::try_from);
    match queue.is_some_and(|queue| queue.is_ok_and(|queue| queue.is_fifo())) {
        true => Err(Refusal::parameter(
            "Invalid dead letter ARN: DeadLetterConfig.TargetArn must not name a FIFO queue.",
        )),
        false => Ok(dead_letters),
    }
}

fn logging(fields: &mut Fields) -> Result<Option<Logging>, Refusal> {
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let logging = inner(fields, "LoggingConfig", |inner| {
        Ok(Some(Logging {
            format: inner.one_of("LogFormat", &["JSON", "Text"])?,
            application_level: inner.one_of("ApplicationLogLevel", &levels)?,
            system_level: inner.one_of("SystemLogLevel", &["DEBUG", "INFO", "WARN"])?,
            group: inner.formed("LogGroup", GROUP_MAX, r"[\.\-_/#A-Za-z0-9]+", |text| {
                let good = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
                !text.is_empty() && text.chars().all(good)
            })?,
        }))
    })?;
    match &logging {
        Some(Logging {
            format: Some(format),
            application_level,
            system_level,
            ..
        }) if format == "Text"
            && application_level
                .as_ref()
                .or(system_level.as_ref())
                .is_some() =>
        {
            Err(Refusal::parameter(NO_LEVELS))
        }
        _ => Ok(logging),
    }
}

/// What is empty is the image's own.
fn image_config(fields: &mut Fields) -> Result<Option<image::Settings>, Refusal> {
    let words = |inner: &mut Fields, name| {
        let given = inner.list_to(name, WORDS_MAX)?;
        match given.filter(|words| !words.is_empty()) {
            Some(words) if !words.iter().all(|word| is_word(word)) => Err(Refusal::parameter(
                format!("ImageConfig {name} must not have a zero byte."),
            )),
            given => Ok(given),
        }
    };
    inner(fields, "ImageConfig", |inner| {
        let settings = image::Settings {
            entrypoint: words(inner, "EntryPoint")?,
            command: words(inner, "Command")?,
            working_dir: inner
                .up_to("WorkingDirectory", WORKING_DIR_MAX)?
                .filter(|path| !path.is_empty()),
        };
        match &settings.working_dir {
            Some(path) if path.len() <= WORKING_DIR_MAX && !is_directory(path) => Err(
                Refusal::parameter("ImageConfig WorkingDirectory must be an absolute path."),
            ),
            _ => Ok(Some(settings)),
        }
    })
}

fn file_systems(fields: &mut Fields) -> Result<Option<Vec<FileSystem>>, Refusal> {
    let Some(value) = fields.take("FileSystemConfigs") else {
        return Ok(None);
    };
    match value.as_array() {
        Some(list) if list.is_empty() => Ok(Some(Vec::new())),
        // A function that expects files would not find them.
        _ => Err(Refusal::parameter(
            "FileSystemConfigs are not supported by Hearth.",
        )),
    }
}

/// What would make a function something that Hearth cannot run. An empty list or structure asks for nothing.
fn refuse_the_rest(fields: &mut Fields) -> Result<(), Refusal> {
    for name in [
        "CapacityProviderConfig",
        "DurableConfig",
        "TenancyConfig",
        "RuntimeConfig",
        "AcceleratorConfig",
    ] {
        let asks = fields
            .take(name)
            .is_some_and(|value| match value.as_object() {
                Some(object) => !object.is_empty(),
                None => value != "",
            });
        if asks {
            let message = format!("{name} is not supported by Hearth.");
            return Err(Refusal::parameter(message));
        }
    }
    Ok(())
}

fn is_role(text: &str) -> bool {
    let read = || {
        let rest = text.strip_prefix("arn:")?;
        let (partition, rest) = rest.split_once(":iam::")?;
        let (account, rest) = rest.split_once(":role")?;
        let name = rest.strip_prefix('/').unwrap_or(rest);
        let word = |c: char| c.is_ascii_alphabetic() || c == '-';
        let good = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_/".contains(c);
        let whole = (partition.is_empty() || partition.starts_with("aws"))
            && partition.chars().all(word)
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(good);
        Some(whole)
    };
    read().unwrap_or(false)
}

fn is_resource(text: &str) -> bool {
    text.is_empty() || (text.starts_with("arn:") && text.split(':').count() >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_a_form() {
        for good in [
            "arn:aws:iam::123456789012:role/r",
            "arn:aws-cn:iam::123456789012:role/service-role/a.b@c",
            "arn::iam::123456789012:role/r",
        ] {
            assert!(is_role(good), "{good}");
        }
        for bad in [
            "",
            "r",
            "arn:aws:iam::1:role/r",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:user/r",
            "arn:aws:iam::123456789012:role/a b",
        ] {
            assert!(!is_role(bad), "{bad}");
        }
    }

    fn read(body: &str) -> Result<Wish, Refusal> {
        let mut fields = Fields::of(body.as_bytes())?;
        let wish = Wish::read(&mut fields)?;
        fields.finish()?;
        Ok(wish)
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_empty_goes() {
        let first = read(
            r#"{"Role": "arn:aws:iam::123456789012:role/r", "TracingConfig": {"Mode": "Active"}, "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
                "VpcConfig": {"SubnetIds": ["subnet-1"]}, "EphemeralStorage": {"Size": 1024}, "Layers": [], "ImageConfig": {}}"#,
        );
        let first = first
            .expect("is read")
            .over(&aws::Settings::default(), Some("r1"));
        let second =
            read(r#"{"DeadLetterConfig": {"TargetArn": ""}, "EphemeralStorage": {"Size": 512}}"#);
        let second = second.expect("is read").over(&first, None);
        assert_eq!(second.ephemeral_storage, Some(512));
        let unchanged = aws::Settings {
            dead_letter: None,
            ephemeral_storage: Some(512),
            written: 2,
            ..first.clone()
        };
        assert_eq!(second, unchanged);
        assert_eq!(first.runtime.as_deref(), Some("r1"));
        // As AWS was recorded to do.
        let third = read(r#"{"DeadLetterConfig": {}}"#).expect("is read");
        assert_eq!(third.over(&first, None).dead_letter, first.dead_letter);
    }

    #[test]
    fn what_is_said_of_logs_is_over_what_was_said() {
        let mut there = aws::Settings::default();
        for (given, format, level, system, group) in [
            (r#"{"LogGroup": "/mine"}"#, None, None, None, "/mine"),
            (
                r#"{"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"}"#,
                Some("JSON"),
                Some("DEBUG"),
                None,
                "/mine",
            ),
            (
                r#"{"SystemLogLevel": "WARN"}"#,
                Some("JSON"),
                Some("DEBUG"),
                Some("WARN"),
                "/mine",
            ),
            (
                r#"{"LogFormat": "JSON"}"#,
                Some("JSON"),
                None,
                None,
                "/mine",
            ),
            (
                r#"{"ApplicationLogLevel": "WARN"}"#,
                Some("JSON"),
                Some("WARN"),
                None,
                "/mine",
            ),
            (
                r#"{"LogFormat": "Text", "LogGroup": "/other"}"#,
                Some("Text"),
                None,
                None,
                "/other",
            ),
        ] {
            let wish = read(&format!(r#"{{"LoggingConfig": {given}}}"#)).expect("is read");
            assert_eq!(wish.held_to(&there), Ok(()), "{given}");
            there = wish.over(&there, None);
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let wanted = Logging {
                format: owned(format),
                application_level: owned(level),
                system_level: owned(system),
                group: Some(group.into()),
            };
            assert_eq!(there.logging, Some(wanted), "{given}");
        }
        // Where the format is Text, or nobody has said any, there are no levels to say.
        for there in [there, aws::Settings::default()] {
            for level in [
                r#"{"ApplicationLogLevel": "WARN"}"#,
                r#"{"SystemLogLevel": "WARN"}"#,
            ] {
                let wish = read(&format!(r#"{{"LoggingConfig": {level}}}"#)).expect("is read");
                let refused = wish.held_to(&there).expect_err(level);
                assert_eq!(refused.message, NO_LEVELS);
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (body, named) in [
            (
                r#"{"Environment": {"Variables": {"AWS_REGION": "x"}}}"#,
                "AWS_REGION",
            ),
            (
                r#"{"Environment": {"Variables": {"1": "x"}}}"#,
                "environment.variables",
            ),
            (r#"{"Layers": ["a"]}"#, "Value '[a]' at 'layers'"),
            (
                r#"{"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:a"]}"#,
                "'layers'",
            ),
            (
                r#"{"ImageConfig": {"WorkingDirectory": "x"}}"#,
                "WorkingDirectory must be an absolute path",
            ),
            (r#"{"ImageConfig": {"Command": ["\u0000"]}}"#, "Command"),
            (r#"{"FileSystemConfigs": [{}]}"#, "FileSystemConfigs"),
            (r#"{"Architectures": ["x86_64", "arm64"]}"#, "architectures"),
            (
                r#"{"EphemeralStorage": {"Size": 1}}"#,
                "ephemeralStorage.size",
            ),
            (r#"{"Handler": "a b"}"#, "handler"),
            (r#"{"Role": "x"}"#, "role"),
            (
                r#"{"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q.fifo"}}"#,
                "DeadLetterConfig.TargetArn must not name a FIFO queue",
            ),
            (
                r#"{"LoggingConfig": {"LogGroup": "a b"}}"#,
                "loggingConfig.logGroup",
            ),
            (
                r#"{"LoggingConfig": {"LogFormat": "Text", "SystemLogLevel": "WARN"}}"#,
                "LogLevel is not supported",
            ),
        ] {
            let refusal = read(body).map(drop).expect_err(body);
            assert!(
                refusal.message.contains(named),
                "{body}: {}",
                refusal.message
            );
        }
        let wrapped = r#"{"Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/w", "AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH": "1"}}}"#;
        assert!(read(wrapped).is_ok());
        let long = "x".repeat(ENVIRONMENT_MAX - r#"{"LONG":""}"#.len());
        let body = format!(r#"{{"Environment": {{"Variables": {{"LONG": "{long}"}}}}}}"#);
        assert!(read(&body).is_ok());
        let long = format!("{long}x");
        let body = format!(r#"{{"Environment": {{"Variables": {{"LONG": "{long}"}}}}}}"#);
        let message = read(&body).map(drop).expect_err("too long").message;
        assert!(
            message.ends_with(&format!(
                r#"4KB limit. String measured: {{"LONG":"{long}"}}"#
            )),
            "{message}"
        );
    }
}
