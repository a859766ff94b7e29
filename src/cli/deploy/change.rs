//! What a deploy changed, told from the function before and after. Pure.

use serde_json::{Map, Value};

use crate::cli::output::size;

/// Fields that change with every write and say nothing to a person, or that repeat another.
const SILENT: [&str; 6] = [
    "revision",
    "updated_at",
    "version",
    "id",
    "created_at",
    "url",
];

/// One line per difference. `given` are the variables that were given a value, which the server does not show: they count as changed if
/// the function's version is another.
pub(super) fn changes(before: &Value, after: &Value, given: &[&str]) -> Vec<String> {
    let empty = Map::new();
    let before = before.as_object().unwrap_or(&empty);
    let after = after.as_object().unwrap_or(&empty);
    let mut lines = Vec::new();
    for (field, new) in after {
        let old = before.get(field).unwrap_or(&Value::Null);
        let old = &match field.as_str() {
            "environment" if before.get("version") != after.get("version") => {
                without_values(old, given)
            }
            _ => old.clone(),
        };
        if old == new || SILENT.contains(&field.as_str()) {
            continue;
        }
        match (field.as_str(), old, new) {
            // The same bytes, come in another way.
            ("code", old, new) if old["sha256"] == new["sha256"] => {}
            ("code", old, new) => lines.push(format!("code: {} → {}", code(old), code(new))),
            // Values may be secrets; names are enough to see what happened.
            (field, Value::Object(old), Value::Object(new)) => {
                lines.push(format!("{field}: {}", entries(old, new)));
            }
            (field, old, new) => lines.push(format!("{field}: {} → {}", shown(old), shown(new))),
        }
    }
    lines
}

/// The map with these entries' values unlike any other.
fn without_values(map: &Value, names: &[&str]) -> Value {
    let mut map = map.clone();
    for name in names {
        if let Some(value) = map.get_mut(*name) {
            *value = Value::Null;
        }
    }
    map
}

fn code(code: &Value) -> String {
    if let Some(image) = code["image"].as_object() {
        let text = |field: &str| image.get(field).and_then(Value::as_str).unwrap_or_default();
        let id = text("id").trim_start_matches("sha256:");
        return format!("{} ({})", text("uri"), id.get(..12).unwrap_or(id));
    }
    let bytes = code["size"].as_u64().unwrap_or_default();
    let hash: String = code["sha256"]
        .as_str()
        .unwrap_or_default()
        .chars()
        .take(12)
        .collect();
    format!("{} ({hash})", size(bytes))
}

fn entries(old: &Map<String, Value>, new: &Map<String, Value>) -> String {
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| format!("-{key}"));
    let come = new.iter().filter_map(|(key, value)| match old.get(key) {
        None => Some(format!("+{key}")),
        Some(old) if old != value => Some(format!("~{key}")),
        Some(_) => None,
    });
    come.chain(gone).collect::<Vec<_>>().join(" ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_by_field_and_secrets_by_name() {
        let before = json!({
            "revision": 1, "memory": 128, "route": null, "timeout": 3,
            "environment": {"KEEP": "1", "OLD": "secret", "EDIT": "secret"},
            "code": {"sha256": "aaaaaaaaaaaaaaaa", "size": 10},
        });
        let after = json!({
            "revision": 2, "memory": 256, "route": "/x", "timeout": 3,
            "environment": {"KEEP": "1", "NEW": "secret", "EDIT": "other"},
            "code": {"sha256": "bbbbbbbbbbbbbbbb", "size": 2048},
        });
        let want = [
            "code: 10 B (aaaaaaaaaaaa) → 2.0 KiB (bbbbbbbbbbbb)",
            "environment: ~EDIT +NEW -OLD",
            "memory: 128 → 256",
            "route: none → /x",
        ];
        assert_eq!(changes(&before, &after, &[]), want);
        assert!(changes(&before, &before, &["EDIT"]).is_empty());
    }

    #[test]
    fn a_value_that_is_not_shown_has_changed_with_the_version() {
        let function =
            |version: &str| json!({"version": version, "environment": {"A": "****", "B": "****"}});
        let (before, after) = (function("1"), function("2"));
        assert_eq!(changes(&before, &after, &["B"]), ["environment: ~B"]);
        assert!(changes(&before, &after, &[]).is_empty());
        assert!(changes(&before, &before, &["B"]).is_empty());
    }
}
