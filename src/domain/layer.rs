//! Layers: content that functions share, published as numbered versions and found below `/opt` by the workers of every function that names
//! one. A function keeps all it needs of a version, so that it does not miss one that was deleted. Pure.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::aws::Statement;
use crate::domain::id::LayerName;

/// Which version of which layer; written `name:number`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub name: LayerName,
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.number)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text
            .split_once(':')
            .ok_or("must be a layer and a version of it, name:number")?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| number.parse().ok()).flatten();
        Ok(Self {
            name: LayerName::parse(name)?,
            number: number
                .filter(|number| *number > 0)
                .ok_or("must have a version's number after the ':'")?,
        })
    }
}

/// What is in a layer: a zip, kept by the SHA-256 of its bytes like functions' code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Hex SHA-256 of the zip.
    pub sha256: String,
    /// Bytes of the zip.
    pub size: u64,
    /// Bytes of its files.
    pub unpacked_size: u64,
}

/// A layer as a function has it, whether or not it can be found any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub id: Id,
    pub content: Content,
}

/// A published version. Nothing of it changes any more but its policy, and its number is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub id: Id,
    pub description: String,
    /// What only AWS's clients see; absent is what was not given.
    pub license: Option<String>,
    pub runtimes: Option<Vec<String>>,
    pub architectures: Option<Vec<String>>,
    pub content: Content,
    pub created_at: Timestamp,
    /// Grows by one with every change of the policy.
    pub revision: u64,
    /// Who else may use it, as deploy tools write it; here keys say that.
    pub policy: Vec<Statement>,
}

/// A change of what there is of a layer, as a store writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It is refused unless its number follows the highest there ever was.
    Publish(Version),
    /// Another policy; it is refused unless its revision follows the one that is stored.
    Policy(Version),
    /// What is not there is deleted already.
    Delete(Id),
}

/// The first two of these that are versions of one layer, which no function may have.
pub fn twice(ids: &[Id]) -> Option<(&Id, &Id)> {
    ids.iter().enumerate().find_map(|(at, id)| {
        let earlier = ids[..at].iter().find(|other| other.name == id.name)?;
        Some((earlier, id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id: Id = "numpy-1:12".parse().expect("an id");
        assert_eq!((id.name.as_str(), id.number), ("numpy-1", 12));
        assert_eq!(id.to_string(), "numpy-1:12");
        for bad in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:-1",
            "a:+1",
            "a:x",
            "a:1:2",
            "a b:1",
            "a:99999999999999999999",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!(format!("{}:1", "x".repeat(141)).parse::<Id>().is_err());
    }

    #[test]
    fn a_layer_may_be_there_once() {
        let ids = |texts: &[&str]| -> Vec<Id> {
            let read = texts.iter().map(|text| text.parse().expect("an id"));
            read.collect()
        };
        assert_eq!(twice(&ids(&["a:1", "b:1", "c:1"])), None);
        let all = ids(&["a:1", "b:2", "b:2", "a:3"]);
        assert_eq!(twice(&all), Some((&all[1], &all[2])));
        let all = ids(&["a:1", "b:2", "a:3"]);
        assert_eq!(twice(&all), Some((&all[0], &all[2])));
    }
}
