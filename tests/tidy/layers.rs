//! Which module may name which: the layers of the codebase, and that nothing names upwards.

use crate::source::Source;
use crate::{fires, is_word, named, none, program, silent};

/// Modules that anybody but `domain` may name.
const GROUND: [&str; 4] = ["clock", "domain", "task", "telemetry"];
/// Lowest first. Modules in the same row do not know each other.
const LAYERS: [&[&str]; 13] = [
    &["config", "secrets"],
    &["engine", "store"],
    &["runtime"],
    &["worker"],
    &["pool"],
    &["router"],
    &["scheduler"],
    &["queue", "sources"],
    &["api"],
    &["gateway"],
    &["doctor"],
    &["app"],
    &["sim"],
];
/// Where a lower module is out of sight all the same.
const OUT_OF_SIGHT: [(&str, &str); 5] = [
    ("api", "engine"),
    ("api", "worker"),
    ("gateway", "engine"),
    ("gateway", "worker"),
    ("router", "pool"),
];
/// Programs beside the server, and all they may name.
const BESIDE: [(&str, &[&str]); 2] = [
    (
        "cli",
        &["api", "clock", "config", "doctor", "domain", "load", "task"],
    ),
    ("load", &["api", "clock", "config", "domain", "task"]),
];

/// The top-level module a file belongs to.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The top-level modules a line names, through `crate::a` or `crate::{a, b::c}` on one line or many.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut group: Option<i32> = None;
    for (number, line) in source.program() {
        let mut rest = line.code.as_str();
        loop {
            if let Some(depth) = group.as_mut() {
                // Inside `crate::{`: names at depth one are modules.
                let mut word = String::new();
                let mut path_before = false;
                let mut end = None;
                for (at, c) in rest.char_indices() {
                    if is_word(c) {
                        word.push(c);
                        continue;
                    }
                    if *depth == 1 && !word.is_empty() && !path_before {
                        found.push((number, std::mem::take(&mut word)));
                    }
                    word.clear();
                    match c {
                        '{' => *depth += 1,
                        '}' => *depth -= 1,
                        _ => {}
                    }
                    path_before = c == ':';
                    if *depth == 0 {
                        end = Some(at + 1);
                        break;
                    }
                }
                if let Some(end) = end {
                    rest = &rest[end..];
                    group = None;
                    continue;
                }
                if *depth == 1 && !word.is_empty() && !path_before {
                    found.push((number, word));
                }
                break;
            }
            let Some(at) = rest.find("crate::") else {
                break;
            };
            rest = &rest[at + "crate::".len()..];
            if let Some(inner) = rest.strip_prefix('{') {
                (group, rest) = (Some(1), inner);
                continue;
            }
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            found.push((number, name));
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Why `from` may not name `to`, if it may not.
fn direction(from: &str, to: &str) -> Option<String> {
    let beside = BESIDE.iter().find(|(module, _)| *module == from);
    let allowed = match beside {
        _ if from == to => true,
        Some((_, allowed)) => allowed.contains(&to),
        None if from == "domain" => false,
        None if GROUND.contains(&to) => true,
        None if GROUND.contains(&from) => false,
        None => {
            let seen = !OUT_OF_SIGHT.contains(&(from, to));
            seen && matches!((layer(from), layer(to)), (Some(from), Some(to)) if to < from)
        }
    };
    (!allowed).then(|| format!("{from} may not name {to}: it is not below it"))
}

fn layers(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let from = module(&source.path);
        if matches!(from, "main" | "lib") {
            continue;
        }
        let placed = layer(from).is_some()
            || GROUND.contains(&from)
            || BESIDE.iter().any(|(m, _)| *m == from);
        if !placed {
            found.push(format!(
                "{}:1: {from} has no layer; give it one in tests/tidy.rs",
                source.path
            ));
            continue;
        }
        for (number, to) in modules_named(source) {
            if let Some(why) = direction(from, &to) {
                found.push(format!("{}:{number}: {why}", source.path));
            }
        }
        // From a file directly below the root, `super` is the root, and the direction could not be seen.
        let top = source.path.matches('/').count() == 1
            || source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 2;
        for (number, line) in source.program() {
            if top && named(&line.code, "super::") {
                found.push(format!(
                    "{}:{number}: super:: is the root here; write crate::",
                    source.path
                ));
            }
        }
    }
    found
}

#[test]
fn modules_name_only_what_is_below_them() {
    none(layers(&program()));
    for (path, line) in [
        ("src/pool/index.rs", "use crate::scheduler::x;"),
        ("src/pool/index.rs", "use crate::router::x;"),
        ("src/router/mod.rs", "fn f() { crate::pool::f() }"),
        ("src/api/mod.rs", "use crate::engine::Engine;"),
        (
            "src/gateway/mod.rs",
            "use crate::{worker::Call, domain::id};",
        ),
        ("src/engine/mod.rs", "use crate::store::x;"),
        ("src/store/mod.rs", "use crate::{domain, engine};"),
        ("src/domain/id.rs", "use crate::clock;"),
        ("src/clock.rs", "use crate::config::Config;"),
        ("src/cli/list.rs", "use crate::app;"),
        ("src/cli/list.rs", "use crate::store::Store;"),
        ("src/pool.rs", "use super::scheduler;"),
        ("src/pool/mod.rs", "use super::scheduler;"),
        ("src/misc.rs", "fn f() {}"),
    ] {
        fires(layers, path, line);
    }
    for (path, line) in [
        (
            "src/pool/index.rs",
            "use crate::worker::x; // not crate::scheduler",
        ),
        (
            "src/pool/index.rs",
            "use crate::{clock, domain::{id, limits::{self}}, pool::state};",
        ),
        ("src/pool/index.rs", "use super::state;"),
        ("src/app.rs", "use crate::gateway; use crate::api;"),
        (
            "src/scheduler/mod.rs",
            "use crate::{\n    pool::Lease,\n    router::Table,\n};",
        ),
        ("src/cli/list.rs", "use crate::api::wire;"),
        ("src/domain/id.rs", "#[cfg(test)]\nuse crate::app;"),
    ] {
        silent(layers, path, line);
    }
    let many = Source::new(
        "src/pool/a.rs",
        "use crate::{\n    worker::Call,\n    app,\n    domain::{\n        id,\n    },\n    gateway::x,\n};",
    );
    let found = layers(&[many]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("src/pool/a.rs:3: ") && found[1].starts_with("src/pool/a.rs:7: "),
        "{found:?}"
    );
}
