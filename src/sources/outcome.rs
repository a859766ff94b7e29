//! Which messages of a batch a function failed to handle, as its answer says. Pure, and by AWS's rules: whoever says nothing means none, and
//! whoever says something that cannot be read means all.

use std::collections::HashSet;

use serde_json::Value;

/// What an answer says of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failures {
    None,
    /// These, by their ids.
    Some(HashSet<String>),
    /// The whole batch, because the answer names what was not in it, or nothing that can be read.
    All(String),
}

/// `ids` are those of the messages the function was given.
pub fn failures<'a>(answer: &[u8], ids: impl Iterator<Item = &'a str>) -> Failures {
    let unreadable = |what: &str| Failures::All(what.into());
    // Nothing at all is as good as null.
    let value = match answer.is_empty() {
        true => Value::Null,
        false => match serde_json::from_slice::<Value>(answer) {
            Ok(value) => value,
            Err(_) => return unreadable("the answer is no JSON"),
        },
    };
    let list = match value {
        Value::Null => return Failures::None,
        Value::Object(mut answer) => match answer.remove("batchItemFailures") {
            None | Some(Value::Null) => return Failures::None,
            Some(Value::Array(list)) => list,
            Some(_) => return unreadable("batchItemFailures is no list"),
        },
        // What was answered is about something else, as if nothing were reported.
        _ => return Failures::None,
    };
    let known: HashSet<&str> = ids.collect();
    let mut failed = HashSet::new();
    for item in list {
        match item.get("itemIdentifier").and_then(Value::as_str) {
            Some(id) if known.contains(id) => {
                failed.insert(id.to_owned());
            }
            Some("") | None => {
                return unreadable("batchItemFailures has one without an itemIdentifier");
            }
            Some(_) => {
                return unreadable("batchItemFailures names a message that is not in the batch");
            }
        }
    }
    match failed.is_empty() {
        true => Failures::None,
        false => Failures::Some(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: &str) -> Failures {
        failures(answer.as_bytes(), ["a", "b", "c"].into_iter())
    }

    #[test]
    fn who_reports_nothing_has_handled_all() {
        for answer in [
            "",
            "null",
            "{}",
            r#"{"batchItemFailures": []}"#,
            r#"{"batchItemFailures": null}"#,
            r#"{"other": 1}"#,
            "\"done\"",
            "7",
        ] {
            assert_eq!(of(answer), Failures::None, "{answer}");
        }
    }

    #[test]
    fn what_is_reported_failed_and_nothing_else() {
        let some = |ids: &[&str]| Failures::Some(ids.iter().map(|id| (*id).to_owned()).collect());
        let item = r#"{"batchItemFailures": [{"itemIdentifier": "b"}]}"#;
        assert_eq!(of(item), some(&["b"]));
        let more = r#"{"batchItemFailures": [{"itemIdentifier": "a", "x": 1}, {"itemIdentifier": "c"}, {"itemIdentifier": "a"}]}"#;
        assert_eq!(of(more), some(&["a", "c"]));
    }

    #[test]
    fn what_cannot_be_read_is_a_failure_of_all() {
        for answer in [
            "{",
            "no JSON",
            r#"{"batchItemFailures": "a"}"#,
            r#"{"batchItemFailures": {}}"#,
            r#"{"batchItemFailures": ["a"]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"foo": "b"}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": 1}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": "d"}]}"#,
        ] {
            assert!(matches!(of(answer), Failures::All(_)), "{answer}");
        }
    }
}
