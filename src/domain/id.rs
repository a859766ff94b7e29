//! Identifiers and names. Each is a type of its own, so that one can never stand where another is meant; ids are never
//! reused. Parsing is the only way in from outside, and says what was wrong.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest function name; the limit AWS documents for `FunctionName`.
pub const NAME_MAX: usize = 64;
/// The same for an alias.
pub const ALIAS_MAX: usize = 128;
/// And for a layer.
pub const LAYER_NAME_MAX: usize = 140;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// So that a map can be asked with what came in a request.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
    };
}

text_id! {
    /// A function's id: made once at creation, never reused, survives renames and updates.
    FunctionId
}
text_id! {
    /// A function's name, unique among functions.
    FunctionName
}
text_id! {
    /// An alias's name, unique within its function.
    AliasName
}
text_id! {
    /// A layer's name, unique among layers.
    LayerName
}
text_id! {
    /// A runtime's id, which is the name of its folder under `runtimes/`.
    RuntimeId
}
text_id! {
    /// What a worker was specialised to: the digest of the function's id, code and every setting a worker bakes in.
    /// Two workers with the same digest are interchangeable; a deploy that changes anything makes another digest.
    VersionDigest
}
text_id! {
    /// A worker's id, which is also the name of its directory and of its container.
    WorkerId
}

impl FunctionId {
    /// Time-ordered, so that listings come in the order of creation.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// Whether a text may be an id: a name seldom is.
    pub fn is_like(text: &str) -> bool {
        text.len() == 36 && text.as_bytes()[8] == b'-'
    }

    /// An id read back from the store or given in a path; any text can be asked for, only a stored one is found.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }
}

impl FunctionName {
    /// Letters, digits, `-` and `_`, 1 to 64 of them: what AWS accepts as a function's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        of_name_characters(text, "", "'-' and '_'")?;
        Ok(Self(text.into()))
    }
}

impl AliasName {
    /// Letters, digits, `-` and `_`, 1 to 128 of them and not digits alone, which are a version's number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > ALIAS_MAX {
            return Err(format!(
                "must have 1 to {ALIAS_MAX} characters, has {}",
                text.chars().count()
            ));
        }
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "may hold letters, digits, '-' and '_' only, has {bad:?}"
            ));
        }
        match text.bytes().all(|b| b.is_ascii_digit()) {
            true => Err("may not be a number: those are versions'".into()),
            false => Ok(Self(text.into())),
        }
    }
}

impl LayerName {
    /// Letters, digits, `-` and `_`, 1 to 140 of them, as on AWS.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > LAYER_NAME_MAX {
            return Err(format!(
                "must have 1 to {LAYER_NAME_MAX} characters, has {}",
                text.chars().count()
            ));
        }
        match text.chars().find(|c| !allowed(*c)) {
            Some(bad) => Err(format!(
                "may hold letters, digits, '-' and '_' only, has {bad:?}"
            )),
            None => Ok(Self(text.into())),
        }
    }
}

/// What names and patterns of them have in common: the length, and letters, digits, `-`, `_` and the `others`. `said` names the ones that
/// are neither letter nor digit.
pub(super) fn of_name_characters(text: &str, others: &str, said: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > NAME_MAX {
        return Err(format!(
            "must have 1 to {NAME_MAX} characters, has {}",
            text.chars().count()
        ));
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || others.contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(bad) => Err(format!(
            "may hold letters, digits, {said} only, has {bad:?}"
        )),
        None => Ok(()),
    }
}

impl RuntimeId {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl VersionDigest {
    pub fn new(hex: &str) -> Self {
        Self(hex.into())
    }

    /// Enough of the digest to tell versions apart in logs and headers.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl WorkerId {
    pub fn generate() -> Self {
        Self(Uuid::now_v7().simple().to_string().into())
    }

    /// The id of a worker found again, by its container's label or its directory's name.
    pub fn from_found(text: &str) -> Self {
        Self(text.into())
    }
}

/// One invocation's id: the same in the answer's header, the handler's context, every log line and every error.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// An id as it is in answers; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self))?
    }

    /// The 36 characters of the hyphenated form, without allocating.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; 36]) -> &'a str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.0.hyphenated())
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.hyphenated())
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_wrong_with_it() {
        assert!(FunctionName::parse("hello-World_2").is_ok());
        assert!(FunctionName::parse("").is_err());
        assert!(FunctionName::parse(&"x".repeat(65)).is_err());
        assert!(
            FunctionName::parse("a/b")
                .expect_err("slash")
                .contains("'/'")
        );
    }

    #[test]
    fn ids_grow_with_time_and_differ() {
        let (a, b) = (FunctionId::generate(), FunctionId::generate());
        assert_ne!(a, b);
        assert_ne!(RequestId::generate(), RequestId::generate());
    }
}
