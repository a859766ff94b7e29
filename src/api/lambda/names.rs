//! What AWS's clients call a function: its name, `account:function:name`, or its ARN, each with or without a qualifier. Pure.

use crate::api::lambda::errors::Refusal;
use crate::domain::aws::Place;
use crate::domain::function::LATEST;

/// As AWS prints it in its messages.
const PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?";
/// The same where a function is made.
const PATTERN_NEW: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?";
/// What may have tags.
pub const RESOURCE: &str = r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)";
/// Whatever AWS has a name for.
pub const ANYTHING: &str = r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
/// The same where nothing but the function itself can be meant.
const PATTERN_BARE: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)";
/// What may have a policy, named in full.
const PATTERN_WHOLE: &str = r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_])+)?|runtime/[a-zA-Z0-9-_./]+)";
/// The same for a function's URLs, which are its own or an alias's.
const PATTERN_URL: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:((?!\d+$)[0-9a-zA-Z-_]+))?";
pub const ALIAS: &str = r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)";
const ALIAS_MAX: usize = 128;
/// Of what a policy says, by which it is taken away again.
pub const STATEMENT: &str = "([a-zA-Z0-9-_]+)";
pub const STATEMENT_MAX: usize = 100;
/// `$LATEST` of a capacity provider's function. None is here.
const LATEST_PUBLISHED: &str = "$LATEST.PUBLISHED";
const QUALIFIER_MAX: usize = 128;
/// Longest name of a new function.
pub const NAME_MAX: usize = 64;

/// How an operation has a function named, and a qualifier beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// With dots, which are in nobody's name, but may be asked for.
    Dotted,
    Plain,
    Bare,
    Url,
    /// By its ARN.
    Whole,
}

impl Form {
    fn pattern(self) -> &'static str {
        match self {
            Self::Dotted => PATTERN,
            Self::Plain => PATTERN_NEW,
            Self::Bare => PATTERN_BARE,
            Self::Url => PATTERN_URL,
            Self::Whole => PATTERN_WHOLE,
        }
    }

    fn length_max(self) -> usize {
        match self {
            Self::Dotted => 256,
            Self::Whole => 512,
            Self::Plain | Self::Bare | Self::Url => 140,
        }
    }

    fn split(self, text: &str) -> Option<Parts<'_>> {
        let marks = match self {
            Self::Dotted => "-_.",
            Self::Plain | Self::Bare | Self::Url | Self::Whole => "-_",
        };
        let parts = split(text, marks)?;
        let qualifier = parts.qualifier;
        let fits = match self {
            Self::Dotted => true,
            Self::Plain => qualifier != Some(LATEST_PUBLISHED),
            Self::Bare => qualifier.is_none(),
            Self::Whole => parts.region.and(parts.account).is_some() && text.contains(":function:"),
            Self::Url => parts.name.len() <= NAME_MAX && qualifier.is_none_or(is_alias),
        };
        fits.then_some(parts)
    }

    /// What it is called in the request.
    fn field(self) -> &'static str {
        match self {
            Self::Whole => "resourceArn",
            Self::Dotted | Self::Plain | Self::Bare | Self::Url => "functionName",
        }
    }

    fn qualifier(self) -> (&'static str, fn(&str) -> bool) {
        match self {
            Self::Dotted | Self::Whole => (r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+", |text| {
                text == LATEST_PUBLISHED || is_version_or_alias(text)
            }),
            Self::Plain | Self::Bare => (r"(|[a-zA-Z0-9$_-]+)", is_version_or_alias),
            Self::Url => (r"((?!^\d+$)^[0-9a-zA-Z-_]+$)", |text| {
                text.is_empty() || is_alias(text)
            }),
        }
    }
}

/// A function as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    /// A version's number, an alias, or `$LATEST`.
    pub qualifier: Option<String>,
}

impl Named {
    /// Its ARN, with the qualifier that was given.
    pub fn arn(&self, place: &Place) -> String {
        let bare = place.function(&self.name);
        match &self.qualifier {
            Some(qualifier) => format!("{bare}:{qualifier}"),
            None => bare,
        }
    }
}

/// Reads a function's name; `qualifier` is the request's own parameter, which may repeat what the name says.
pub fn read(
    form: Form,
    text: &str,
    qualifier: Option<&str>,
    place: &Place,
) -> Result<Named, Refusal> {
    let parts = form.split(text);
    let mut faults = Vec::new();
    if let Some(qualifier) = qualifier {
        let (pattern, is) = form.qualifier();
        faults = formed("qualifier", qualifier, QUALIFIER_MAX, pattern, is);
    }
    let is = |_: &str| parts.is_some();
    faults.extend(formed(
        form.field(),
        text,
        form.length_max(),
        form.pattern(),
        is,
    ));
    let Some(parts) = parts.filter(|_| faults.is_empty()) else {
        return Err(Refusal::validation(&faults));
    };
    if let Some(region) = parts.region
        && region != place.region
    {
        return Err(Refusal::not_found(format!(
            "Functions from '{region}' are not reachable in this region ('{}')",
            place.region
        )));
    }
    if let Some(account) = parts.account
        && account != place.account
    {
        return Err(Refusal::denied(format!(
            "User is not authorized to perform this operation on resource: {text}: this is account {}",
            place.account
        )));
    }
    let qualifier = qualifier.filter(|q| !q.is_empty());
    match (parts.qualifier, qualifier) {
        (Some(derived), Some(given)) if derived != given => Err(Refusal::parameter(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        (derived, given) => Ok(Named {
            name: parts.name.into(),
            qualifier: derived.or(given).map(Into::into),
        }),
    }
}

struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

/// `marks` may be in a name, beside letters and digits.
fn split<'a>(text: &'a str, marks: &str) -> Option<Parts<'a>> {
    let mut rest = text;
    let mut region = None;
    if let Some(arn) = text.strip_prefix("arn:") {
        let (partition, after) = arn.split_once(":lambda:")?;
        let good = |c: char| c.is_ascii_alphabetic() || c == '-';
        (partition.starts_with("aws") && partition.chars().all(good)).then_some(())?;
        rest = after;
    }
    if let Some((first, after)) = rest.split_once(':')
        && is_region(first)
    {
        region = Some(first);
        rest = after;
    }
    let mut account = None;
    if let Some((first, after)) = rest.split_once(':')
        && is_account(first)
    {
        account = Some(first);
        rest = after;
    }
    rest = rest.strip_prefix("function:").unwrap_or(rest);
    let (name, qualifier) = match rest.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (rest, None),
    };
    let latest = [LATEST, LATEST_PUBLISHED];
    let qualified = qualifier.is_none_or(|q| latest.contains(&q) || is_plain(q, "-_"));
    (is_plain(name, marks) && qualified).then_some(Parts {
        region,
        account,
        name,
        qualifier,
    })
}

fn is_plain(text: &str, marks: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    !text.is_empty() && text.chars().all(good)
}

fn is_version_or_alias(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '$' | '_' | '-');
    text.chars().all(good)
}

/// Whether it has the form of an alias's name: any but that of a version.
fn is_alias(text: &str) -> bool {
    is_plain(text, "-_") && !text.bytes().all(|b| b.is_ascii_digit())
}

/// What is wrong with an alias's name, in a path or a body.
pub fn alias(text: &str) -> Vec<String> {
    formed("name", text, ALIAS_MAX, ALIAS, is_alias)
}

/// What is wrong with a statement's name; those of functions may have dots, where they are asked for.
pub fn statement(text: &str, dotted: bool) -> Vec<String> {
    let (pattern, marks) = match dotted {
        true => ("([a-zA-Z0-9-_.]+)", "-_."),
        false => (STATEMENT, "-_"),
    };
    formed("statementId", text, STATEMENT_MAX, pattern, |text| {
        is_plain(text, marks)
    })
}

/// What kind of thing an ARN names that may have tags; `None` if it is no such ARN.
pub fn resource(arn: &str) -> Option<&str> {
    let parts: Vec<_> = arn.splitn(7, ':').collect();
    let &["arn", partition, "lambda", region, account, kind, name] = &parts[..] else {
        return None;
    };
    let is_word = |c: char| c.is_ascii_alphabetic() || c == '-';
    let placed = partition.starts_with("aws")
        && partition.chars().all(is_word)
        && is_region(region)
        && is_account(account);
    let named = match kind {
        "function" => {
            let (name, qualifier) = name.split_once(':').unwrap_or((name, LATEST));
            is_plain(name, "-_") && (qualifier == LATEST || is_plain(qualifier, "-_"))
        }
        "layer" | "capacity-provider" => is_plain(name, "-_"),
        "code-signing-config" => {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let id = name.strip_prefix("csc-");
            id.is_some_and(|id| id.len() == 17 && id.chars().all(good))
        }
        "event-source-mapping" => name.len() == 36 && uuid::Uuid::try_parse(name).is_ok(),
        _ => false,
    };
    (placed && named).then_some(kind)
}

/// Whether it is the ARN of a runtime, as policies may be on.
pub fn is_runtime(text: &str) -> bool {
    let name = text.rsplit_once(":runtime/").map(|(_, name)| name);
    is_arn(text) && name.is_some_and(|name| is_plain(name, "-_./"))
}

/// Whether it has the form of an ARN, of whatever.
pub fn is_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let &["arn", partition, service, region, account, _rest] = &parts[..] else {
        return false;
    };
    let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    partition.starts_with("aws")
        && word(partition)
        && !service.is_empty()
        && word(service)
        && (region.is_empty() || is_region(region))
        && (account.is_empty() || is_account(account))
}

pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `us-east-1` and its kin: two letters, words, one digit.
pub(super) fn is_region(text: &str) -> bool {
    let mut words = text.split('-');
    let (first, last) = (words.next(), words.next_back());
    let digit = |last: &str| last.len() == 1 && last.bytes().all(|b| b.is_ascii_digit());
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let mut middle = words.peekable();
    first.is_some_and(|f| (f.len() == 2 || f == "eusc") && word(f))
        && last.is_some_and(digit)
        && middle.peek().is_some()
        && middle.all(word)
}

/// AWS's sentences about parameters.
pub fn pattern(field: &str, value: &str, pattern: &str) -> String {
    let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
    fault(field, value, &constraint)
}

pub fn longest(field: &str, value: &str, most: usize) -> String {
    let constraint = format!("Member must have length less than or equal to {most}");
    fault(field, value, &constraint)
}

/// What is wrong with a text that has a longest length and a form.
pub fn formed(
    field: &str,
    value: &str,
    most: usize,
    pattern: &str,
    is: impl Fn(&str) -> bool,
) -> Vec<String> {
    let long = value.chars().count() > most;
    let long = long.then(|| longest(field, value, most));
    let other = (!is(value)).then(|| self::pattern(field, value, pattern));
    long.into_iter().chain(other).collect()
}

pub fn fault(field: &str, value: &str, constraint: &str) -> String {
    format!("Value '{value}' at '{field}' failed to satisfy constraint: {constraint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, qualifier: Option<&str>) -> Result<(String, Option<String>), Refusal> {
        let named = read(Form::Dotted, text, qualifier, &Place::default())?;
        Ok((named.name, named.qualifier))
    }

    #[test]
    fn a_function_has_many_names() {
        for (text, qualifier) in [
            ("f", None),
            ("function:f", None),
            ("000000000000:f", None),
            ("000000000000:function:f", None),
            ("us-east-1:000000000000:function:f", None),
            ("arn:aws:lambda:us-east-1:000000000000:function:f", None),
            ("arn:aws-cn:lambda:us-east-1:000000000000:function:f", None),
            ("f:$LATEST", Some("$LATEST")),
            ("f:7", Some("7")),
            ("000000000000:function:f:live", Some("live")),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:f:live-1",
                Some("live-1"),
            ),
        ] {
            let wanted = Ok(("f".to_owned(), qualifier.map(str::to_owned)));
            assert_eq!(named(text, None), wanted, "{text}");
        }
        let live = Ok(("f".to_owned(), Some("live".to_owned())));
        assert_eq!(named("f", Some("live")), live);
        assert_eq!(named("f:live", Some("live")), live);
        assert_eq!(named("f:live", Some("")), live);
        // A name may look like an account.
        assert_eq!(
            named("123456789012", None),
            Ok(("123456789012".into(), None))
        );
    }

    #[test]
    fn what_is_no_name_is_refused_in_awss_words() {
        for text in [
            "",
            "a b",
            "f:",
            "f:1:2",
            "arn:aws:lambda:f/x",
            "arn:gcp:lambda:f",
            "f!",
            "é",
        ] {
            let refusal = named(text, None).expect_err(text);
            assert_eq!(refusal.kind, "ValidationException", "{text}");
            let wanted = format!(
                "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {PATTERN}"
            );
            assert_eq!(refusal.message, wanted);
        }
        let long = "a!".repeat(80);
        let new = |text: &str| read(Form::Plain, text, None, &Place::default());
        let new = new(&long).expect_err("too long and wrong");
        let faults = [
            longest("functionName", &long, 140),
            pattern("functionName", &long, PATTERN_NEW),
        ];
        assert_eq!(new, Refusal::validation(&faults));
        let there = named(&long, Some(&"q".repeat(129))).expect_err("too long and wrong");
        let faults = [
            longest("qualifier", &"q".repeat(129), QUALIFIER_MAX),
            pattern("functionName", &long, PATTERN),
        ];
        assert_eq!(there, Refusal::validation(&faults));
        assert!(named("f", Some("a b")).is_err());
    }

    #[test]
    fn a_dot_is_asked_for_and_never_made() {
        let none = Ok(("a.b".to_owned(), None));
        assert_eq!(named("a.b", None), none);
        let refusal = read(Form::Plain, "a.b", None, &Place::default()).expect_err("a dot");
        assert!(
            refusal.message.ends_with(PATTERN_NEW),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn each_form_has_its_own_words() {
        let said = |form, text: &str, qualifier| {
            let read = read(form, text, qualifier, &Place::default());
            read.map(|named| named.qualifier)
                .map_err(|refusal| refusal.message)
        };
        assert_eq!(said(Form::Plain, "f:1", None), Ok(Some("1".into())));
        assert_eq!(said(Form::Url, "f:live", None), Ok(Some("live".into())));
        assert_eq!(said(Form::Bare, "f", None), Ok(None));
        assert_eq!(said(Form::Url, "f", Some("")), Ok(None));
        let published = Ok(Some(LATEST_PUBLISHED.to_owned()));
        assert_eq!(said(Form::Dotted, "f:$LATEST.PUBLISHED", None), published);
        assert_eq!(
            said(Form::Dotted, "f", Some("$LATEST.PUBLISHED")),
            published
        );
        let long = "n".repeat(65);
        for (form, text, qualifier, words) in [
            (Form::Plain, "f:$LATEST.PUBLISHED", None, PATTERN_NEW),
            (Form::Bare, "f:1", None, PATTERN_BARE),
            (Form::Url, "f:1", None, PATTERN_URL),
            (Form::Url, "f:$LATEST", None, PATTERN_URL),
            (Form::Url, &long, None, PATTERN_URL),
            (Form::Url, "f", Some("1"), "'qualifier'"),
            (Form::Plain, "f", Some("a b"), "(|[a-zA-Z0-9$_-]+)"),
        ] {
            let message = said(form, text, qualifier).expect_err(text);
            assert!(message.contains(words), "{text}: {message}");
        }
        let name = "n".repeat(141);
        assert_eq!(said(Form::Dotted, &name, None), Ok(None));
        let message = said(Form::Plain, &name, None).expect_err("too long");
        assert!(message.ends_with("less than or equal to 140"), "{message}");
        let name = "n".repeat(257);
        let message = said(Form::Dotted, &name, None).expect_err("too long");
        assert!(message.ends_with("less than or equal to 256"), "{message}");
    }

    #[test]
    fn aliases_and_statements_have_a_form_in_a_path_too() {
        assert!(alias("live-1").is_empty() && alias(&"a".repeat(128)).is_empty());
        for bad in ["", "1", "a.b", "a b", "$LATEST"] {
            assert_eq!(alias(bad), [pattern("name", bad, ALIAS)]);
        }
        let long = "a".repeat(129);
        assert_eq!(alias(&long), [longest("name", &long, 128)]);
        assert!(statement("a.b", true).is_empty() && !statement("a.b", false).is_empty());
        assert_eq!(statement(&"s".repeat(101), false).len(), 1);
    }

    #[test]
    fn what_may_have_tags_has_an_arn() {
        let at = "arn:aws:lambda:us-east-1:000000000000";
        for (rest, kind) in [
            ("function:f", "function"),
            ("function:f:live", "function"),
            ("function:f:$LATEST", "function"),
            ("layer:l", "layer"),
            (
                "event-source-mapping:14e0db71-5d35-4eb5-b481-8945cf9d10c2",
                "event-source-mapping",
            ),
            ("capacity-provider:p", "capacity-provider"),
            (
                "code-signing-config:csc-0123456789abcdef0",
                "code-signing-config",
            ),
        ] {
            assert_eq!(resource(&format!("{at}:{rest}")), Some(kind), "{rest}");
        }
        for bad in [
            "f",
            "arn:aws:something",
            "arn:aws:lambda:us-east-1:1:function:f",
            "arn:aws:lambda:nowhere:000000000000:function:f",
            "arn:aws:lambda:us-east-1:000000000000:foobar:f",
            "arn:aws:lambda:us-east-1:000000000000:function:a b",
            "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:1",
            "arn:aws:lambda:us-east-1:000000000000:capacity-provider:p:alias",
        ] {
            assert_eq!(resource(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_function_of_elsewhere_is_not_here() {
        let region = named("arn:aws:lambda:eu-west-1:000000000000:function:f", None);
        let region = region.expect_err("another region");
        assert_eq!(region.status, 404);
        assert_eq!(
            region.message,
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
        );
        let account = named("111111111111:function:f", None).expect_err("another account");
        assert_eq!(
            (account.status.as_u16(), account.kind),
            (403, "AccessDeniedException")
        );
        let differs = named("f:1", Some("2")).expect_err("two qualifiers");
        assert_eq!(differs.kind, "InvalidParameterValueException");
    }

    #[test]
    fn regions_have_a_form() {
        for good in [
            "us-east-1",
            "us-gov-west-1",
            "eusc-de-east-1",
            "ap-southeast-2",
        ] {
            assert!(is_region(good), "{good}");
        }
        for bad in [
            "",
            "us",
            "us-1",
            "us-east",
            "us-east-10",
            "US-east-1",
            "function",
        ] {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
