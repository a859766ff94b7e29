//! The engine as somebody else sees it: the `docker` command, each time with a deadline, because an engine can hang.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SECONDS: &str = "60";

/// Runs `docker` and returns what it printed, if it succeeded.
pub(crate) fn docker(arguments: &[&str]) -> Result<String, String> {
    docker_at(None, arguments)
}

/// The same against another engine than everybody's.
pub(crate) fn docker_at(engine: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let host = engine.map(|socket| format!("--host=unix://{}", socket.display()));
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("timeout")
        .args(["--kill-after=5", SECONDS, "docker"])
        .args(host)
        .args(arguments)
        .output()
        .expect("docker and timeout are installed");
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    } else {
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        Err(format!("docker {arguments:?}: {status}: {stderr}"))
    }
}

/// Ids of the containers with this label, running or not.
pub(crate) fn labelled(label: &str) -> Vec<String> {
    labelled_at(None, label)
}

pub(crate) fn labelled_at(engine: Option<&Path>, label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    let all = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
    let list = docker_at(engine, &all);
    list.expect("the engine lists containers")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What `docker inspect` says of a container; `None` when there is no such one.
pub(crate) fn inspect(container: &str) -> Option<Value> {
    let text = docker(&["inspect", "--type=container", container]).ok()?;
    let list: Value = serde_json::from_str(&text).expect("inspect answers JSON");
    Some(list[0].clone())
}

/// Removes containers; those that are gone are no fault.
pub(crate) fn remove(containers: &[String]) {
    remove_at(None, containers);
}

pub(crate) fn remove_at(engine: Option<&Path>, containers: &[String]) {
    if !containers.is_empty() {
        let mut arguments = vec!["rm", "--force"];
        arguments.extend(containers.iter().map(String::as_str));
        if let Err(error) = docker_at(engine, &arguments) {
            eprintln!("{error}");
        }
    }
}
