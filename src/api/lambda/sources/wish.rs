//! What a mapping shall be, as CreateEventSourceMapping and UpdateEventSourceMapping say it. All of it is checked in AWS's words, also what
//! is for other sources than queues, of which none is here; what of that is given is then refused by its name.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::lambda::errors::Refusal;
use crate::api::lambda::event_invoke::destination;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::settings::resource;
use crate::api::lambda::{create, names, policy};
use crate::domain::filter::Filter;
use crate::domain::mapping::{
    BATCH_MAX, CONCURRENCY, FILTERS_MAX, Mapping, RECEIVE_MAX, WINDOW_SECONDS_MAX,
};

const PATTERN_MAX: usize = 4096;
const METRICS: [&str; 3] = ["EventCount", "ErrorCount", "KafkaMetrics"];
const REPORT: &str = "ReportBatchItemFailures";
/// Of what is written as a URI.
const URI: &str = r"[ a-zA-Z0-9-\/*:_+=.@-]*";
const URI_MAX: usize = 200;
const REGISTRY: &str = r"[a-zA-Z0-9-\/*:_+=.@-]*";
const REGISTRY_MAX: usize = 10_000;
const DATABASE: (usize, &str) = (63, r"[^ /\.$\x22]*");
const COLLECTION: (usize, &str) = (57, r"(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)");
const POLLER_GROUP: (usize, &str) = (128, "[a-zA-Z0-9-_]*");
/// What says from where in a stream its records are read.
const STARTING: [&str; 2] = ["StartingPosition", "StartingPositionTimestamp"];
/// What is for other sources, or is not here; which of them is given is looked at before they are read.
const FOREIGN: [&str; 14] = [
    "AmazonManagedKafkaEventSourceConfig",
    "BisectBatchOnFunctionError",
    "DocumentDBEventSourceConfig",
    "LoggingConfig",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "ProvisionedPollerConfig",
    "Queues",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
    "TumblingWindowInSeconds",
];

/// What was given; all of it may be left out.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub function: Option<String>,
    /// Of what the source is.
    pub source: Option<String>,
    pub tags: Option<BTreeMap<String, String>>,
    self_managed: bool,
    enabled: Option<bool>,
    batch_size: Option<u32>,
    window_seconds: Option<u32>,
    filters: Option<Vec<Option<String>>>,
    reports_failures: Option<bool>,
    /// `Some(None)` takes it away.
    concurrency: Option<Option<u32>>,
    kms_key: Option<String>,
    metrics: Option<Vec<String>>,
    starting: bool,
    destination: bool,
    foreign: Option<&'static str>,
}

impl Wish {
    /// `new`: of a mapping that is to be made.
    pub(super) fn read(fields: &mut Fields, new: bool) -> Result<Self, Refusal> {
        let falsehood = Value::Bool(false);
        let foreign = FOREIGN.iter().find(|name| {
            // That it is not to be done is nothing to refuse.
            fields.has(name) && !fields.is(name, &falsehood)
        });
        let mut wish = Self {
            foreign: foreign.copied(),
            self_managed: new && fields.has("SelfManagedEventSource"),
            starting: new && STARTING.iter().any(|name| fields.has(name)),
            function: fields.text("FunctionName")?,
            enabled: match fields.has("Enabled") {
                true => Some(fields.flag("Enabled")?),
                false => None,
            },
            batch_size: fields.whole("BatchSize", 1, BATCH_MAX.into())?,
            window_seconds: fields.whole(
                "MaximumBatchingWindowInSeconds",
                0,
                WINDOW_SECONDS_MAX.into(),
            )?,
            filters: filters(fields)?,
            reports_failures: response_types(fields)?,
            concurrency: concurrency(fields)?,
            kms_key: resource(fields, "KMSKeyArn")?,
            metrics: metrics(fields)?,
            ..Self::default()
        };
        if new {
            let (most, pattern) = (policy::TEXT_MAX, names::ANYTHING);
            let source = fields.formed("EventSourceArn", most, pattern, names::is_arn)?;
            wish.source = source.filter(|arn| !arn.is_empty());
            wish.tags = create::tags(fields)?;
            fields.one_of(STARTING[0], &["LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"])?;
            fields.list("Topics")?;
            fields.list("Queues")?;
            fields.entries("SelfManagedEventSource")?;
        }
        wish.destination = destinations(fields)?;
        others(fields)?;
        Ok(wish)
    }

    /// What is wrong with it for a queue.
    pub(super) fn of_queues(&self) -> Result<(), Refusal> {
        if self.starting {
            let message = "StartingPosition is not valid for SQS event sources.";
            return Err(Refusal::parameter(message));
        }
        if self.destination {
            return Err(Refusal::parameter(
                "Unsupported DestinationConfig parameter for given event source mapping type.",
            ));
        }
        if let Some(name) = self.foreign {
            return Err(Refusal::parameter(format!(
                "{name} isn't supported for this event source type"
            )));
        }
        Ok(())
    }

    /// What the source is; a word of AWS's for what is not here.
    pub(super) fn service(&self) -> Result<&str, Refusal> {
        if self.self_managed {
            return Err(elsewhere("A self-managed Apache Kafka"));
        }
        let unrecognized = || Refusal::parameter("Unrecognized event source.");
        let arn = self.source.as_deref().ok_or_else(unrecognized)?;
        match arn.split(':').nth(2) {
            Some("sqs") => Ok(arn),
            Some("kinesis") => Err(elsewhere("Amazon Kinesis")),
            Some("dynamodb") => Err(elsewhere("A stream of Amazon DynamoDB")),
            Some("kafka") => Err(elsewhere("Amazon MSK")),
            Some("mq") => Err(elsewhere("Amazon MQ")),
            Some("rds") => Err(elsewhere("Amazon DocumentDB")),
            _ => Err(unrecognized()),
        }
    }

    /// Makes of a mapping what was given.
    pub(super) fn apply(&self, mapping: &mut Mapping) -> Result<(), Refusal> {
        fn set<T: Clone>(what: &mut T, given: &Option<T>) {
            if let Some(given) = given {
                *what = given.clone();
            }
        }
        set(&mut mapping.enabled, &self.enabled);
        set(&mut mapping.batch_size, &self.batch_size);
        set(&mut mapping.window_seconds, &self.window_seconds);
        set(&mut mapping.reports_failures, &self.reports_failures);
        set(&mut mapping.concurrency, &self.concurrency);
        set(&mut mapping.metrics, &self.metrics);
        if let Some(key) = &self.kms_key {
            mapping.kms_key = Some(key.clone()).filter(|key| !key.is_empty());
        }
        let is_fifo = mapping.queue.is_fifo();
        let (size, window) = (mapping.batch_size, mapping.window_seconds);
        // With what AWS says of a FIFO queue before what it says of all: the other advice would lead nowhere.
        if is_fifo && window > 0 {
            let message = "Batching window is not supported for FIFO queues";
            return Err(Refusal::parameter(message));
        }
        if is_fifo && size > RECEIVE_MAX {
            return Err(Refusal::parameter(format!(
                "Batch size must not exceed {RECEIVE_MAX} for FIFO queues"
            )));
        }
        if size > RECEIVE_MAX && window == 0 {
            return Err(Refusal::parameter(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
            ));
        }
        if let Some(filters) = &self.filters {
            if filters.len() > FILTERS_MAX {
                return Err(Refusal::parameter(format!(
                    "FilterCriteria may have {FILTERS_MAX} filters at most."
                )));
            }
            let good = filters.iter().map(|pattern| {
                let pattern = pattern.as_ref()?;
                Filter::parse(pattern).map(|_| pattern.clone())
            });
            let good = good.collect::<Option<_>>();
            mapping.filters =
                good.ok_or_else(|| Refusal::parameter("Invalid filter pattern definition."))?;
        }
        Ok(())
    }
}

fn elsewhere(what: &str) -> Refusal {
    Refusal::parameter(format!(
        "{what} as an event source is not supported by Hearth: event sources are queues of SQS."
    ))
}

/// Of each its pattern, if it has one.
fn filters(fields: &mut Fields) -> Result<Option<Vec<Option<String>>>, Refusal> {
    let Some(mut criteria) = fields.open("FilterCriteria")? else {
        return Ok(None);
    };
    let list = match criteria.take("Filters") {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Refusal::serialization("Expected a List of filters")),
    };
    let mut patterns = Vec::new();
    for one in list {
        patterns.push(match one {
            Value::Object(mut one) => match one.remove("Pattern") {
                Some(Value::String(pattern)) => Some(pattern),
                None | Some(Value::Null) => None,
                Some(_) => return Err(Refusal::serialization("Expected a String as pattern")),
            },
            _ => return Err(Refusal::serialization("Expected a Structure as filter")),
        });
    }
    let long = patterns.iter().flatten();
    for pattern in long.filter(|pattern| pattern.chars().count() > PATTERN_MAX) {
        let constraint = format!("Member must have length less than or equal to {PATTERN_MAX}");
        criteria.fault("Filters", pattern, &constraint);
    }
    fields.close(criteria);
    Ok(Some(patterns))
}

fn response_types(fields: &mut Fields) -> Result<Option<bool>, Refusal> {
    let given = enums(fields, "FunctionResponseTypes", &[REPORT], 1)?;
    Ok(given.map(|types| !types.is_empty()))
}

fn metrics(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(mut config) = fields.open("MetricsConfig")? else {
        return Ok(None);
    };
    let metrics = enums(&mut config, "Metrics", &METRICS, METRICS.len())?;
    fields.close(config);
    Ok(Some(metrics.unwrap_or_default()))
}

/// A list of some of these.
fn enums(
    fields: &mut Fields,
    field: &str,
    known: &[&str],
    most: usize,
) -> Result<Option<Vec<String>>, Refusal> {
    let list = fields.list_to(field, most)?;
    if let Some(other) = &list
        && other.iter().any(|text| !known.contains(&text.as_str()))
    {
        let value = format!("[{}]", other.join(", "));
        let known = known.join(", ");
        let constraint = format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{known}]]"
        );
        fields.fault(field, &value, &constraint);
    }
    Ok(list)
}

fn concurrency(fields: &mut Fields) -> Result<Option<Option<u32>>, Refusal> {
    let Some(mut config) = fields.open("ScalingConfig")? else {
        return Ok(None);
    };
    let (least, most) = (*CONCURRENCY.start(), *CONCURRENCY.end());
    let given = config.whole("MaximumConcurrency", least.into(), most.into())?;
    fields.close(config);
    Ok(Some(given))
}

/// Whether there is one.
fn destinations(fields: &mut Fields) -> Result<bool, Refusal> {
    let Some(mut both) = fields.open("DestinationConfig")? else {
        return Ok(false);
    };
    let success = destination::read(&mut both, "OnSuccess")?;
    let failure = destination::read(&mut both, "OnFailure")?;
    fields.close(both);
    Ok(success.flatten().or(failure.flatten()).is_some())
}

/// What is for other sources; only its form is looked at.
fn others(fields: &mut Fields) -> Result<(), Refusal> {
    fields.whole("ParallelizationFactor", 1, 10)?;
    fields.whole("MaximumRecordAgeInSeconds", -1, 604_800)?;
    fields.whole("MaximumRetryAttempts", -1, 10_000)?;
    fields.whole("TumblingWindowInSeconds", 0, 900)?;
    fields.flag("BisectBatchOnFunctionError")?;
    for kafka in [
        "AmazonManagedKafkaEventSourceConfig",
        "SelfManagedKafkaEventSourceConfig",
    ] {
        let Some(mut config) = fields.open(kafka)? else {
            continue;
        };
        config.formed("ConsumerGroupId", URI_MAX, URI, |text| is_uri(text, " "))?;
        config.one_of("ConsumptionMode", &["Stream", "Queue"])?;
        if let Some(mut registry) = config.open("SchemaRegistryConfig")? {
            let is = |text: &str| is_uri(text, "");
            registry.formed("SchemaRegistryURI", REGISTRY_MAX, REGISTRY, is)?;
            registry.one_of("EventRecordFormat", &["JSON", "SOURCE"])?;
            config.close(registry);
        }
        fields.close(config);
    }
    if let Some(mut config) = fields.open("DocumentDBEventSourceConfig")? {
        let (most, pattern) = DATABASE;
        config.formed("DatabaseName", most, pattern, |text| {
            !text.contains([' ', '/', '.', '$', '"'])
        })?;
        let (most, pattern) = COLLECTION;
        config.formed("CollectionName", most, pattern, |text| {
            let first = |c: char| c == '_' || c.is_ascii_alphanumeric();
            text.starts_with(first) && !text.starts_with("system.") && !text.contains('$')
        })?;
        config.one_of("FullDocument", &["UpdateLookup", "Default"])?;
        fields.close(config);
    }
    if let Some(mut config) = fields.open("LoggingConfig")? {
        config.one_of("SystemLogLevel", &["DEBUG", "INFO", "WARN"])?;
        fields.close(config);
    }
    if let Some(mut config) = fields.open("ProvisionedPollerConfig")? {
        config.whole("MinimumPollers", 1, 200)?;
        config.whole("MaximumPollers", 1, 10_000)?;
        let (most, pattern) = POLLER_GROUP;
        config.formed("PollerGroupName", most, pattern, |text| {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            text.chars().all(good)
        })?;
        fields.close(config);
    }
    Ok(())
}

fn is_uri(text: &str, more: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-/*:_+=.@".contains(c) || more.contains(c);
    text.chars().all(good)
}
