//! The program as people run it: a server of its own, and every command against it, from the first deploy to the last line of the
//! stop. What is looked at is what is printed and the exit codes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::languages;
use crate::server::{Server, State, without_settings};
use crate::wait::{LOOK_AGAIN, PATIENCE, blocking};

const LOOKUP: &str = "\
def handler(event, context):
    print('looking up', event['name'], flush=True)
    return {'a': 1}[event['name']]
";

/// What a command printed and how it ended.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "what fails has no result");
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

/// The program, in an environment that says nothing about any instance.
fn hearth(line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    without_settings(&mut command)
        .stdin(Stdio::null())
        .args(line);
    command
}

/// A command for the instance of this state directory.
fn command(state: &State, line: &[&str]) -> Command {
    let mut command = hearth(line);
    command.env("HEARTH_STATE_DIR", state.path());
    command
}

fn run(state: &State, line: &[&str]) -> Said {
    command(state, line).output().unwrap().into()
}

#[test]
fn every_command_from_the_first_deploy_to_the_stop() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    let state = server.state();
    templates(state);
    errors(state);
    logs(state);
    settings(state);
    checks(state);
    deletion(state);
    assert!(
        !state.containers().is_empty(),
        "warm workers are containers"
    );

    let state = server.stop();
    assert_eq!(state.containers(), [""; 0], "a stop leaves no container");
    let refused = run(&state, &["env"]).failed(1);
    assert!(refused.contains("no Hearth runs on"), "{refused}");
    assert!(refused.contains("hearth serve"), "{refused}");
}

/// The template of every runtime there is, as `make up` deploys them.
fn templates(state: &State) {
    assert!(run(state, &["list"]).ok().is_empty());
    let runtimes = languages::all();
    for runtime in &runtimes {
        let (folder, name) = (
            runtime.folder.join("template"),
            format!("hello-{}", runtime.names[0]),
        );
        let folder = folder.to_str().unwrap();
        let deploy = ["deploy", folder, "--name", &name];
        let created = run(state, &deploy).ok();
        assert!(
            created.starts_with(&format!("created {name}: {}, ", runtime.id)),
            "{created}"
        );
        let again = run(state, &deploy).ok();
        assert!(again.starts_with(&format!("unchanged {name}: ")), "{again}");

        let answer = run(
            state,
            &["invoke", &name, "--data", "{\"name\": \"you\"}", "-v"],
        );
        assert!(answer.err.contains(" start · queue "), "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.ok()).unwrap();
        assert!(answer.to_string().contains("you"), "{answer}");
        let second = run(state, &["invoke", &name, "--json"]).json();
        assert_eq!(second["start"], "warm", "{second}");
        assert!(second["timings_ms"]["run"].is_number(), "{second}");

        let updated = run(
            state,
            &[&deploy[..], &["--memory", "256", "--env", "A=1"]].concat(),
        )
        .ok();
        assert!(
            updated.contains("\n  environment: +A\n  memory: 128 → 256\n"),
            "{updated}"
        );
        assert!(run(state, &["list"]).ok().contains(&format!("\n{name} ")));
    }
    let listed = run(state, &["list", "--json"]).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), runtimes.len());
}

fn errors(state: &State) {
    let file = state.beside("lookup.py");
    std::fs::write(&file, LOOKUP).unwrap();
    let file = file.to_str().unwrap();
    let created = run(state, &["deploy", file, "--timeout", "5"]);
    assert!(
        created.err.contains("--runtime says otherwise"),
        "{created:?}"
    );
    assert!(created.ok().starts_with("created lookup: "));
    let failed = run(state, &["invoke", "lookup", "--data", "{\"name\": \"b\"}"]).failed(1);
    assert!(failed.starts_with("error: KeyError: 'b'\n"), "{failed}");
    assert!(
        failed.contains("looking up b") && failed.contains("lookup.py"),
        "{failed}"
    );

    let wrong = run(
        state,
        &["deploy", file, "--timeout", "4000", "--memory", "1"],
    )
    .failed(1);
    assert!(
        wrong.contains("\n  timeout: ") && wrong.contains("\n  memory: "),
        "{wrong}"
    );
    let typed = run(state, &["invoke", "lookup", "--data", "{name: 1}"]).failed(2);
    assert!(typed.contains("not JSON"), "{typed}");
    let nobody = run(state, &["invoke", "nobody"]).failed(1);
    assert!(nobody.contains("hint: 'hearth list'"), "{nobody}");
    let locked = run(state, &["list", "--key", "wrong"]).failed(1);
    assert!(locked.contains("HEARTH_KEY"), "{locked}");
}

fn logs(state: &State) {
    let follow = ["logs", "lookup", "--follow", "--limit", "0", "--json"];
    let mut follow = command(state, &follow);
    let mut follower = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (sender, printed) = sync_channel(1);
    let reading = std::thread::spawn(move || sender.send(lines.next().unwrap().unwrap()));
    // Calls until a line arrives: a follower says nothing when it has connected.
    let line = blocking(PATIENCE, || {
        let call = run(state, &["invoke", "lookup", "--data", "{\"name\": \"a\"}"]);
        assert_eq!(call.ok(), "1\n");
        printed.recv_timeout(Duration::from_millis(200)).ok()
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    reading.join().unwrap().unwrap();
    let line = line.expect("a line in time");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["text"], "looking up a");
    let id = line["request_id"].as_str().unwrap();
    let of_call = run(state, &["logs", "lookup", "--request-id", id]).ok();
    assert!(of_call.ends_with(" looking up a\n"), "{of_call}");
    assert_eq!(of_call.lines().count(), 1, "{of_call}");
}

/// An address that is free, and stays so while nobody listens on it: connections that are made begin at higher ports.
fn address() -> String {
    let addresses = (20_000..32_000).map(|port| format!("127.0.0.1:{port}"));
    let from = std::process::id() as usize % 10_000;
    let free = addresses
        .skip(from)
        .find(|address| TcpListener::bind(address).is_ok());
    free.expect("one of two thousand")
}

/// Follows from one life of the server into the next, in which lines have numbers they had before.
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_through_a_restart() {
    let listen = address();
    let settings = [("server.listen", listen.as_str()), ("pool.stem_min", "0")];
    let server = Server::start(&settings);
    let code = "def handler(event, context): print(event)";
    server.deploy("printer", code, json!({})).await;
    let follow = ["logs", "printer", "--follow", "--limit", "0", "--json"];
    let mut follow = command(server.state(), &follow);
    follow.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut follower = follow.spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (sender, printed) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in lines {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let text = line["text"].as_str().unwrap().to_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    // What it has printed until it prints this; called again and again if it may not have connected.
    let until = async |server: &Server, last: &str, again: bool| {
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        while !seen.iter().any(|text| text == last) {
            assert!(Instant::now() < deadline, "{last} not among {seen:?}");
            if again {
                server.call("printer", &json!(last)).await.expect(200);
            }
            seen.extend(printed.try_iter());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        seen
    };
    // It says nothing when it has connected.
    until(&server, "connected", true).await;
    until(&server, "before", true).await;
    let server = Server::start_on(server.stop(), &settings);
    let wanted: Vec<_> = (0..20).map(|n| format!("after {n}")).collect();
    for text in &wanted {
        server.call("printer", &json!(text)).await.expect(200);
    }
    let mut after = until(&server, wanted.last().unwrap(), false).await;
    after.retain(|text| text.starts_with("after"));
    follower.kill().unwrap();
    follower.wait().unwrap();
    reading.join().unwrap();
    assert_eq!(after, wanted);
}

/// `eval "$(hearth env)"` is all a shell needs.
fn settings(state: &State) {
    let script = format!(
        "eval \"$('{hearth}' env --state-dir '{state}')\" && '{hearth}' list && echo $AWS_ACCESS_KEY_ID",
        hearth = env!("CARGO_BIN_EXE_hearth"),
        state = state.path().display()
    );
    let mut shell = Command::new("sh");
    shell
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", &script]);
    let said = Said::from(shell.output().unwrap()).ok();
    assert!(
        said.contains("lookup ") && said.contains("\nHEARTH"),
        "{said}"
    );
}

fn checks(state: &State) {
    let runtimes = languages::folder();
    let found = run(
        state,
        &["doctor", "--json", "--runtimes", runtimes.to_str().unwrap()],
    );
    let found: Value = serde_json::from_str(&found.out).unwrap();
    let verdict = |about: &str| {
        let checks = found["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["about"] == about);
        check.unwrap_or_else(|| panic!("{about}: {found}"))["verdict"].clone()
    };
    for about in [
        "engine socket",
        "engine",
        "control groups",
        "mounts",
        "filesystem",
        "runtimes",
    ] {
        assert_eq!(verdict(about), "ok", "{about}: {found}");
    }
    assert_eq!(verdict("image, python3.13"), "ok", "the server built it");
    let lost = run(
        state,
        &["doctor", "--json", "--set", "engine.socket=/no/engine.sock"],
    );
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert!(lost.out.contains("there is no /no/engine.sock"), "{lost:?}");
}

fn deletion(state: &State) {
    let unsure = run(state, &["delete", "lookup"]).failed(2);
    assert!(unsure.contains("--yes"), "{unsure}");
    assert_eq!(
        run(state, &["delete", "lookup", "--yes"]).ok(),
        "deleted lookup\n"
    );
    run(state, &["invoke", "lookup"]).failed(1);
}

#[test]
fn a_configuration_with_faults_is_refused_whole() {
    let line = [
        "serve",
        "--listen",
        "here",
        "--set",
        "pool.keep_alve=1m",
        "--set",
        "limits.batch_max=x",
    ];
    let refused = Said::from(hearth(&line).output().unwrap()).failed(2);
    assert!(
        refused.starts_with("error: the configuration has faults\n"),
        "{refused}"
    );
    for fault in ["server.listen", "pool.keep_alve", "limits.batch_max"] {
        assert!(
            refused.contains(&format!("\n  {fault} (command line): ")),
            "{refused}"
        );
    }
    let dumped = Said::from(hearth(&["serve", "--dump-config"]).output().unwrap()).ok();
    assert!(
        dumped.starts_with("[server]\nlisten = \"127.0.0.1:8080\"\n"),
        "{dumped}"
    );
}
