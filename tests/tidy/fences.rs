//! What may be written in one place only. Clippy watches some of it too, through aliases; this sees crates as well as calls,
//! and says the rule.

use crate::source::Source;
use crate::{fires, named, none, program, silent};

/// What may only be written in some places, in the program. A name that ends in `::` is a crate or a module of one.
const FENCES: [(&[&str], &[&str], &str); 12] = [
    (
        &[
            "hyper::",
            "hyper_util::",
            "http::",
            "http_body::",
            "http_body_util::",
            "axum::",
            "tower::",
        ],
        &["src/gateway", "src/api", "src/cli", "src/load"],
        "HTTP belongs to gateway, api, cli and load",
    ),
    (
        &["bollard::"],
        &["src/engine/docker", "src/engine/spec", "src/engine/sweep"],
        "bollard belongs to engine/{docker,spec,sweep}.rs",
    ),
    (
        &["redis::", "deadpool::"],
        &["src/store/redis"],
        "redis belongs to store/redis.rs",
    ),
    (
        &["redb::"],
        &["src/store/embedded"],
        "redb belongs to store/embedded.rs",
    ),
    (
        &["dashmap::"],
        &["src/pool/index"],
        "dashmap belongs to pool/index.rs",
    ),
    (
        &[
            "tokio::spawn",
            "task::spawn_blocking",
            "task::spawn_local",
            "task::JoinSet",
            "thread::spawn",
            "thread::Builder",
            "rayon::",
        ],
        &["src/task"],
        "only task.rs spawns",
    ),
    (
        &[
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
        ],
        &["src/clock"],
        "only clock.rs reads time",
    ),
    (
        &[
            "env::var",
            "env::vars",
            "env::var_os",
            "env::vars_os",
            "env::set_var",
            "env::remove_var",
        ],
        &["src/config/load", "src/cli"],
        "only config/load.rs, and cli for its own, reads the environment",
    ),
    (
        &[
            "metrics::counter!",
            "metrics::gauge!",
            "metrics::histogram!",
            "metrics::describe_counter!",
            "metrics::describe_gauge!",
            "metrics::describe_histogram!",
            "counter!",
            "gauge!",
            "histogram!",
        ],
        &["src/telemetry/metrics"],
        "only telemetry/metrics.rs names metrics",
    ),
    (
        &["process::exit", "process::abort"],
        &["src/main"],
        "only main.rs ends the process",
    ),
    (
        &["thread::sleep"],
        &[],
        "nothing sleeps on a thread: wait for what you wait for, with a deadline",
    ),
    (
        &[
            "unbounded_channel",
            "UnboundedSender",
            "UnboundedReceiver",
            "channel::unbounded",
            "mpsc::unbounded",
            "std::sync::mpsc::channel",
        ],
        &[],
        "every queue is bounded",
    ),
];

fn fences(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let inside = |place: &&str| {
            source
                .path
                .strip_prefix(place)
                .is_some_and(|rest| rest.starts_with(['/', '.']))
        };
        for (names, places, rule) in FENCES {
            if places.iter().any(inside) {
                continue;
            }
            for (number, line) in source.program() {
                if let Some(name) = names.iter().find(|name| named(&line.code, name)) {
                    found.push(format!("{}:{number}: {name}: {rule}", source.path));
                }
            }
        }
    }
    found
}

#[test]
fn what_is_fenced_in_stays_in_its_place() {
    none(fences(&program()));
    for line in [
        "use hyper::body::Incoming;",
        "fn f(h: http::HeaderMap) {}",
        "use axum::Router;",
        "use bollard::Docker;",
        "use redis::Client;",
        "use redb::Database;",
        "use dashmap::DashMap;",
        "let t = tokio::spawn(f);",
        "let t = tokio::task::spawn_blocking(f);",
        "std::thread::spawn(f);",
        "let t = Instant::now();",
        "let t = std::time::SystemTime::now();",
        "let v = std::env::var(\"HOME\");",
        "metrics::counter!(\"x\");",
        "gauge!(\"x\").set(1);",
        "std::process::exit(1);",
        "std::thread::sleep(d);",
        "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
        "let (a, b) = std::sync::mpsc::channel();",
    ] {
        fires(fences, "src/pool/keeper.rs", line);
        silent(fences, "src/pool/keeper.rs", &format!("// {line}"));
        silent(
            fences,
            "src/pool/keeper.rs",
            &format!("#[cfg(test)]\nmod tests {{ {line} }}"),
        );
    }
    for (path, line) in [
        ("src/cli/client.rs", "use hyper::Request;"),
        ("src/engine/docker.rs", "use bollard::Docker;"),
        ("src/pool/index.rs", "use dashmap::DashMap;"),
        ("src/clock.rs", "Instant::now()"),
        ("src/config/load.rs", "std::env::vars_os()"),
        (
            "src/pool/keeper.rs",
            "use crate::api::http::x; clock::now(); self.encounter!(); my_hyper::x; task::spawn(k, n, f);",
        ),
        ("src/pool/keeper.rs", "let elapsed = now - then;"),
    ] {
        silent(fences, path, line);
    }
    // A fence around a file is not one around everything that starts like it.
    fires(fences, "src/clockwork.rs", "Instant::now()");
}
