//! Routes: the paths at which functions answer plain HTTP, as they are written, and which paths no function can have. Pure. The face
//! that changes functions checks with `parse`, the stores keep one function for each `shape`, and the router matches segments.

/// Longest route, in bytes.
pub const ROUTE_MAX: usize = 512;
/// Longest name of a parameter.
const PARAMETER_MAX: usize = 64;

/// First segments of the paths that are Hearth's own, now or later. The paths of the AWS API begin with a date: see `is_reserved`.
pub const RESERVED: [&str; 15] = [
    "functions",
    "dead-letters",
    "runtimes",
    "keys",
    "invocations",
    "events",
    "overview",
    "layers",
    "lambda-url",
    "openapi.json",
    "docs",
    "dashboard",
    "metrics",
    "healthz",
    "readyz",
];

/// One part of a route, between slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    Literal(&'a str),
    /// `{name}`: any one segment.
    Parameter(&'a str),
    /// `{name+}`, always the last: everything that is left, slashes and all, but not nothing.
    Rest(&'a str),
}

/// Whether a request's path is Hearth's own.
pub fn is_reserved(path: &str) -> bool {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let first = rest.split('/').next().unwrap_or(rest);
    RESERVED.contains(&first) || is_date(first)
}

/// Whether a path is one of AWS's API: those begin with a date.
pub fn is_dated(path: &str) -> bool {
    let rest = path.strip_prefix('/').unwrap_or(path);
    is_date(rest.split('/').next().unwrap_or(rest))
}

/// `2015-03-31` and the like.
fn is_date(segment: &str) -> bool {
    let digit_or_dash = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    segment.len() == 10 && segment.bytes().enumerate().all(digit_or_dash)
}

/// The segments of a route, or what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Segment<'_>>, String> {
    let Some(path) = text.strip_prefix('/') else {
        return Err("must begin with \"/\"".into());
    };
    if text.len() > ROUTE_MAX {
        return Err(format!(
            "must have at most {ROUTE_MAX} characters, has {}",
            text.len()
        ));
    }
    if path.is_empty() {
        return Ok(Vec::new());
    }
    if is_reserved(text) {
        let first = path.split('/').next().unwrap_or(path);
        return Err(format!("must not begin with \"/{first}\": it is reserved"));
    }
    let segments: Vec<_> = path.split('/').map(segment).collect::<Result<_, _>>()?;
    let mut names: Vec<&str> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match segment {
            Segment::Literal(_) => continue,
            Segment::Rest(name) if at + 1 < segments.len() => {
                return Err(format!(
                    "must end with {{{name}+}}: it takes all that is left"
                ));
            }
            Segment::Parameter(name) | Segment::Rest(name) if names.contains(name) => {
                return Err(format!("must not have the parameter {name:?} twice"));
            }
            Segment::Parameter(name) | Segment::Rest(name) => names.push(name),
        }
    }
    Ok(segments)
}

fn segment(text: &str) -> Result<Segment<'_>, String> {
    if matches!(text, "" | "." | "..") {
        return Err("must not have empty, \".\" or \"..\" segments, nor end with \"/\"".into());
    }
    if let Some(inside) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let (name, rest) = match inside.strip_suffix('+') {
            Some(name) => (name, true),
            None => (inside, false),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > PARAMETER_MAX || !name.chars().all(plain) {
            return Err(format!(
                "must have parameters named with 1 to {PARAMETER_MAX} letters, digits, '_', '-' and '.', has {text:?}"
            ));
        }
        return Ok(match rest {
            true => Segment::Rest(name),
            false => Segment::Parameter(name),
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some('{' | '}') => Err(format!(
            "must have parameters as whole segments, like \"{{name}}\" or \"{{name+}}\", has {text:?}"
        )),
        Some(bad) => Err(format!("must not have the character {bad:?}")),
        None => Ok(Segment::Literal(text)),
    }
}

/// What two routes have in common that match the same paths: the route without the names of its parameters. Only one function can
/// have it. A route without parameters is its own shape.
pub fn shape(route: &str) -> String {
    let shape_of = |segment| match segment {
        s if !is_parameter(s) => s,
        s if s.ends_with("+}") => "{+}",
        _ => "{}",
    };
    let segments: Vec<_> = route.split('/').map(shape_of).collect();
    segments.join("/")
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_paths_with_parameters() {
        assert_eq!(parse("/"), Ok(vec![]));
        assert_eq!(
            parse("/orders/{id}/{rest.of-it+}"),
            Ok(vec![
                Segment::Literal("orders"),
                Segment::Parameter("id"),
                Segment::Rest("rest.of-it")
            ])
        );
        let longest = format!("/{}", "a".repeat(ROUTE_MAX - 1));
        for good in [
            "/2fa",
            "/a.b/~c",
            "/{proxy+}",
            "/{x}",
            "/functions.html",
            "/a/functions",
            &longest,
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
        }
    }

    #[test]
    fn what_is_no_route_says_why() {
        let longer = format!("/{}", "a".repeat(ROUTE_MAX));
        let wrong = [
            ("", "begin with"),
            ("orders", "begin with"),
            (longer.as_str(), "at most"),
            ("/a/", "empty"),
            ("//a", "empty"),
            ("/a/../b", "empty"),
            ("/a b", "' '"),
            ("/a%20b", "'%'"),
            ("/ä", "'ä'"),
            ("/a?b", "'?'"),
            ("/x{id}", "whole segments"),
            ("/{id}.json", "whole segments"),
            ("/{}", "named"),
            ("/{+}", "named"),
            ("/{a b}", "named"),
            ("/{a}/{a}", "twice"),
            ("/{a}/x/{a+}", "twice"),
            ("/{a+}/b", "end with {a+}"),
            ("/functions", "reserved"),
            ("/docs/mine", "reserved"),
            ("/2015-03-31/functions", "reserved"),
        ];
        for (text, part) in wrong {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn reserved_is_what_is_ours() {
        for ours in [
            "/functions",
            "/functions/x/execute",
            "/healthz/",
            "/2020-06-30/anything",
            "/2018-06-01",
        ] {
            assert!(is_reserved(ours), "{ours}");
        }
        for free in [
            "/",
            "/function",
            "/functionsx",
            "/Functions",
            "//functions",
            "/2015-03-3",
            "/2015/03/31",
            "*",
        ] {
            assert!(!is_reserved(free), "{free}");
        }
    }

    #[test]
    fn a_shape_forgets_names_and_nothing_else() {
        assert_eq!(shape("/"), "/");
        assert_eq!(shape("/a/b"), "/a/b");
        assert_eq!(shape("/a/{id}/{rest+}"), "/a/{}/{+}");
        assert_eq!(shape("/{x}"), shape("/{y}"));
        assert_ne!(shape("/{x}"), shape("/{x+}"));
    }
}
