//! The configuration as written: the keys `config/default.toml` knows, the value each has now and where that came from. `load`
//! lays the sources on top of each other in here, `check` gives the result its meaning. It knows the type of a key (that of its
//! default) and nothing about what a good value is.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// The file with every key. It is compiled in, so what it documents and what the program does cannot differ.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// A line of the configuration file; `None` is the file as a whole.
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    /// The name of an environment variable.
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File { path, line } => {
                // Escaped, because the text also ends up in a comment, which a line break in the path would end.
                write!(f, "{}", path.to_string_lossy().escape_debug())?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))
            }
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key it is about; `None` when it is about the whole source.
    pub key: Option<String>,
    pub origin: Origin,
    /// What was found and what is expected.
    pub what: String,
}

impl Fault {
    pub fn of(key: &str, origin: &Origin, what: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            origin: origin.clone(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key} ({}): {}", self.origin, self.what),
            None => write!(f, "{}: {}", self.origin, self.what),
        }
    }
}

/// Everything that is wrong, so that one start tells all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has faults:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// A key with its default and the value that won so far.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `section.key`
    pub key: String,
    pub default: Value,
    pub value: Value,
    pub origin: Origin,
}

impl Entry {
    /// The variable that sets this key: `HEARTH_SERVER_LISTEN` for `server.listen`.
    pub fn variable(&self) -> String {
        format!("HEARTH_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// Every key there is, in the order of `default.toml`.
#[derive(Debug, Clone)]
pub struct Values(Vec<Entry>);

impl Values {
    pub fn defaults() -> Self {
        let leaves = leaves(DEFAULTS).expect("default.toml is tested to parse");
        Self(
            leaves
                .into_iter()
                .map(|leaf| Entry {
                    key: leaf.key,
                    default: leaf.value.clone(),
                    value: leaf.value,
                    origin: Origin::Default,
                })
                .collect(),
        )
    }

    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub fn get(&self, key: &str) -> &Entry {
        self.0
            .iter()
            .find(|entry| entry.key == key)
            .unwrap_or_else(|| unreachable!("{key} is not in default.toml"))
    }

    /// Lays a typed value over what is there.
    pub fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), Fault> {
        let entry = self.find(key, &origin)?;
        let found = value.type_str();
        entry.value = typed_as(&entry.default, value).ok_or_else(|| {
            let expected = kind(&entry.default);
            Fault::of(key, &origin, format!("expected {expected}, found {found}"))
        })?;
        entry.origin = origin;
        Ok(())
    }

    /// Lays a value given as plain text, as variables and flags are, over what is there.
    pub fn set_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), Fault> {
        let entry = self.find(key, &origin)?;
        entry.value = from_text(&entry.default, text).ok_or_else(|| {
            let expected = kind(&entry.default);
            Fault::of(key, &origin, format!("expected {expected}, found {text:?}"))
        })?;
        entry.origin = origin;
        Ok(())
    }

    fn find(&mut self, key: &str, origin: &Origin) -> Result<&mut Entry, Fault> {
        match self.0.iter().position(|entry| entry.key == key) {
            Some(at) => Ok(&mut self.0[at]),
            None => Err(Fault::of(key, origin, self.unknown(key))),
        }
    }

    fn unknown(&self, key: &str) -> String {
        let section = format!("{key}.");
        if self.0.iter().any(|entry| entry.key.starts_with(&section)) {
            return "is a section, expected a key in it".into();
        }
        let nearest = nearest(key, self.0.iter().map(|entry| entry.key.clone()));
        format!("no such key{}", did_you_mean(nearest))
    }
}

pub fn did_you_mean(nearest: Option<String>) -> String {
    nearest.map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// The known name that is closest to what was written, if one is close enough to have been meant.
pub fn nearest(written: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let far = written.chars().count() / 3 + 1;
    known
        .map(|name| (distance(written, &name), name))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A value somewhere in a TOML text.
#[derive(Debug)]
pub struct Leaf {
    pub key: String,
    pub line: usize,
    pub value: Value,
}

/// A place in a TOML text that is not TOML.
#[derive(Debug)]
pub struct SyntaxFault {
    pub line: Option<usize>,
    pub what: String,
}

/// Every value of a TOML text in the order it is written.
pub fn leaves(text: &str) -> Result<Vec<Leaf>, Vec<SyntaxFault>> {
    let (root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        let fault = |e: toml::de::Error| SyntaxFault {
            line: e.span().map(|span| line_of(text, span.start)),
            what: format!("not TOML: {}", e.message()),
        };
        let mut faults: Vec<_> = faults.into_iter().map(fault).collect();
        faults.sort_by_key(|fault| fault.line);
        return Err(faults);
    }
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    flatten(text, "", root.into_inner(), &mut found, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    found.sort_by_key(|leaf| leaf.0);
    Ok(found.into_iter().map(|(_, leaf)| leaf).collect())
}

fn flatten(
    text: &str,
    prefix: &str,
    table: DeTable<'_>,
    found: &mut Vec<(usize, Leaf)>,
    faults: &mut Vec<SyntaxFault>,
) {
    for (name, value) in table {
        let at = name.span().start;
        // A dot inside a quoted name is not a section's dot: keep the quotes, so that it is a different name.
        let name = match name.into_inner() {
            plain if !plain.contains('.') => plain,
            dotted => format!("{dotted:?}").into(),
        };
        let key = match prefix {
            "" => name.into_owned(),
            section => format!("{section}.{name}"),
        };
        let span = value.span();
        match value.into_inner() {
            // An empty section is a leaf: it has no value, but its name may be wrong.
            DeValue::Table(inner) if !inner.is_empty() || prefix.is_empty() && known(&key) => {
                flatten(text, &key, inner, found, faults);
            }
            value => {
                let line = line_of(text, at);
                let read = ValueDeserializer::from(Spanned::new(span, value));
                match Value::deserialize(read) {
                    Ok(value) => found.push((at, Leaf { key, line, value })),
                    Err(e) => faults.push(SyntaxFault {
                        line: Some(line),
                        what: format!("{key}: {}", e.message()),
                    }),
                }
            }
        }
    }
}

/// Whether the defaults have this section.
fn known(section: &str) -> bool {
    let header = format!("[{section}]");
    DEFAULTS.lines().any(|line| line.trim() == header)
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// The value as the type its key has, or `None` if it is of another. A whole number will do for a fraction.
fn typed_as(default: &Value, value: Value) -> Option<Value> {
    match (default, value) {
        (Value::Float(_), Value::Integer(whole)) => Some(Value::Float(whole as f64)),
        (Value::Array(_), Value::Array(list)) => {
            list.iter().all(Value::is_str).then_some(Value::Array(list))
        }
        (default, value) => default.same_type(&value).then_some(value),
    }
}

fn from_text(default: &Value, text: &str) -> Option<Value> {
    match default {
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Float(_) => text.trim().parse().ok().map(Value::Float),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        Value::Array(_) if text.trim_start().starts_with('[') => {
            let parsed = text.trim().parse().ok()?;
            typed_as(default, parsed)
        }
        Value::Array(_) => {
            let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
            Some(Value::Array(parts.map(Value::from).collect()))
        }
        _ => Some(Value::String(text.into())),
    }
}

fn kind(default: &Value) -> &'static str {
    match default {
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of strings",
        _ => "a string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} → {b}");
        }
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let values = Values::defaults();
        let names: std::collections::HashSet<_> =
            values.entries().iter().map(Entry::variable).collect();
        assert_eq!(names.len(), values.entries().len());
    }

    #[test]
    fn lists_come_as_commas_or_as_toml() {
        let default = Value::Array(vec![]);
        let list = |items: &[&str]| Some(Value::from(items.to_vec()));
        assert_eq!(from_text(&default, "/a, /b"), list(&["/a", "/b"]));
        assert_eq!(
            from_text(&default, r#"["/a,b", "/c"]"#),
            list(&["/a,b", "/c"])
        );
        assert_eq!(from_text(&default, ""), list(&[]));
        assert_eq!(from_text(&default, "[1]"), None);
        assert_eq!(from_text(&default, "[\"a\""), None);
    }

    #[test]
    fn a_quoted_dot_is_no_section() {
        let found = leaves("\"server.listen\" = 1\n").expect("is TOML");
        assert_eq!(found[0].key, "\"server.listen\"");
    }
}
