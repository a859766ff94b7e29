//! A function's environment: encrypted, as it is stored and passed around, and in the clear, as only a worker that is started sees it.
//! Neither shows a value to whoever prints it. `secrets` turns one into the other.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is shown in the place of every value. Sent back, it stands for the value there is.
pub const MASK: &str = "****";

/// Names with their values at rest.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, Value>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Sealed {
        sealed: String,
    },
    /// As versions before this one wrote them. The next write of the function encrypts it.
    Plain(String),
}

/// Names with their values in the clear.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Variables(pub BTreeMap<String, String>);

impl Environment {
    /// As everybody may see it.
    pub fn masked(&self) -> BTreeMap<&str, &'static str> {
        self.0.keys().map(|name| (name.as_str(), MASK)).collect()
    }
}

impl Value {
    /// The encrypted text, if it is.
    pub fn sealed(&self) -> Option<&str> {
        match self {
            Value::Sealed { sealed } => Some(sealed),
            Value::Plain(_) => None,
        }
    }

    /// What tells two values apart without knowing either; for digests.
    pub fn as_stored(&self) -> &str {
        match self {
            Value::Sealed { sealed } => sealed,
            Value::Plain(text) => text,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.masked().fmt(f)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = self.0.keys().map(|name| (name, MASK));
        f.debug_map().entries(masked).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_value() {
        let plain = Value::Plain("hunter2".into());
        let environment = Environment([("NAME".to_owned(), plain.clone())].into());
        let variables = Variables([("NAME".to_owned(), "hunter2".to_owned())].into());
        for shown in [
            format!("{environment:?} {environment:#?}"),
            format!("{variables:?} {variables:#?}"),
            format!("{plain:?}"),
        ] {
            assert!(
                shown.contains(MASK) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
        assert_eq!(environment.masked(), [("NAME", MASK)].into());
    }

    #[test]
    fn old_records_are_read() {
        let old: Environment =
            serde_json::from_str(r#"{"A": "x", "B": {"sealed": "y"}}"#).expect("is read");
        let sealed = Value::Sealed { sealed: "y".into() };
        assert_eq!(old.0["A"], Value::Plain("x".into()));
        assert_eq!(old.0["B"], sealed);
    }
}
