//! The event that a function is called with: a batch of messages, written as AWS writes it; and which messages are for it at all. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::domain::filter::Filter;
use crate::domain::limits::PAYLOAD_MAX;
use crate::domain::mapping::Queue;
use crate::sources::queues::{Attribute, Message};

const OPENING: &[u8] = br#"{"Records": ["#;
const BETWEEN: &[u8] = b", ";
const CLOSING: &[u8] = b"]}";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: &'a BTreeMap<String, String>,
    message_attributes: BTreeMap<&'a str, Typed<'a>>,
    md5_of_message_attributes: Option<&'a str>,
    md5_of_body: &'a str,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<&'a str>,
    string_list_values: [(); 0],
    binary_list_values: [(); 0],
    data_type: &'a str,
}

impl<'a> From<&'a Attribute> for Typed<'a> {
    fn from(attribute: &'a Attribute) -> Self {
        Self {
            string_value: attribute.string_value.as_deref(),
            binary_value: attribute.binary_value.as_deref(),
            string_list_values: [],
            binary_list_values: [],
            data_type: &attribute.data_type,
        }
    }
}

/// A message in the place it has in an event.
fn record(message: &Message, arn: &str, region: &str) -> Vec<u8> {
    let attributes = message.message_attributes.iter();
    let written = serde_json::to_vec(&Record {
        message_id: &message.message_id,
        receipt_handle: &message.receipt_handle,
        body: &message.body,
        attributes: &message.attributes,
        message_attributes: attributes
            .map(|(name, value)| (name.as_str(), value.into()))
            .collect(),
        md5_of_message_attributes: message.md5_of_attributes.as_deref(),
        md5_of_body: &message.md5_of_body,
        event_source: "aws:sqs",
        event_source_arn: arn,
        aws_region: region,
    });
    written.expect("plain data with text keys")
}

/// A batch that a function can be called with.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub messages: Vec<Message>,
    pub event: Bytes,
}

/// These messages as few batches as fit into the largest payload, in their order.
pub fn batches(queue: &Queue, messages: Vec<Message>) -> Vec<Batch> {
    let (arn, region) = (queue.to_string(), queue.region.as_str());
    let mut all = Vec::new();
    let mut open: (Vec<Message>, Vec<u8>) = (Vec::new(), OPENING.to_vec());
    let close = |(messages, mut event): (Vec<Message>, Vec<u8>)| {
        event.extend_from_slice(CLOSING);
        Batch {
            messages,
            event: event.into(),
        }
    };
    for message in messages {
        let record = record(&message, &arn, region);
        let size = open.1.len() + BETWEEN.len() + record.len() + CLOSING.len();
        if size > PAYLOAD_MAX && !open.0.is_empty() {
            all.push(close(std::mem::replace(
                &mut open,
                (Vec::new(), OPENING.to_vec()),
            )));
        }
        if !open.0.is_empty() {
            open.1.extend_from_slice(BETWEEN);
        }
        open.1.extend_from_slice(&record);
        open.0.push(message);
    }
    if !open.0.is_empty() {
        all.push(close(open));
    }
    all
}

/// Bytes that a message takes in an event, or a little less.
pub fn size(message: &Message) -> usize {
    let attributes = message.message_attributes.values();
    let attributes = attributes.map(|attribute| {
        let text = attribute.string_value.as_ref().map_or(0, String::len);
        text + attribute.binary_value.as_ref().map_or(0, String::len)
    });
    message.body.len() + message.receipt_handle.len() + attributes.sum::<usize>()
}

/// Whether a message is for a function with these filters. A pattern that looks into the body is for bodies that are JSON alone.
pub fn is_wanted(filters: &[Filter], queue: &Queue, message: &Message) -> bool {
    if filters.is_empty() {
        return true;
    }
    let attributes: serde_json::Map<String, Value> = message
        .message_attributes
        .iter()
        .map(|(name, attribute)| {
            let typed = serde_json::to_value(Typed::from(attribute));
            (name.clone(), typed.expect("plain data with text keys"))
        })
        .collect();
    let mut value = json!({
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": message.attributes,
        "messageAttributes": attributes,
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.to_string(),
        "awsRegion": queue.region,
    });
    if filters
        .iter()
        .any(|filter| !filter.looks_into("body") && filter.matches(&value))
    {
        return true;
    }
    value["body"] = match serde_json::from_str::<Value>(&message.body) {
        Ok(inner) if inner.is_object() || inner.is_array() => inner,
        Ok(_) => return false,
        // JSON that no value here can hold, with half a surrogate pair or a number out of range: what cannot be judged is not taken away.
        Err(_) => return serde_json::from_str::<IgnoredAny>(&message.body).is_ok(),
    };
    let mut into = filters.iter().filter(|filter| filter.looks_into("body"));
    into.any(|filter| filter.matches(&value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sources) fn queue() -> Queue {
        let arn = "arn:aws:sqs:eu-west-3:123456789012:orders";
        Queue::try_from(arn.to_owned()).expect("a queue")
    }

    pub(in crate::sources) fn message(id: &str, body: &str) -> Message {
        Message {
            message_id: id.into(),
            receipt_handle: format!("handle-{id}"),
            body: body.into(),
            md5_of_body: "5d41".into(),
            md5_of_attributes: None,
            attributes: [("ApproximateReceiveCount".to_owned(), "1".to_owned())].into(),
            message_attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn an_event_is_written_as_aws_writes_it() {
        let said = json!({
            "MessageId": "m-1", "ReceiptHandle": "h", "Body": "{\"a\": 1}", "MD5OfBody": "5d41", "MD5OfMessageAttributes": "d25a",
            "Attributes": {"SenderId": "x", "SentTimestamp": "1"},
            "MessageAttributes": {
                "Title": {"StringValue": "The Whistler", "DataType": "String"},
                "Raw": {"BinaryValue": "AAE=", "DataType": "Binary"},
            },
        });
        let full: Message = serde_json::from_value(said).expect("a message");
        let all = batches(&queue(), vec![full.clone(), message("m-2", "text")]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].messages[0], full);
        let event: Value = serde_json::from_slice(&all[0].event).expect("JSON");
        assert_eq!(
            event["Records"][0],
            json!({
                "messageId": "m-1", "receiptHandle": "h", "body": "{\"a\": 1}",
                "attributes": {"SenderId": "x", "SentTimestamp": "1"},
                "messageAttributes": {
                    "Title": {"stringValue": "The Whistler", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
                    "Raw": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
                },
                "md5OfMessageAttributes": "d25a", "md5OfBody": "5d41",
                "eventSource": "aws:sqs", "eventSourceARN": queue().to_string(), "awsRegion": "eu-west-3",
            })
        );
        let second = &event["Records"][1];
        assert_eq!(second["messageAttributes"], json!({}));
        assert_eq!(second["md5OfMessageAttributes"], Value::Null);
    }

    #[test]
    fn no_event_is_larger_than_a_payload() {
        let body = "\"".repeat(700_000);
        let messages: Vec<_> = (0..10).map(|n| message(&n.to_string(), &body)).collect();
        let all = batches(&queue(), messages.clone());
        assert!(all.len() > 1, "escaped they are twice as large");
        assert!(all.iter().all(|batch| batch.event.len() <= PAYLOAD_MAX));
        for batch in &all {
            let event: Value = serde_json::from_slice(&batch.event).expect("JSON");
            assert_eq!(
                event["Records"].as_array().expect("a list").len(),
                batch.messages.len()
            );
        }
        let again: Vec<_> = all.into_iter().flat_map(|batch| batch.messages).collect();
        assert_eq!(again, messages, "in their order");
        assert!(batches(&queue(), Vec::new()).is_empty());
    }

    #[test]
    fn a_pattern_says_which_messages_are_wanted() {
        let wanted = |patterns: &[&str], body: &str| {
            let filters = patterns
                .iter()
                .map(|p| Filter::parse(p).expect("a pattern"));
            let filters: Vec<_> = filters.collect();
            let mut message = message("m", body);
            message.message_attributes.insert(
                "kind".into(),
                Attribute {
                    string_value: Some("a".into()),
                    binary_value: None,
                    data_type: "String".into(),
                },
            );
            is_wanted(&filters, &queue(), &message)
        };
        assert!(wanted(&[], "anything"));
        let json = r#"{"body": {"k": ["v"]}}"#;
        assert!(wanted(&[json], r#"{"k": "v", "more": 1}"#));
        assert!(!wanted(&[json], r#"{"k": "w"}"#));
        assert!(!wanted(&[json], "v"), "it is no JSON");
        assert!(!wanted(&[json], "\"v\""));
        for odd in [
            r#"{"k": "w", "cut": "\ud83d"}"#,
            r#"{"k": "w", "n": 1e999}"#,
        ] {
            assert!(wanted(&[json], odd), "nobody can say that it is not");
        }
        assert!(
            !wanted(&[r#"{"body": {"k": [{"exists": false}]}}"#], "text"),
            "only JSON is looked into"
        );
        assert!(wanted(&[r#"{"body": ["text"]}"#], "text"));
        assert!(!wanted(&[r#"{"body": [{"prefix": "x"}]}"#], "text"));
        let typed = r#"{"messageAttributes": {"kind": {"stringValue": ["a"]}}}"#;
        assert!(wanted(&[typed], "no JSON"));
        // One of several is enough.
        assert!(wanted(&[json, typed], "no JSON"));
        assert!(wanted(&[r#"{"body": ["x"]}"#, json], r#"{"k": "v"}"#));
    }
}
