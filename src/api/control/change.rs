//! What a body asks to have changed, field by field. Pure: looks at the text, the runtimes there are and the limits, collects
//! everything that is wrong, and touches nothing. `draft` makes a function of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::control::image;
use crate::api::error::{FieldFault, Problem};
use crate::api::json;
use crate::domain::aws;
use crate::domain::destination::Destination;
use crate::domain::environment::Variables;
use crate::domain::function::Network;
use crate::domain::id::FunctionName;
use crate::domain::layer;
use crate::domain::limits::{
    ENVIRONMENT_MAX, EVENT_AGE_SECONDS, EVENT_RETRIES, LAYERS_MAX, MEMORY_MIB, Mebibytes,
    TIMEOUT_SECONDS,
};
use crate::domain::route;
use crate::runtime::Catalog;
use crate::runtime::manifest::Manifest;

pub const DESCRIPTION_MAX: usize = 256;
pub const HANDLER_MAX: usize = 128;
pub const TAGS_MAX: usize = 50;
pub const TAG_KEY_MAX: usize = 128;
pub const TAG_VALUE_MAX: usize = 256;
/// More faults than anybody reads; the rest is counted.
const FAULTS_MAX: usize = 100;

/// What a client may not set, but finds in the document it read.
const READ_ONLY: [&str; 5] = ["id", "version", "created_at", "updated_at", "url"];

/// Names the worker's own settings go by, as AWS lists them.
const RESERVED_VARIABLES: [&str; 14] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];
const RESERVED_VARIABLE_PREFIX: &str = "HEARTH_";

/// What a role gives a function on AWS, and nobody may set or see there. Here nobody else would give it: what calls AWS, or what speaks like
/// it, brings its own.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// Whether a client of AWS's cannot give a function a variable of this name.
pub fn is_reserved_on_aws(name: &str) -> bool {
    is_credential(name) || is_reserved(name)
}

/// Whether a variable of this name stays whatever clients of AWS's make of the others, and is not shown to them.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
}

/// Whether a function cannot have a variable of this name: runtimes set it.
fn is_reserved(name: &str) -> bool {
    RESERVED_VARIABLES.contains(&name) || name.starts_with(RESERVED_VARIABLE_PREFIX)
}

/// The fields that were given. `Some(None)` is a field that was set to null, which takes the value away.
#[derive(Debug, Default)]
pub struct Change {
    pub name: Option<FunctionName>,
    pub route: Option<Option<String>>,
    pub runtime: Option<Arc<Manifest>>,
    pub handler: Option<String>,
    pub timeout_seconds: Option<u32>,
    pub memory: Option<Mebibytes>,
    pub code: Option<Source>,
    pub layers: Option<Vec<layer::Id>>,
    /// A value may be the mask, which stands for the one there is.
    pub environment: Option<Variables>,
    pub description: Option<String>,
    pub tags: Option<BTreeMap<String, String>>,
    pub max_concurrency: Option<Option<u32>>,
    pub reserved_concurrency: Option<Option<u32>>,
    pub max_retries: Option<Option<u32>>,
    pub max_event_age: Option<Option<u32>>,
    pub on_success: Option<Option<Destination>>,
    pub on_failure: Option<Option<Destination>>,
    pub network: Option<Network>,
    /// What only AWS's clients see.
    pub aws: Option<aws::Settings>,
    /// Another runtime may run the code there is.
    pub keeps_code: bool,
    /// The revision the change was made from.
    pub revision: Option<u64>,
}

impl Change {
    /// Refuses what is the image's own affair in a function that is one.
    pub fn keep_to_image(&self, faults: &mut Faults) {
        let given = [
            ("language", self.runtime.is_some(), "leave it out"),
            (
                "handler",
                self.handler.is_some(),
                "give the image another command instead",
            ),
            (
                "layers",
                self.layers.as_ref().is_some_and(|ids| !ids.is_empty()),
                "put their content into it",
            ),
        ];
        for (field, _, instead) in given.into_iter().filter(|(_, given, _)| *given) {
            faults.add(field, format!("is the image's affair: {instead}"));
        }
    }
}

/// Where code comes from, as the body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Inline(String),
    /// Base64 of a zip, not decoded yet.
    Zip(String),
    /// A zip from elsewhere.
    Fetched(Bytes),
    Path(PathBuf),
    /// Looked for by `Deploy`.
    Image(image::Wish),
}

impl Source {
    /// The field it was given in.
    pub fn field(&self) -> &'static str {
        match self {
            Source::Inline(_) | Source::Zip(_) | Source::Fetched(_) => "code",
            Source::Path(_) => "code_path",
            Source::Image(_) => image::FIELD,
        }
    }
}

/// Reads the body of a create or an update; the change holds what was right, the faults the rest.
pub fn read(
    body: &[u8],
    runtimes: &Catalog,
    account_concurrency: u32,
) -> Result<(Change, Faults), Problem> {
    let mut fields = Fields::of(body)?;
    let change = Change {
        name: fields.parsed("name", name),
        route: fields.nullable("route", |value| {
            let route = text(value)?;
            route::parse(route).map(|_| route.to_owned())
        }),
        runtime: fields.parsed("language", |value| language(text(value)?, runtimes)),
        handler: fields.parsed("handler", |value| handler(text(value)?)),
        timeout_seconds: fields.parsed("timeout", |v| whole(v, TIMEOUT_SECONDS, "seconds")),
        memory: fields.parsed("memory", |v| whole(v, MEMORY_MIB, "MiB").map(Mebibytes)),
        code: fields.source(),
        layers: fields.parsed("layers", layers),
        environment: fields
            .map("environment", variable, environment_as_whole)
            .map(Variables),
        description: fields.parsed("description", description),
        tags: fields.map("tags", tag, tags_as_whole),
        max_concurrency: fields.nullable("max_concurrency", |value| {
            whole(value, 0..=account_concurrency, "calls")
        }),
        reserved_concurrency: fields.nullable("reserved_concurrency", |value| {
            whole(value, 0..=account_concurrency, "calls")
        }),
        network: fields.parsed("network", network),
        aws: None,
        keeps_code: false,
        revision: fields.parsed("revision", |value| match value.as_u64() {
            Some(revision) => Ok(revision),
            None => Err(must_be("a revision's number", value)),
        }),
        ..fields.asynchronous()
    };
    Ok((change, fields.finish(&READ_ONLY, "a function")))
}

/// Everything that is wrong, in the order it was found.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldFault>);

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldFault::new(field, message));
    }

    /// Whether the field was there but wrong: then it is not missing as well.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|fault| fault.field == field)
    }

    pub fn into_result(mut self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        if self.0.len() > FAULTS_MAX {
            let more = self.0.len() - FAULTS_MAX;
            self.0.truncate(FAULTS_MAX);
            self.add("…", format!("{more} more"));
        }
        Err(Problem::Invalid(self.0))
    }
}

/// The fields of a body, taken one by one; what is left at the end is refused by name.
#[derive(Debug)]
pub struct Fields {
    given: Map<String, Value>,
    faults: Faults,
}

impl Fields {
    pub fn of(body: &[u8]) -> Result<Self, Problem> {
        Ok(Self {
            given: object(body)?,
            faults: Faults::default(),
        })
    }

    pub fn parsed<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.given.remove(field)?;
        parse(&value)
            .map_err(|message| self.faults.add(field, message))
            .ok()
    }

    pub fn nullable<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.parsed(field, |value| match value {
            Value::Null => Ok(None),
            value => parse(value).map(Some),
        })
    }

    /// A text that is moved and not copied: it may be tens of megabytes.
    pub fn taken(&mut self, field: &str) -> Option<String> {
        match self.given.remove(field)? {
            Value::String(text) => Some(text),
            other => {
                self.faults.add(field, must_be_text(&other));
                None
            }
        }
    }

    /// The fields of an object that is a field, to be closed again; `Some(None)` where it is null.
    pub fn open(&mut self, field: &str) -> Option<Option<Fields>> {
        self.nullable(field, |value| match value {
            Value::Object(given) => Ok(Fields {
                given: given.clone(),
                faults: Faults::default(),
            }),
            other => Err(must_be("an object", other)),
        })
    }

    /// What is wrong inside joins what else is.
    pub fn close(&mut self, field: &str, inner: Fields) {
        for fault in inner.finish(&[], field).0 {
            self.faults
                .add(format!("{field}.{}", fault.field), fault.message);
        }
    }

    /// How asynchronous calls are run.
    pub fn asynchronous(&mut self) -> Change {
        Change {
            max_retries: self.nullable("max_retries", |v| whole(v, EVENT_RETRIES, "retries")),
            max_event_age: self
                .nullable("max_event_age", |v| whole(v, EVENT_AGE_SECONDS, "seconds")),
            on_success: self.nullable("on_success", |v| Destination::parse(text(v)?)),
            on_failure: self.nullable("on_failure", |v| Destination::parse(text(v)?)),
            ..Change::default()
        }
    }

    /// A map of texts; faults name the entry.
    fn map(
        &mut self,
        field: &str,
        entry: impl Fn(&str, &str) -> Result<(), String>,
        as_whole: impl FnOnce(&BTreeMap<String, String>) -> Result<(), String>,
    ) -> Option<BTreeMap<String, String>> {
        let value = self.given.remove(field)?;
        let Value::Object(entries) = value else {
            self.faults.add(
                field,
                format!("must be a map of texts, is {}", kind(&value)),
            );
            return None;
        };
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            // Without what it is: it may be meant to be secret.
            let checked = value.as_str().ok_or_else(|| must_be_text(&value));
            let checked = checked.and_then(|value| entry(&key, value));
            if let Err(message) = checked {
                self.faults.add(format!("{field}.{}", cut(&key)), message);
            } else if let Value::String(value) = value {
                map.insert(key, value);
            }
        }
        as_whole(&map)
            .map_err(|message| self.faults.add(field, message))
            .ok()?;
        Some(map)
    }

    /// `code`, `code_path` or `image`. The text is moved and not copied: it may be tens of megabytes.
    fn source(&mut self) -> Option<Source> {
        let path = self.parsed("code_path", code_path);
        let image = self.parsed(image::FIELD, |value| image::read(value).map(Source::Image));
        let given = |field: &str, there: bool| there.then(|| field.to_owned());
        let code = self.given.remove("code");
        let given = [
            given("code", code.is_some()),
            given("code_path", path.is_some() || self.faults.has("code_path")),
            given(
                image::FIELD,
                image.is_some() || self.faults.has(image::FIELD),
            ),
        ];
        let mut given = given.into_iter().flatten();
        if let Some(first) = given.next() {
            for other in given {
                let message = format!("cannot be given together with {first}");
                self.faults.add(other, message);
            }
        }
        let Some(code) = code else {
            return path.or(image);
        };
        source(code)
            .map_err(|message| self.faults.add("code", message))
            .ok()
    }

    /// `of` is what the fields are of.
    pub fn finish(mut self, read_only: &[&str], of: &str) -> Faults {
        for (field, _) in self.given {
            let message = if read_only.contains(&field.as_str()) {
                "is read-only: leave it out".into()
            } else {
                format!("is not a field of {of}")
            };
            self.faults.add(cut(&field), message);
        }
        self.faults
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let malformed = |what, why: &dyn Display| Problem::Malformed {
        what,
        why: why.to_string(),
    };
    std::str::from_utf8(body).map_err(|error| malformed("UTF-8", &error))?;
    match json::value(body).map_err(|error| malformed("JSON", &error))? {
        Value::Object(fields) => Ok(fields),
        other => Err(malformed(
            "a JSON object",
            &format!("it is {}", kind(&other)),
        )),
    }
}

fn name(value: &Value) -> Result<FunctionName, String> {
    new_name(text(value)?)
}

/// A name a function may be given.
pub fn new_name(text: &str) -> Result<FunctionName, String> {
    let name = FunctionName::parse(text)?;
    if text == "execute" {
        return Err("must not be \"execute\": that is the path of the batch".into());
    }
    // An id in a path wins over a name, so such a function could be hidden by another.
    if uuid::Uuid::try_parse(text).is_ok() {
        return Err("must not look like an id".into());
    }
    Ok(name)
}

fn language(text: &str, runtimes: &Catalog) -> Result<Arc<Manifest>, String> {
    if let Some(manifest) = runtimes.find(text) {
        return Ok(manifest.clone());
    }
    let offered: Vec<_> = runtimes
        .all()
        .iter()
        .map(|m| match m.names.is_empty() {
            true => m.id.to_string(),
            false => format!("{} ({})", m.id, m.names.join(", ")),
        })
        .collect();
    Err(format!(
        "must be one of {}; is {:?}",
        offered.join(", "),
        cut(text)
    ))
}

fn handler(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length == 0 || length > HANDLER_MAX {
        return Err(format!(
            "must have 1 to {HANDLER_MAX} characters, has {length}"
        ));
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(bad) => Err(format!("must not have spaces, has {bad:?}")),
        None => Ok(text.into()),
    }
}

fn code_path(value: &Value) -> Result<Source, String> {
    let path = PathBuf::from(text(value)?);
    if !path.is_absolute() {
        return Err("must be an absolute path on the server".into());
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("must not have a zero byte".into());
    }
    Ok(Source::Path(path))
}

/// A text is source code unless it is base64 of a zip, which shows in its first characters: no source begins like that.
fn source(value: Value) -> Result<Source, String> {
    let wanted = "source text, base64 of a zip, {\"inline\": …} or {\"zip\": …}";
    let source = match value {
        Value::String(text) if is_zip(&text) => Source::Zip(text),
        Value::String(text) => Source::Inline(text),
        Value::Object(mut object) if object.len() == 1 => {
            match (object.remove("inline"), object.remove("zip")) {
                (Some(Value::String(text)), None) => Source::Inline(text),
                (None, Some(Value::String(text))) => Source::Zip(text),
                _ => return Err(format!("must be {wanted}")),
            }
        }
        other => return Err(must_be(wanted, &other)),
    };
    match &source {
        Source::Inline(text) | Source::Zip(text) if text.trim().is_empty() => {
            Err("must not be empty".into())
        }
        _ => Ok(source),
    }
}

/// "PK\3\4", and "PK\5\6" of an archive without entries.
fn is_zip(text: &str) -> bool {
    text.starts_with("UEsDB") || text.starts_with("UEsFB")
}

pub fn description(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    match text.chars().count() {
        n if n > DESCRIPTION_MAX => Err(format!(
            "must have at most {DESCRIPTION_MAX} characters, has {n}"
        )),
        _ => Ok(text.into()),
    }
}

fn variable(key: &str, value: &str) -> Result<(), String> {
    let starts_well = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("must be named with letters, digits and '_', not a digit first".into());
    }
    if is_reserved(key) {
        return Err("is a reserved name".into());
    }
    if value.contains('\0') {
        return Err("must not have a zero byte".into());
    }
    Ok(())
}

fn environment_as_whole(map: &BTreeMap<String, String>) -> Result<(), String> {
    let size: usize = map.iter().map(|(k, v)| k.len() + v.len()).sum();
    match size > ENVIRONMENT_MAX {
        true => Err(too_large(size)),
        false => Ok(()),
    }
}

pub fn too_large(size: usize) -> String {
    format!("must have at most {ENVIRONMENT_MAX} bytes, names and values together, has {size}")
}

pub fn tag(key: &str, value: &str) -> Result<(), String> {
    let (k, v) = (key.chars().count(), value.chars().count());
    if k == 0 || k > TAG_KEY_MAX {
        return Err(format!(
            "must have a key of 1 to {TAG_KEY_MAX} characters, has {k}"
        ));
    }
    if v > TAG_VALUE_MAX {
        return Err(format!(
            "must have a value of at most {TAG_VALUE_MAX} characters, has {v}"
        ));
    }
    if key.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("aws:")) {
        return Err("must not begin with \"aws:\"".into());
    }
    let allowed = |c: &char| c.is_alphanumeric() || " _.:/=+-@".contains(*c);
    match key.chars().chain(value.chars()).find(|c| !allowed(c)) {
        Some(bad) => Err(format!(
            "may have letters, digits, spaces and _.:/=+-@ only, has {bad:?}"
        )),
        None => Ok(()),
    }
}

fn tags_as_whole(map: &BTreeMap<String, String>) -> Result<(), String> {
    match map.len() {
        n if n > TAGS_MAX => Err(format!("must be at most {TAGS_MAX}, are {n}")),
        _ => Ok(()),
    }
}

fn layers(value: &Value) -> Result<Vec<layer::Id>, String> {
    let list = value.as_array().filter(|list| list.len() <= LAYERS_MAX);
    let list = list.ok_or_else(|| must_be(&format!("a list of at most {LAYERS_MAX}"), value))?;
    let read = list.iter().map(|value| {
        let text = text(value)?;
        text.parse().map_err(|why| format!("{:?} {why}", cut(text)))
    });
    let ids: Vec<layer::Id> = read.collect::<Result<_, String>>()?;
    match layer::twice(&ids) {
        Some((one, other)) => Err(format!("has two versions of one layer, {one} and {other}")),
        None => Ok(ids),
    }
}

fn network(value: &Value) -> Result<Network, String> {
    match value.as_str() {
        Some("none") => Ok(Network::None),
        Some("egress") => Ok(Network::Egress),
        _ => Err(must_be("\"none\" or \"egress\"", value)),
    }
}

pub fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| must_be("a text", value))
}

pub fn whole(value: &Value, range: RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            must_be(
                &format!("a whole number of {unit} from {least} to {most}"),
                value,
            )
        })
}

pub fn must_be(wanted: &str, value: &Value) -> String {
    match value {
        Value::Number(n) => format!("must be {wanted}, is {n}"),
        Value::String(text) => format!("must be {wanted}, is {:?}", cut(text)),
        other => format!("must be {wanted}, is {}", kind(other)),
    }
}

fn must_be_text(value: &Value) -> String {
    format!("must be a text, is {}", kind(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a client sent is shown, but not at any length.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests;
