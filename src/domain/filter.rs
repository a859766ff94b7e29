//! Which messages a function is called with: patterns in the language of event filters, as AWS has it. A pattern is an object like what it is
//! for, whose lists say what a value may be. Pure, and no work for an attacker to make more of: each rule looks through a message's text once, and a
//! pattern's size is bounded.
//!
//! ```text
//! {"body": {"kind": ["order", {"prefix": "re-"}], "total": [{"numeric": [">", 0, "<=", 100]}]}}
//! ```

use std::borrow::Cow;

use serde_json::{Map, Value};

/// How deep a pattern may be.
const DEPTH_MAX: usize = 32;

/// A pattern that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// All of these.
    Fields(Vec<(String, Node)>),
    /// One of these.
    Any(Vec<Node>),
    /// One of these says yes to the value.
    Values(Vec<Rule>),
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Is(Value),
    Prefix(Text),
    Suffix(Text),
    IsIgnoringCase(String),
    /// What is between the stars.
    Wildcard(Vec<String>),
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
    /// A value that none of these says yes to.
    AnythingBut(Vec<Rule>),
}

#[derive(Debug, Clone, PartialEq)]
struct Text {
    text: String,
    ignoring_case: bool,
}

#[derive(Debug, Clone, Copy)]
enum End {
    First,
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// `None` if the text is no pattern.
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Object(pattern)) = serde_json::from_str(text) else {
            return None;
        };
        fields(pattern, DEPTH_MAX).map(Self)
    }

    pub fn matches(&self, value: &Value) -> bool {
        self.0.matches(Some(value))
    }

    /// Whether it looks into this field as into an object, and not as a text.
    pub fn looks_into(&self, field: &str) -> bool {
        self.0.looks_into(field)
    }
}

fn fields(pattern: Map<String, Value>, depth: usize) -> Option<Node> {
    let depth = depth.checked_sub(1)?;
    if pattern.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    for (name, inner) in pattern {
        let node = match inner {
            Value::Array(ways) if name == "$or" => {
                // One way is no choice.
                (ways.len() > 1).then_some(())?;
                let ways = ways.into_iter().map(|way| match way {
                    Value::Object(way) => fields(way, depth),
                    _ => None,
                });
                all.push((String::new(), Node::Any(ways.collect::<Option<_>>()?)));
                continue;
            }
            Value::Array(rules) => {
                (!rules.is_empty()).then_some(())?;
                let rules = rules.into_iter().map(rule);
                Node::Values(rules.collect::<Option<_>>()?)
            }
            Value::Object(inner) => fields(inner, depth)?,
            _ => return None,
        };
        all.push((name, node));
    }
    Some(Node::Fields(all))
}

fn rule(value: Value) -> Option<Rule> {
    let given = match value {
        Value::Object(given) => given,
        Value::Array(_) => return None,
        plain => return Some(Rule::Is(plain)),
    };
    let (name, value) = only(given)?;
    Some(match (name.as_str(), value) {
        ("prefix", value) => Rule::Prefix(affix(value)?),
        ("suffix", value) => Rule::Suffix(affix(value)?),
        ("equals-ignore-case", Value::String(text)) => Rule::IsIgnoringCase(text.to_lowercase()),
        ("wildcard", Value::String(text)) => wildcard(&text)?,
        ("exists", Value::Bool(exists)) => Rule::Exists(exists),
        ("numeric", Value::Array(list)) => numeric(&list)?,
        ("anything-but", value) => Rule::AnythingBut(but(value)?),
        _ => return None,
    })
}

fn only(given: Map<String, Value>) -> Option<(String, Value)> {
    let mut given = given.into_iter();
    let first = given.next()?;
    given.next().is_none().then_some(first)
}

fn affix(value: Value) -> Option<Text> {
    match value {
        Value::String(text) => Some(Text {
            text,
            ignoring_case: false,
        }),
        Value::Object(inner) => match only(inner)? {
            (name, Value::String(text)) if name == "equals-ignore-case" => Some(Text {
                text: text.to_lowercase(),
                ignoring_case: true,
            }),
            _ => None,
        },
        _ => None,
    }
}

/// A `*` stands for any characters, `\*` and `\\` for themselves.
fn wildcard(text: &str) -> Option<Rule> {
    let (mut pieces, mut piece, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            // Two stars in a row.
            '*' if piece.is_empty() && !pieces.is_empty() => return None,
            '*' => pieces.push(std::mem::take(&mut piece)),
            '\\' => piece.push(chars.next().filter(|c| matches!(c, '*' | '\\'))?),
            c => piece.push(c),
        }
    }
    pieces.push(piece);
    Some(Rule::Wildcard(pieces))
}

fn numeric(list: &[Value]) -> Option<Rule> {
    let pairs = list.chunks(2).map(|pair| {
        let [Value::String(sign), Value::Number(number)] = pair else {
            return None;
        };
        let comparison = match sign.as_str() {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        Some((comparison, number.as_f64()?))
    });
    let pairs: Vec<_> = pairs.collect::<Option<_>>()?;
    let upper = |c: Comparison| matches!(c, Comparison::Less | Comparison::LessOrEqual);
    let lower = |c: Comparison| matches!(c, Comparison::Greater | Comparison::GreaterOrEqual);
    let fits = match pairs[..] {
        [_] => true,
        [(first, least), (second, most)] => lower(first) && upper(second) && least < most,
        _ => false,
    };
    fits.then_some(Rule::Numeric(pairs))
}

/// A value, a list of values, or one of the other rules about texts, of one or several.
fn but(value: Value) -> Option<Vec<Rule>> {
    let plain = |value: Value| match value {
        Value::String(_) | Value::Number(_) => Some(Rule::Is(value)),
        _ => None,
    };
    match value {
        Value::Array(list) if list.is_empty() => None,
        Value::Array(list) => list.into_iter().map(plain).collect(),
        Value::Object(inner) => {
            let (name, inner) = only(inner)?;
            let texts = match inner {
                Value::Array(list) if list.is_empty() => return None,
                Value::Array(list) => list,
                one => vec![one],
            };
            let known = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
            known.contains(&name.as_str()).then_some(())?;
            let rules = texts.into_iter().map(|text| {
                let text = text.is_string().then_some(text)?;
                rule(Value::Object(Map::from_iter([(name.clone(), text)])))
            });
            rules.collect()
        }
        one => plain(one).map(|one| vec![one]),
    }
}

impl Node {
    /// `None`: there is no value.
    fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Node::Any(ways) => ways.iter().any(|way| way.matches(value)),
            Node::Fields(fields) => match value {
                // One of a list is enough.
                Some(Value::Array(items)) => items.iter().any(|item| self.matches(Some(item))),
                value => fields.iter().all(|(name, node)| match node {
                    Node::Any(_) => node.matches(value),
                    node => node.matches(value.and_then(|value| value.get(name))),
                }),
            },
            Node::Values(rules) => rules.iter().any(|rule| rule.matches(value)),
        }
    }

    fn looks_into(&self, field: &str) -> bool {
        match self {
            Node::Any(ways) => ways.iter().any(|way| way.looks_into(field)),
            Node::Fields(fields) => fields.iter().any(|(name, node)| match node {
                Node::Any(_) => node.looks_into(field),
                Node::Fields(_) => name == field,
                Node::Values(_) => false,
            }),
            Node::Values(_) => false,
        }
    }
}

impl Rule {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            // Only what has a value exists: an object that has fields is asked for by one of them.
            (Rule::Exists(exists), value) => value.is_some_and(|v| !v.is_object()) == *exists,
            (_, None) => false,
            (_, Some(Value::Array(items))) => items.iter().any(|item| self.is(item)),
            (_, Some(value)) => self.is(value),
        }
    }

    fn is(&self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            // Whole numbers as such: as fractions large ones are the same as their neighbours.
            Rule::Is(wanted) => match (wanted.as_f64(), value.as_f64()) {
                (Some(one), Some(other)) if wanted.is_f64() || value.is_f64() => one == other,
                _ => wanted == value,
            },
            Rule::Prefix(prefix) => text.is_some_and(|text| prefix.is_at(End::First, text)),
            Rule::Suffix(suffix) => text.is_some_and(|text| suffix.is_at(End::Last, text)),
            Rule::IsIgnoringCase(wanted) => text.is_some_and(|text| text.to_lowercase() == *wanted),
            Rule::Wildcard(pattern) => text.is_some_and(|text| is_like(pattern, text)),
            Rule::Numeric(pairs) => value.as_f64().is_some_and(|value| {
                pairs.iter().all(|(comparison, bound)| match comparison {
                    Comparison::Equal => value == *bound,
                    Comparison::Less => value < *bound,
                    Comparison::LessOrEqual => value <= *bound,
                    Comparison::Greater => value > *bound,
                    Comparison::GreaterOrEqual => value >= *bound,
                })
            }),
            Rule::AnythingBut(rules) => {
                !value.is_object() && !rules.iter().any(|rule| rule.is(value))
            }
            Rule::Exists(_) => unreachable!("it is asked without a value, too"),
        }
    }
}

impl Text {
    fn is_at(&self, end: End, text: &str) -> bool {
        let text = match self.ignoring_case {
            true => Cow::Owned(text.to_lowercase()),
            false => Cow::Borrowed(text),
        };
        match end {
            End::First => text.starts_with(&self.text),
            End::Last => text.ends_with(&self.text),
        }
    }
}

/// Whether this is the whole text. Each piece is looked for where it can be first: if that leaves no place for the others, no other place does.
fn is_like(pieces: &[String], text: &str) -> bool {
    let Some((first, others)) = pieces.split_first() else {
        return false;
    };
    let Some((last, between)) = others.split_last() else {
        return text == first;
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    for piece in between {
        match rest.split_once(piece.as_str()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(pattern: &Value, value: &Value) -> bool {
        let filter = Filter::parse(&pattern.to_string());
        filter.expect("is a pattern").matches(value)
    }

    #[test]
    fn a_rule_says_what_a_value_may_be() {
        for (rule, yes, no) in [
            (
                json!("a"),
                vec![json!("a"), json!(["b", "a"])],
                vec![json!("A"), json!(null), json!(["b"]), json!({"a": 1})],
            ),
            (
                json!(1),
                vec![json!(1), json!(1.0)],
                vec![json!("1"), json!(true)],
            ),
            (json!(null), vec![json!(null)], vec![json!(""), json!(0)]),
            (json!(true), vec![json!(true)], vec![json!("true")]),
            (json!(""), vec![json!("")], vec![json!(null)]),
            (
                json!({"prefix": "ab"}),
                vec![json!("ab"), json!("abc")],
                vec![json!("Abc"), json!("xab"), json!(7)],
            ),
            (
                json!({"prefix": {"equals-ignore-case": "Ab"}}),
                vec![json!("aBc")],
                vec![json!("b")],
            ),
            (
                json!({"suffix": ".png"}),
                vec![json!("a.png")],
                vec![json!("a.PNG"), json!("png")],
            ),
            (
                json!({"suffix": {"equals-ignore-case": ".png"}}),
                vec![json!("a.PNG")],
                vec![json!("a.pn")],
            ),
            (
                json!({"equals-ignore-case": "Ada"}),
                vec![json!("aDA")],
                vec![json!("ad")],
            ),
            (
                json!({"numeric": ["=", 3]}),
                vec![json!(3), json!(3.0)],
                vec![json!("3"), json!(4)],
            ),
            (
                json!({"numeric": [">", 0, "<=", 5]}),
                vec![json!(5), json!(0.5)],
                vec![json!(0), json!(5.1)],
            ),
            (
                json!({"numeric": ["<", -1]}),
                vec![json!(-2)],
                vec![json!(-1)],
            ),
            (
                json!({"anything-but": "a"}),
                vec![json!("b"), json!(1), json!(null)],
                vec![json!("a")],
            ),
            (
                json!({"anything-but": ["a", 1]}),
                vec![json!("b"), json!(2)],
                vec![json!("a"), json!(1)],
            ),
            (
                json!({"anything-but": {"prefix": "a"}}),
                vec![json!("b")],
                vec![json!("ab")],
            ),
            (
                json!({"anything-but": {"suffix": ["a", "b"]}}),
                vec![json!("c")],
                vec![json!("xa"), json!("xb")],
            ),
            (
                json!({"exists": true}),
                vec![json!(null), json!(""), json!([])],
                vec![json!({"inner": 1})],
            ),
            (
                json!({"wildcard": "a*c"}),
                vec![json!("ac"), json!("abbc")],
                vec![json!("ab"), json!("xac")],
            ),
            (
                json!({"wildcard": "*b*bc*"}),
                vec![json!("bbc"), json!("abbcbc"), json!("xbxbcx")],
                vec![json!("bc"), json!("cbb")],
            ),
            (
                json!({"wildcard": "ab*ba"}),
                vec![json!("abba")],
                vec![json!("aba")],
            ),
            (
                json!(9_007_199_254_740_993_u64),
                vec![json!(9_007_199_254_740_993_u64)],
                vec![json!(9_007_199_254_740_992_u64)],
            ),
            (
                json!({"wildcard": "a\\*c"}),
                vec![json!("a*c")],
                vec![json!("abc")],
            ),
        ] {
            let pattern = json!({"body": {"x": [rule]}});
            for value in yes {
                assert!(
                    says(&pattern, &json!({"body": {"x": value}})),
                    "{rule} of {value}"
                );
            }
            for value in no {
                assert!(
                    !says(&pattern, &json!({"body": {"x": value}})),
                    "{rule} of {value}"
                );
            }
            assert!(!says(&pattern, &json!({"body": {}})), "{rule} of nothing");
        }
        let absent = json!({"body": {"x": [{"exists": false}]}});
        assert!(says(&absent, &json!({"body": {"y": 1}})) && says(&absent, &json!({})));
        assert!(!says(&absent, &json!({"body": {"x": null}})));
    }

    #[test]
    fn lists_are_choices_and_fields_are_not() {
        let pattern = json!({"body": {"a": ["1", "2"], "b": {"c": [{"prefix": "x"}, null]}}, "region": ["here"]});
        let good = json!({"body": {"a": "2", "b": {"c": null}, "more": 1}, "region": "here"});
        assert!(says(&pattern, &good));
        for bad in [
            json!({"body": {"a": "3", "b": {"c": "x"}}, "region": "here"}),
            json!({"body": {"a": "1", "b": {"c": "y"}}, "region": "here"}),
            json!({"body": {"a": "1", "b": {"c": "x"}}, "region": "there"}),
            json!({"body": "text", "region": "here"}),
        ] {
            assert!(!says(&pattern, &bad), "{bad}");
        }
        let either =
            json!({"body": {"$or": [{"a": [1]}, {"b": [{"numeric": [">", 9]}]}], "c": ["d"]}});
        assert!(says(&either, &json!({"body": {"b": 10, "c": "d"}})));
        assert!(!says(&either, &json!({"body": {"b": 9, "c": "d"}})));
        assert!(!says(&either, &json!({"body": {"a": 1}})));
        let inner = json!({"body": {"items": {"id": [7]}}});
        assert!(says(
            &inner,
            &json!({"body": {"items": [{"id": 1}, {"id": 7}]}})
        ));
    }

    #[test]
    fn it_is_known_what_it_looks_into() {
        let looks = |pattern: Value| {
            let filter = Filter::parse(&pattern.to_string()).expect("a pattern");
            filter.looks_into("body")
        };
        assert!(looks(json!({"body": {"a": [1]}})));
        assert!(looks(json!({"$or": [{"x": [1]}, {"body": {"a": [1]}}]})));
        assert!(!looks(json!({"body": ["text"]})));
        assert!(!looks(json!({"other": {"body": {"a": [1]}}})));
    }

    #[test]
    fn what_is_no_pattern_is_none() {
        let deep = format!("{}[1]{}", "{\"a\":".repeat(40), "}".repeat(40));
        for bad in [
            "",
            "null",
            "[]",
            "\"x\"",
            "{}",
            "{",
            deep.as_str(),
            r#"{"a": 1}"#,
            r#"{"a": "b"}"#,
            r#"{"a": []}"#,
            r#"{"a": {}}"#,
            r#"{"a": [[1]]}"#,
            r#"{"a": null}"#,
            r#"{"a": [{"nonesuch": 1}]}"#,
            r#"{"a": [{}]}"#,
            r#"{"a": [{"prefix": "x", "suffix": "y"}]}"#,
            r#"{"a": [{"prefix": 1}]}"#,
            r#"{"a": [{"exists": "yes"}]}"#,
            r#"{"a": [{"numeric": []}]}"#,
            r#"{"a": [{"numeric": [">"]}]}"#,
            r#"{"a": [{"numeric": ["!", 1]}]}"#,
            r#"{"a": [{"numeric": [">", "1"]}]}"#,
            r#"{"a": [{"numeric": ["<", 1, ">", 2]}]}"#,
            r#"{"a": [{"numeric": [">", 2, "<", 1]}]}"#,
            r#"{"a": [{"anything-but": []}]}"#,
            r#"{"a": [{"anything-but": {"numeric": ["=", 1]}}]}"#,
            r#"{"a": [{"anything-but": null}]}"#,
            r#"{"a": [{"wildcard": "a**b"}]}"#,
            r#"{"a": [{"wildcard": "a\\b"}]}"#,
            r#"{"$or": [{"a": [1]}]}"#,
            r#"{"$or": [1, 2]}"#,
        ] {
            assert_eq!(Filter::parse(bad), None, "{bad}");
        }
    }
}
