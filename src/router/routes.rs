//! From a request's path to the function that answers there: a tree of segments. Where several routes match, the one that is more
//! exact further left wins: a text before a parameter, a parameter before everything that is left. Pure.
//!
//! A slash at the end of a path means nothing. Segments are percent-decoded once, each for itself, so that an encoded slash is a part of
//! a value and never cuts it; a path that climbs (`..`, however it is written) matches nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::domain::route::{self, Segment};

#[derive(Debug)]
pub struct Routes<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    /// Who answers for everything below.
    rest: Option<Leaf<T>>,
    /// Who answers here.
    leaf: Option<Leaf<T>>,
}

#[derive(Debug)]
struct Leaf<T> {
    entry: Arc<T>,
    /// Of its parameters, in their order.
    names: Vec<String>,
}

/// What was found at a path.
#[derive(Debug)]
pub struct Matched<T> {
    pub entry: Arc<T>,
    /// Names and values of the parameters, decoded.
    pub parameters: Vec<(String, String)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literals: HashMap::new(),
            parameter: None,
            rest: None,
            leaf: None,
        }
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

impl<T> Routes<T> {
    /// `false` if there is one of the same shape already, or it is no route.
    pub fn insert(&mut self, route: &str, entry: Arc<T>) -> bool {
        let Ok(segments) = route::parse(route) else {
            return false;
        };
        let mut names = Vec::new();
        let mut node = &mut self.root;
        let mut rest = false;
        for segment in segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.into()).or_default(),
                Segment::Parameter(name) => {
                    names.push(name.to_owned());
                    node = node.parameter.get_or_insert_default();
                }
                Segment::Rest(name) => {
                    names.push(name.to_owned());
                    rest = true;
                }
            }
        }
        let place = match rest {
            true => &mut node.rest,
            false => &mut node.leaf,
        };
        if place.is_some() {
            return false;
        }
        *place = Some(Leaf { entry, names });
        true
    }

    pub fn find(&self, path: &str) -> Option<Matched<T>> {
        let path = Path::of(path)?;
        let mut taken = Vec::new();
        let leaf = self.root.find(&path, 0, &mut taken)?;
        Some(Matched {
            entry: leaf.entry.clone(),
            parameters: leaf.names.iter().cloned().zip(taken).collect(),
        })
    }
}

impl<T> Node<T> {
    /// Who answers for the path from segment `at` on. Goes no deeper than the tree, and into each of its nodes once.
    fn find(&self, path: &Path<'_>, at: usize, taken: &mut Vec<String>) -> Option<&Leaf<T>> {
        let Some((segment, _)) = path.segments.get(at) else {
            return self.leaf.as_ref();
        };
        let literal = self.literals.get(segment.as_ref());
        if let Some(leaf) = literal.and_then(|node| node.find(path, at + 1, taken)) {
            return Some(leaf);
        }
        if let Some(node) = &self.parameter
            && !segment.is_empty()
        {
            taken.push(segment.clone().into_owned());
            if let Some(leaf) = node.find(path, at + 1, taken) {
                return Some(leaf);
            }
            taken.pop();
        }
        let rest = self.rest.as_ref()?;
        taken.push(path.from(at));
        Some(rest)
    }
}

/// A request's path, taken apart.
struct Path<'a> {
    /// Without the first slash.
    raw: &'a str,
    /// Decoded, and where each begins in `raw`.
    segments: Vec<(Cow<'a, str>, usize)>,
}

impl<'a> Path<'a> {
    /// `None` if it climbs, or is no path at all.
    fn of(path: &'a str) -> Option<Self> {
        let raw = path.strip_prefix('/')?;
        let mut segments = Vec::new();
        if !raw.is_empty() {
            let mut begin = 0;
            for part in raw.strip_suffix('/').unwrap_or(raw).split('/') {
                let segment = percent_decode_str(part).decode_utf8_lossy();
                if segment.split(['/', '\\']).any(|s| matches!(s, "." | "..")) {
                    return None;
                }
                segments.push((segment, begin));
                begin += part.len() + 1;
            }
        }
        Some(Self { raw, segments })
    }

    /// Everything from a segment on, decoded.
    fn from(&self, at: usize) -> String {
        let begin = self.segments[at].1;
        percent_decode_str(&self.raw[begin..])
            .decode_utf8_lossy()
            .into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(list: &[&str]) -> Routes<String> {
        let mut routes = Routes::default();
        for route in list {
            assert!(routes.insert(route, Arc::new((*route).into())), "{route}");
        }
        routes
    }

    /// The route found, and its parameters as `name=value`.
    fn found(routes: &Routes<String>, path: &str) -> Option<(String, Vec<String>)> {
        let matched = routes.find(path)?;
        let parameters = matched.parameters.iter();
        Some((
            String::clone(&matched.entry),
            parameters.map(|(n, v)| format!("{n}={v}")).collect(),
        ))
    }

    #[test]
    fn the_more_exact_route_wins_and_what_leads_nowhere_is_left_again() {
        let routes = routes(&[
            "/",
            "/a/{x}",
            "/a/b/c",
            "/a/{x}/d",
            "/{y}/b/e",
            "/{all+}",
            "/a/{rest+}",
        ]);
        let cases: [(&str, &str, &[&str]); 9] = [
            ("/", "/", &[]),
            ("/a/b", "/a/{x}", &["x=b"]),
            ("/a/b/c", "/a/b/c", &[]),
            ("/a/b/d", "/a/{x}/d", &["x=b"]),
            // `/a/{rest+}` is more exact at its first segment.
            ("/a/b/e", "/a/{rest+}", &["rest=b/e"]),
            ("/z/b/e", "/{y}/b/e", &["y=z"]),
            ("/z", "/{all+}", &["all=z"]),
            ("/a", "/{all+}", &["all=a"]),
            ("/z//", "/{all+}", &["all=z//"]),
        ];
        for (path, route, parameters) in cases {
            let got = found(&routes, path).expect(path);
            assert_eq!(got.0, route, "{path}");
            assert_eq!(got.1, parameters, "{path}");
        }
    }

    #[test]
    fn a_slash_at_the_end_means_nothing_and_one_in_between_does() {
        let routes = routes(&["/orders", "/orders/{id}"]);
        assert_eq!(found(&routes, "/orders/").expect("found").0, "/orders");
        assert_eq!(found(&routes, "/orders/7/").expect("found").1, ["id=7"]);
        for nothing in [
            "/",
            "//",
            "//orders",
            "/orders//",
            "/orders//7",
            "/orders/7/8",
            "orders",
            "*",
            "",
        ] {
            assert_eq!(found(&routes, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn segments_are_decoded_once() {
        let routes = routes(&["/files/{name}", "/deep/{path+}"]);
        let value = |path| found(&routes, path).map(|(_, parameters)| parameters.concat());
        assert_eq!(value("/%66iles/a%20b%2Fc").as_deref(), Some("name=a b/c"));
        assert_eq!(value("/files/100%2525").as_deref(), Some("name=100%25"));
        assert_eq!(value("/files/%zz%").as_deref(), Some("name=%zz%"));
        assert_eq!(value("/files/%ff").as_deref(), Some("name=\u{fffd}"));
        assert_eq!(value("/files/+").as_deref(), Some("name=+"));
        assert_eq!(value("/deep/a/%C4%8D/").as_deref(), Some("path=a/č/"));
    }

    #[test]
    fn a_path_that_climbs_matches_nothing() {
        let routes = routes(&["/{all+}", "/", "/a"]);
        for path in [
            "/..",
            "/a/..",
            "/./a",
            "/a/%2e%2E",
            "/x/.%2e/y",
            "/x/..%2fy",
            "/%2e",
            "/..%5cy",
        ] {
            assert_eq!(found(&routes, path), None, "{path}");
        }
        assert!(found(&routes, "/...").is_some());
        assert!(found(&routes, "/a..b/.c").is_some());
    }

    #[test]
    fn one_shape_has_one_route() {
        let mut routes = routes(&["/a/{x}", "/b/{x+}"]);
        for taken in ["/a/{y}", "/b/{y+}", "/a/{x}"] {
            assert!(!routes.insert(taken, Arc::default()), "{taken}");
        }
        assert!(!routes.insert("no route", Arc::default()));
        assert!(routes.insert("/a/{y}/b", Arc::new("/a/{y}/b".into())));
        assert_eq!(found(&routes, "/a/1/b").expect("found").1, ["y=1"]);
    }

    /// How well a route matches a path, segment by segment: less is better. The rule, without a tree.
    fn rank(route: &str, path: &[String]) -> Option<Vec<u8>> {
        let segments = route::parse(route).expect("a route");
        let mut rank = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            match (segment, path.get(at)) {
                (Segment::Literal(text), Some(part)) if text == part => rank.push(0),
                (Segment::Parameter(_), Some(_)) => rank.push(1),
                (Segment::Rest(_), Some(_)) => {
                    rank.push(2);
                    return Some(rank);
                }
                _ => return None,
            }
        }
        (segments.len() == path.len()).then_some(rank)
    }

    fn route() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("{}")];
        let end = prop_oneof![Just(""), Just("/{}"), Just("/{+}"), Just("/a")];
        (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
            let mut shape: String = segments.iter().map(|s| format!("/{s}")).collect();
            shape.push_str(end);
            // Names differ from route to route, as people choose them.
            let mut named = String::new();
            for (at, part) in shape.split('{').enumerate() {
                if at > 0 {
                    named.push_str(&format!("{{p{at}"));
                }
                named.push_str(part);
            }
            if named.is_empty() { "/".into() } else { named }
        })
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_comparing_all_routes_finds(
            list in prop::collection::vec(route(), 0..12),
            path in prop::collection::vec("[abc]", 0..6),
        ) {
            let mut routes = Routes::default();
            let mut kept: Vec<String> = Vec::new();
            for route in list {
                let new = kept.iter().all(|k| route::shape(k) != route::shape(&route));
                prop_assert_eq!(routes.insert(&route, Arc::new(route.clone())), new);
                if new {
                    kept.push(route);
                }
            }
            let want = kept.iter().filter_map(|r| Some((rank(r, &path)?, r))).min();
            let got = routes.find(&format!("/{}", path.join("/")));
            prop_assert_eq!(got.map(|m| String::clone(&m.entry)), want.map(|(_, r)| r.clone()));
        }

        #[test]
        fn no_path_is_too_strange(path in "/[a/.%2eE]{0,20}\\PC{0,5}") {
            let routes = routes(&["/", "/{a}", "/a/{b+}"]);
            if let Some(matched) = routes.find(&path) {
                for (_, value) in matched.parameters {
                    prop_assert!(!value.is_empty());
                    prop_assert!(value.split('/').all(|s| s != ".."));
                }
            }
        }
    }
}
