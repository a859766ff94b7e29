//! Values as every store keeps them: JSON in an envelope that says which shape it is. Pure.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The shape of the values. It grows when an old reader would misread a value, not for a new field with a default.
const VALUE_FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{what} is not readable in the store")]
    Unreadable {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{what} was written by a newer version")]
    Newer { what: String },
}

/// A value as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    value: T,
}

/// Only the version, to tell a newer value from a broken one.
#[derive(Debug, Deserialize)]
struct Version {
    v: u32,
}

pub fn encode<T: Serialize>(value: T) -> Vec<u8> {
    let v = VALUE_FORMAT;
    serde_json::to_vec(&Envelope { v, value }).expect("stored types have text keys only")
}

/// `what` names the value in an error.
pub fn decode<T: DeserializeOwned>(what: impl Display, bytes: &[u8]) -> Result<T, Fault> {
    let read = serde_json::from_slice::<Envelope<T>>(bytes);
    let version = match &read {
        Ok(envelope) => Some(envelope.v),
        // Looked at again only then: at the start there are very many.
        Err(_) => serde_json::from_slice(bytes).ok().map(|Version { v }| v),
    };
    if version > Some(VALUE_FORMAT) {
        return Err(Fault::Newer {
            what: what.to_string(),
        });
    }
    match read {
        Ok(envelope) => Ok(envelope.value),
        Err(source) => Err(Fault::Unreadable {
            what: what.to_string(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_version_wrote_is_told_from_what_is_broken() {
        let decode = |bytes: &[u8]| decode::<u32>("a number", bytes);
        assert_eq!(decode(&encode(5)).ok(), Some(5));
        for newer in [
            r#"{"v":2,"value":5}"#,
            r#"{"v":2,"value":{"of":5}}"#,
            r#"{"v":2}"#,
        ] {
            let read = decode(newer.as_bytes());
            assert!(
                matches!(&read, Err(Fault::Newer { what }) if what == "a number"),
                "{newer}: {read:?}"
            );
        }
        for broken in [
            r#"{"v":1,"value":"x"}"#,
            r#"{"v":1}"#,
            r#"{"value":5}"#,
            r#"{"v":2,"#,
            "5",
            "",
        ] {
            let read = decode(broken.as_bytes());
            assert!(
                matches!(&read, Err(Fault::Unreadable { what, .. }) if what == "a number"),
                "{broken}: {read:?}"
            );
        }
    }
}
