//! What a request needs its key to allow. The one table of it, asked for every request before its face sees it; a path that is not in
//! it needs `admin`, so that what is added later is not open by oversight. What only the body says (the name of a new function, the
//! calls of a batch) is checked by its handler, with the same grant.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Method;
use http::request::Parts;

use crate::api::error::Problem;
use crate::domain::key::{Denied, Grant, Scope};
use crate::scheduler::Scheduler;

#[derive(Debug, PartialEq, Eq)]
pub enum Need<'a> {
    AnyKey,
    Scope(Scope),
    /// The scope for the function of this id or name.
    Function(Scope, &'a str),
}

/// Pure; no allocation.
pub fn need<'a>(method: &Method, path: &'a str) -> Need<'a> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (_, behind) = cut(path);
    let (first, behind) = cut(behind.unwrap_or_default());
    let (second, rest) = behind.map(cut).unzip();
    let rest = rest.flatten().unwrap_or_default();
    match (first, second) {
        ("runtimes" | "openapi.json", None) => Need::AnyKey,
        // Whose function's it is, the handler sees.
        ("invocations", Some(_)) if rest.is_empty() && *method == Method::GET => {
            Need::Scope(Scope::Invoke)
        }
        // The same holds here. To queue one again is to call its function; to see or drop what others sent is not for callers.
        ("dead-letters", None) if *method == Method::GET => Need::Scope(Scope::Deploy),
        ("dead-letters", Some("redrive")) if rest.is_empty() && *method == Method::POST => {
            Need::Scope(Scope::Invoke)
        }
        ("dead-letters", Some(_)) => match (method, rest) {
            (&Method::GET | &Method::DELETE, "") => Need::Scope(Scope::Deploy),
            (&Method::POST, "redrive") => Need::Scope(Scope::Invoke),
            _ => Need::Scope(Scope::Admin),
        },
        // What there is to see depends on the key.
        ("overview", None) | ("dashboard", Some("events")) if rest.is_empty() => {
            Need::Scope(Scope::Deploy)
        }
        // Which layers a key is for, the handler sees: their names are not functions'.
        ("layers", None) => Need::Scope(Scope::Deploy),
        ("layers", Some(_)) if rest.is_empty() => Need::Scope(Scope::Deploy),
        ("functions", None) => Need::Scope(Scope::Deploy),
        ("functions", Some("execute")) if rest.is_empty() && *method == Method::POST => {
            Need::Scope(Scope::Invoke)
        }
        ("functions", Some(function)) => {
            // Calls are made by POST; everything else looks at a function or changes it.
            let calls = matches!(rest, "execute" | "invocations") && *method == Method::POST;
            let scope = if calls { Scope::Invoke } else { Scope::Deploy };
            Need::Function(scope, function)
        }
        _ => Need::Scope(Scope::Admin),
    }
}

/// What is before the first slash, and what is behind it. Every call asks this three times, and names are short: looking at byte after byte is
/// faster here than the search that is made for long texts.
fn cut(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Whether the key is good enough for the request. A function that is not there is judged by what it was called, so that the answer does
/// not tell which ones there are.
pub fn check(
    grant: &Grant,
    method: &Method,
    path: &str,
    scheduler: &Scheduler,
) -> Result<(), Denied> {
    match need(method, path) {
        Need::AnyKey => Ok(()),
        Need::Scope(scope) => grant.may(scope),
        Need::Function(scope, _) if grant.is_for_all() => grant.may(scope),
        Need::Function(scope, called) => function(grant, scope, &decoded(called), scheduler),
    }
}

/// Whether the key has the scope for the function of this id or name.
pub fn function(
    grant: &Grant,
    scope: Scope,
    id_or_name: &str,
    scheduler: &Scheduler,
) -> Result<(), Denied> {
    // A qualifier behind it names a version of the same function.
    let (id_or_name, _) = id_or_name.split_once(':').unwrap_or((id_or_name, ""));
    match scheduler.find(id_or_name) {
        Some(target) => grant.may_with(scope, target.function.name.as_str()),
        None => grant.may_with(scope, id_or_name),
    }
}

/// As the router will read it: or one name could be judged and another be served.
fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return segment.into();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|digits| hex::decode(digits).ok()?.first().copied());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// The grant of the request, which the gateway put there.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Grant>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let grant = parts.extensions.get::<Arc<Grant>>().cloned();
        // Without a grant nothing is allowed, however the request got here.
        grant.map(Self).ok_or(Problem::Unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::control::world::{World, new};
    use crate::domain::key::Wish;
    use crate::domain::pattern::Pattern;

    #[test]
    fn every_path_needs_what_it_does() {
        use Need::{AnyKey, Function, Scope as Of};
        use Scope::{Admin, Deploy, Invoke};
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, wanted) in [
            (&get, "/functions/", Of(Deploy)),
            (&post, "/functions", Of(Deploy)),
            (&get, "/functions/f", Function(Deploy, "f")),
            (&Method::PUT, "/functions/f/", Function(Deploy, "f")),
            (&Method::DELETE, "/functions/f", Function(Deploy, "f")),
            (&get, "/functions/f/logs", Function(Deploy, "f")),
            (&get, "/functions/f/starts", Function(Deploy, "f")),
            (&get, "/functions/f/code", Function(Deploy, "f")),
            (&get, "/functions/f/a/b", Function(Deploy, "f")),
            (&post, "/functions/f/execute", Function(Invoke, "f")),
            (&post, "/functions/f/execute/", Function(Invoke, "f")),
            (&post, "/functions/f/execute/x", Function(Deploy, "f")),
            (&get, "/functions/f/execute", Function(Deploy, "f")),
            (&post, "/functions/execute", Of(Invoke)),
            (&post, "/functions/execute/", Of(Invoke)),
            (&get, "/functions/execute", Function(Deploy, "execute")),
            (&get, "/dead-letters/", Of(Deploy)),
            (&get, "/dead-letters", Of(Deploy)),
            (&post, "/dead-letters/", Of(Admin)),
            (&get, "/dead-letters/x", Of(Deploy)),
            (&Method::DELETE, "/dead-letters/x", Of(Deploy)),
            (&post, "/dead-letters/x/redrive", Of(Invoke)),
            (&post, "/dead-letters/redrive", Of(Invoke)),
            (&get, "/dead-letters/x/redrive", Of(Admin)),
            (&get, "/functions/f/invocations", Function(Deploy, "f")),
            (&get, "/layers/", Of(Deploy)),
            (&post, "/layers", Of(Deploy)),
            (&Method::DELETE, "/layers/x:1", Of(Deploy)),
            (&get, "/layers/x/y", Of(Admin)),
            (&get, "/overview", Of(Deploy)),
            (&get, "/overview/x", Of(Admin)),
            (&get, "/overview/checks", Of(Admin)),
            (&get, "/dashboard/events", Of(Deploy)),
            (&get, "/dashboard/events/x", Of(Admin)),
            (&get, "/dashboard/x", Of(Admin)),
            (&get, "/runtimes/", AnyKey),
            (&get, "/openapi.json", AnyKey),
            (&get, "/metrics", Of(Admin)),
            // It counts everybody's.
            (&get, "/invocations/", Of(Admin)),
            (&get, "/invocations/x", Of(Invoke)),
            (&get, "/keys/", Of(Admin)),
            (&Method::DELETE, "/keys/x", Of(Admin)),
            (&get, "/", Of(Admin)),
            (&get, "", Of(Admin)),
            (&get, "/what/comes/later", Of(Admin)),
            (&get, "//functions/f", Of(Admin)),
            (&get, "functions/f", Of(Admin)),
        ] {
            assert_eq!(need(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn an_escaped_name_is_judged_as_it_is_served() {
        for (segment, name) in [
            ("plain", "plain"),
            ("a%2Db", "a-b"),
            ("a%2db", "a-b"),
            ("%61", "a"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%2525", "%25"),
        ] {
            assert_eq!(decoded(segment), name, "{segment}");
        }
    }

    /// What the body says is checked with the caller's grant; what the path says, the gateway has checked before.
    #[tokio::test]
    async fn a_key_for_some_functions_makes_sees_and_calls_only_those() {
        let world = World::empty();
        for name in ["orders-1", "billing"] {
            world.create(name).await;
        }
        let wish = Wish {
            scopes: vec![Scope::Deploy, Scope::Invoke],
            functions: vec![Pattern::parse("orders-*").expect("a pattern")],
            ..Wish::admin()
        };
        let grant = Arc::new(Grant::from(&wish.issue(crate::clock::wall()).1));
        let ask = async |method: &str, path: &str, body: Value| {
            let request = Request::builder().method(method).uri(path);
            let request = request
                .extension(grant.clone())
                .body(Body::from(body.to_string()));
            world.answered(request.expect("a request")).await
        };
        let listed = ask("GET", "/functions/", json!(null)).await.json();
        let names: Vec<_> = listed["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|f| &f["name"])
            .collect();
        assert_eq!(names, ["orders-1"]);

        assert_eq!(
            ask("POST", "/functions/", new("orders-2")).await.status,
            201
        );
        let mut from_path = new("orders-3");
        from_path.as_object_mut().expect("an object").remove("code");
        from_path["code_path"] = json!("/etc/hostname");
        from_path["handler"] = json!("a.b");
        for (method, path, body, code, reason) in [
            (
                "POST",
                "/functions/",
                new("mail"),
                "function_not_allowed",
                "deploy",
            ),
            (
                "PUT",
                "/functions/orders-1",
                json!({"name": "mail"}),
                "function_not_allowed",
                "deploy",
            ),
            // The name went to another function after the path was checked.
            (
                "PUT",
                "/functions/billing",
                json!({"timeout": 9}),
                "function_not_allowed",
                "deploy",
            ),
            (
                "DELETE",
                "/functions/billing",
                json!(null),
                "function_not_allowed",
                "deploy",
            ),
            // Any file of the server is more than functions.
            ("POST", "/functions/", from_path, "scope_missing", "admin"),
        ] {
            let answer = ask(method, path, body).await;
            assert_eq!(answer.status, 403, "{method} {path}");
            let error = &answer.json()["error"];
            assert_eq!(
                (error["code"].as_str(), error["reason"].as_str()),
                (Some(code), Some(reason)),
                "{error}"
            );
        }
        assert!(world.stored("mail").await.is_none() && world.stored("billing").await.is_some());

        let calls = json!([{"name": "orders-1"}, {"name": "billing"}, {"name": "nobody"}, {"name": "orders-none"}]);
        let results = ask("POST", "/functions/execute", calls).await.json();
        let statuses: Vec<_> = results
            .as_array()
            .expect("a list")
            .iter()
            .map(|r| r["status"].clone())
            .collect();
        assert_eq!(statuses, [200, 403, 403, 404], "{results}");
    }
}
