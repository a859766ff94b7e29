//! A request's JSON, field by field, with AWS's sentences about what is wrong. What AWS does not know is passed over, as AWS does; null is
//! the same as nothing.

use serde_json::{Map, Value};

use crate::api::idempotency::INLINE_MAX;
use crate::api::json;
use crate::api::lambda::Asked;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::names;
use crate::task;

/// What is left to read, and what was wrong so far.
#[derive(Debug)]
pub struct Fields {
    given: Map<String, Value>,
    /// What comes before a field's name in a sentence.
    prefix: String,
    pub faults: Vec<String>,
}

impl Fields {
    /// A body; nothing is an empty object.
    pub fn of(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::within(String::new(), Map::new()));
        }
        match json::value(body) {
            Ok(Value::Object(given)) => Ok(Self::within(String::new(), given)),
            Ok(_) => Err(Refusal::serialization(
                "Start of structure or map found where not expected.",
            )),
            Err(error) => Err(Refusal::serialization(format!(
                "Could not parse request body into json: {error}"
            ))),
        }
    }

    /// The same of a body that may be large. Its room is held as long as it is looked at, also when nobody waits for that any more.
    pub(super) async fn read(asked: &mut Asked) -> Result<Self, Refusal> {
        if asked.body.len() <= INLINE_MAX {
            return Self::of(&asked.body);
        }
        let (body, room) = (asked.body.clone(), asked.room.take());
        let read = move || (Self::of(&body), room);
        let (fields, room) = task::blocking("read a body", read).await;
        asked.room = room;
        fields
    }

    fn within(prefix: String, given: Map<String, Value>) -> Self {
        Self {
            given,
            prefix,
            faults: Vec::new(),
        }
    }

    pub fn has(&self, field: &str) -> bool {
        self.given.get(field).is_some_and(|value| !value.is_null())
    }

    /// Whether this is what was given.
    pub fn is(&self, field: &str, value: &Value) -> bool {
        self.given.get(field) == Some(value)
    }

    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.given.remove(field).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, field: &str) -> Result<Option<String>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(&other, "a String")),
        }
    }

    pub fn flag(&mut self, field: &str) -> Result<bool, Refusal> {
        match self.take(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(mistyped(&other, "a Boolean")),
        }
    }

    /// A whole number between these.
    pub fn whole(&mut self, field: &str, least: i64, most: i64) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let Some(number) = value.as_i64() else {
            return Err(mistyped(&value, "an Integer"));
        };
        if number < least {
            let constraint = format!("Member must have value greater than or equal to {least}");
            self.fault(field, &number.to_string(), &constraint);
        } else if number > most {
            let constraint = format!("Member must have value less than or equal to {most}");
            self.fault(field, &number.to_string(), &constraint);
        }
        Ok(u32::try_from(number).ok())
    }

    pub fn list(&mut self, field: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let Value::Array(items) = value else {
            return Err(mistyped(&value, "a List"));
        };
        let mut texts = Vec::new();
        let mut shown = Vec::new();
        for item in items {
            match item {
                Value::String(text) => {
                    shown.push(text.clone());
                    texts.push(text);
                }
                Value::Null => shown.push("null".into()),
                other => return Err(mistyped(&other, "a String")),
            }
        }
        if shown.len() > texts.len() {
            let value = format!("[{}]", shown.join(", "));
            let constraint = "Member must satisfy constraint: [Member must not be null]";
            self.fault(field, &value, constraint);
        }
        Ok(Some(texts))
    }

    /// One of at most so many.
    pub fn list_to(&mut self, field: &str, most: usize) -> Result<Option<Vec<String>>, Refusal> {
        let given = self.list(field)?;
        if let Some(texts) = given.as_ref().filter(|texts| texts.len() > most) {
            let value = format!("[{}]", texts.join(", "));
            let constraint = format!("Member must have length less than or equal to {most}");
            self.fault(field, &value, &constraint);
        }
        Ok(given)
    }

    /// Whatever its values are.
    pub fn entries(&mut self, field: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(entries)) => Ok(Some(entries)),
            Some(other) => Err(mistyped(&other, "a Map")),
        }
    }

    pub fn map(&mut self, field: &str) -> Result<Option<Vec<(String, String)>>, Refusal> {
        self.pairs(field, |shown| {
            let shown: Vec<_> = shown.collect();
            format!("Value '{{{}}}'", shown.join(", "))
        })
    }

    /// The same of what is not to be said again.
    pub fn secrets(&mut self, field: &str) -> Result<Option<Vec<(String, String)>>, Refusal> {
        self.pairs(field, |_| "Value".into())
    }

    fn pairs(
        &mut self,
        field: &str,
        shown: impl Fn(&mut dyn Iterator<Item = String>) -> String,
    ) -> Result<Option<Vec<(String, String)>>, Refusal> {
        let Some(entries) = self.entries(field)? else {
            return Ok(None);
        };
        if entries.values().any(Value::is_null) {
            let mut all = entries.iter().map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            });
            self.faults.push(format!(
                "{} at '{}' failed to satisfy constraint: Map value must satisfy constraint: [Member must not be null]",
                shown(&mut all),
                self.named(field)
            ));
        }
        let text = |(key, value)| match value {
            Value::String(text) => Some(Ok((key, text))),
            Value::Null => None,
            other => Some(Err(mistyped(&other, "a String"))),
        };
        entries
            .into_iter()
            .filter_map(text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A structure in this one. Give it back with `close`, or its faults are lost.
    pub fn open(&mut self, field: &str) -> Result<Option<Fields>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(given)) => {
                let prefix = format!("{}{}.", self.prefix, camel(field));
                Ok(Some(Self::within(prefix, given)))
            }
            Some(other) => Err(mistyped(&other, "a Structure")),
        }
    }

    pub fn close(&mut self, mut inner: Fields) {
        self.faults.append(&mut inner.faults);
    }

    /// One of these, if it is there.
    pub fn one_of(&mut self, field: &str, known: &[&str]) -> Result<Option<String>, Refusal> {
        let text = self.text(field)?;
        if let Some(text) = &text
            && !known.contains(&text.as_str())
        {
            let constraint = format!("Member must satisfy enum value set: [{}]", known.join(", "));
            self.fault(field, text, &constraint);
        }
        Ok(text)
    }

    /// A text of at most this many characters.
    pub fn up_to(&mut self, field: &str, most: usize) -> Result<Option<String>, Refusal> {
        let text = self.text(field)?;
        if let Some(text) = text.as_ref().filter(|text| text.chars().count() > most) {
            let field = self.named(field);
            self.faults.push(names::longest(&field, text, most));
        }
        Ok(text)
    }

    /// A text of at most this many characters and of a form, whose pattern AWS prints.
    pub fn formed(
        &mut self,
        field: &str,
        most: usize,
        pattern: &str,
        is: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, Refusal> {
        let text = self.text(field)?;
        if let Some(text) = &text {
            let field = self.named(field);
            let faults = names::formed(&field, text, most, pattern, is);
            self.faults.extend(faults);
        }
        Ok(text)
    }

    /// What was given is too short.
    pub fn at_least(&mut self, field: &str, text: &str, least: usize) {
        if text.chars().count() < least {
            let constraint = format!("Member must have length greater than or equal to {least}");
            self.fault(field, text, &constraint);
        }
    }

    pub fn fault(&mut self, field: &str, value: &str, constraint: &str) {
        let field = self.named(field);
        self.faults.push(names::fault(&field, value, constraint));
    }

    /// A field that has to be there and is not. One that is there and is wrong was told already.
    pub fn missing(&mut self, field: &str) {
        let field = self.named(field);
        let at = format!("at '{field}' failed");
        if !self.faults.iter().any(|fault| fault.contains(&at)) {
            self.faults.push(format!(
                "Value null {at} to satisfy constraint: Member must not be null"
            ));
        }
    }

    fn named(&self, field: &str) -> String {
        format!("{}{}", self.prefix, camel(field))
    }

    /// Refuses if anything was wrong.
    pub fn finish(&self) -> Result<(), Refusal> {
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Refusal::validation(&self.faults)),
        }
    }
}

/// As AWS's sentences write a field.
fn camel(field: &str) -> String {
    let mut chars = field.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn mistyped(value: &Value, wanted: &str) -> Refusal {
    let found = match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    Refusal::serialization(format!("{found} can not be converted to {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_awss_sentences_all_of_them_together() {
        let body = br#"{"Timeout": 901, "MemorySize": 1, "Mode": "x", "Inner": {"Size": 7}, "Gone": null}"#;
        let mut fields = Fields::of(body).expect("an object");
        assert!(!fields.has("Gone"));
        fields.whole("Timeout", 1, 900).expect("a number");
        fields.whole("MemorySize", 128, 10_240).expect("a number");
        fields.one_of("Mode", &["A", "B"]).expect("a text");
        let mut inner = fields.open("Inner").expect("an object").expect("is there");
        inner.whole("Size", 512, 1024).expect("a number");
        fields.close(inner);
        fields.missing("Role");
        let refusal = fields.finish().expect_err("refused");
        assert_eq!(
            refusal.message,
            "5 validation errors detected: \
             Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900; \
             Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128; \
             Value 'x' at 'mode' failed to satisfy constraint: Member must satisfy enum value set: [A, B]; \
             Value '7' at 'inner.size' failed to satisfy constraint: Member must have value greater than or equal to 512; \
             Value null at 'role' failed to satisfy constraint: Member must not be null"
        );
    }

    #[test]
    fn another_type_is_another_error() {
        for body in [&b"[]"[..], b"{", b"\"x\"", b"{\"a\":1,\"a\":2}"] {
            let refusal = Fields::of(body).map(drop).expect_err("refused");
            assert_eq!(refusal.kind, "SerializationException");
        }
        let mut fields =
            Fields::of(br#"{"a": 1, "b": "x", "c": [1], "d": {"k": 1}}"#).expect("read");
        assert!(fields.text("a").is_err() && fields.whole("b", 0, 1).is_err());
        assert!(fields.list("c").is_err() && fields.map("d").is_err());
    }
}
