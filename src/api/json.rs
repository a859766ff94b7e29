//! JSON as it comes from outside, read strictly: a key that stands twice is refused by name and not settled in silence by whoever reads
//! last, an object is an object and never a list of its members, and how much is made of a body is bounded. Pure; called by
//! `control` for the bodies of the REST face. Payloads of calls are not read at all.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// A value takes many times the memory of its text. No document here has a hundredth of this.
const VALUES_MAX: usize = 100_000;

/// Why a text is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(#[from] serde_json::Error);

/// A value in which no object has a key twice.
pub fn value(text: &[u8]) -> Result<Value, Error> {
    let left = Cell::new(VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { left: &left }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The members of an object, each key once, their values as they stand in the text.
pub fn members(text: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let members = reader.deserialize_map(Members)?;
    reader.end()?;
    Ok(members)
}

/// The values of a list as they stand in the text: at most `most`, and how many there are.
pub fn list(text: &[u8], most: usize) -> Result<(Vec<&RawValue>, usize), Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let list = reader.deserialize_seq(List { most })?;
    reader.end()?;
    Ok(list)
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "more than {VALUES_MAX} values"
            )));
        };
        self.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(twice(&key));
            }
            members.insert(key, object.next_value_seed(self)?);
        }
        Ok(Value::Object(members))
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = object.next_key::<Cow<'de, str>>()? {
            if !seen.insert(key.clone()) {
                return Err(twice(&key));
            }
            if members.len() == VALUES_MAX {
                return Err(A::Error::custom(format_args!(
                    "more than {VALUES_MAX} values"
                )));
            }
            members.push((key, object.next_value()?));
        }
        Ok(members)
    }
}

struct List {
    most: usize,
}

impl<'de> Visitor<'de> for List {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while values.len() < self.most
            && let Some(value) = list.next_element()?
        {
            values.push(value);
        }
        let mut count = values.len();
        // What is over the bound is counted for the message and not kept. After the end there is nothing more to count.
        while count >= self.most && list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((values, count))
    }
}

fn twice<E: serde::de::Error>(key: &str) -> E {
    let shown: String = key.chars().take(64).collect();
    E::custom(format_args!("the key {shown:?} is there twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why<T: fmt::Debug>(read: Result<T, Error>) -> String {
        read.expect_err("refused").to_string()
    }

    #[test]
    fn a_good_value_is_read_as_any_reader_would() {
        for text in [
            r#"{"a": [1, -2, 2.5, "x\u00e9", null, true, {"a": {"a": 1}}], "b": 18446744073709551615}"#,
            "[]",
            " 0 ",
            r#"{"$serde_json::private::RawValue": "1"}"#,
        ] {
            let plain: serde_json::Value = match text.contains("private") {
                // The library's own reader takes this for something of its own.
                true => serde_json::json!({"$serde_json::private::RawValue": "1"}),
                false => serde_json::from_str(text).expect("JSON"),
            };
            assert_eq!(value(text.as_bytes()).expect("read"), plain);
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_named_at_any_depth() {
        for text in [
            r#"{"name": 1, "name": 1}"#,
            r#"{"a": [{"name": 1, "b": 2, "name": 1}]}"#,
            // The same key in another spelling.
            r#"{"name": 1, "n\u0061me": 1}"#,
        ] {
            let why = why(value(text.as_bytes()));
            assert!(why.contains("\"name\" is there twice"), "{why}");
        }
        let why = why(members(br#"{"id": 1, "\u0069d": 1}"#));
        assert!(why.contains("\"id\" is there twice"), "{why}");
        assert!(value(br#"{"a": {"name": 1}, "b": {"name": 1}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            &b""[..],
            b"\xef\xbb\xbf{}",
            b"{} {}",
            b"{\"a\": 1,}",
            b"{'a': 1}",
            b"{a: 1}",
            b"NaN",
            b"1e999",
            b"01",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"\"a\nb\"",
            b"[1",
            b"// x\n1",
        ] {
            assert!(value(text).is_err(), "{text:?}");
        }
        assert!(value("[".repeat(10_000).as_bytes()).is_err());
        let wide = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert!(why(value(wide.as_bytes())).contains("more than"));
    }

    #[test]
    fn an_object_is_no_list_and_a_list_no_object() {
        assert!(why(members(b"[1, 2]")).contains("expected an object"));
        assert!(why(list(b"{}", 1)).contains("expected a list"));
        assert!(members(b"{} x").is_err());
    }

    #[test]
    fn a_list_is_kept_to_its_bound_and_counted() {
        for (text, most, kept, count) in [
            ("[]", 2, 0, 0),
            ("[]", 0, 0, 0),
            ("[1]", 2, 1, 1),
            ("[1, 2]", 2, 2, 2),
            ("[1, 2, [3], 4]", 2, 2, 4),
            ("[1]", 0, 0, 1),
        ] {
            let (values, all) = list(text.as_bytes(), most).expect("a list");
            assert_eq!((values.len(), all), (kept, count), "{text}");
        }
    }
}
