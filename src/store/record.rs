//! Values as every store keeps them: JSON in an envelope that says which shape it is. Pure.

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
pub fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    let unreadable = |source| Fault::Unreadable {
        what: what.into(),
        source,
    };
    let version: Version = serde_json::from_slice(bytes).map_err(unreadable)?;
    if version.v > VALUE_FORMAT {
        return Err(Fault::Newer { what: what.into() });
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(unreadable)?;
    Ok(envelope.value)
}
