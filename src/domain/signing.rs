//! Code signing configurations: who may sign the code of the functions that have one, and what becomes of code whose signature is not good.
//! A function has one at most, in its settings. No signature can be checked here, so all code counts as not signed. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What every id begins with.
const PREFIX: &str = "csc-";
/// Characters after it.
const LENGTH: usize = 17;

/// Which configuration: `csc-` and 17 letters and digits. Made once, and never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    pub fn generate() -> Self {
        let digits = hex::encode(rand::random::<[u8; LENGTH.div_ceil(2)]>());
        Self(format!("{PREFIX}{}", &digits[..LENGTH]))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = text.strip_prefix(PREFIX)?;
        (rest.len() == LENGTH && rest.chars().all(good)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What becomes of code that is deployed without a good signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// It is taken, and told of.
    #[default]
    Warn,
    /// It is refused.
    Enforce,
}

impl Policy {
    pub const ALL: [Self; 2] = [Policy::Warn, Policy::Enforce];

    /// AWS's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Policy::Warn => "Warn",
            Policy::Enforce => "Enforce",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub id: Id,
    /// Grows by one with every change.
    pub revision: u64,
    /// Absent is what was not given.
    pub description: Option<String>,
    /// ARNs of the signing profiles that are trusted; nobody looks whether there are such.
    pub publishers: Vec<String>,
    pub policy: Policy,
    pub tags: BTreeMap<String, String>,
    pub modified_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = Id::generate();
        assert_ne!(id, Id::generate());
        assert_eq!(Id::parse(id.as_str()), Some(id.clone()));
        assert_eq!(id.to_string().len(), PREFIX.len() + LENGTH);
        assert!(Id::parse("csc-0123456789abcdefg").is_some());
        for bad in [
            "",
            "csc-",
            "csc-0123456789abcdef",
            "csc-0123456789abcdef01",
            "csc-0123456789abcdefG",
            "csc-0123456789abcde-0",
            "CSC-0123456789abcdef0",
            "0123456789abcdefg",
        ] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_policy_is_a_word_of_awss() {
        for policy in Policy::ALL {
            assert_eq!(Policy::parse(policy.as_str()), Some(policy));
        }
        assert_eq!(
            (Policy::default(), Policy::parse("warn")),
            (Policy::Warn, None)
        );
    }
}
