//! Hearth in a container, beside the engine whose containers it manages, with the mounts and the command that `docker-compose.yml` gives it.
//! Only what needs a network of containers is left out: it keeps its definitions itself, and is asked from within.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::containers::{docker, inspect, remove};
use crate::server::State;
use crate::wait::{PATIENCE, blocking};
use crate::{containers, languages};

const IMAGE: &str = "debian:trixie-slim";
/// Where the image has the runtimes.
const RUNTIMES: &str = "/usr/share/hearth/runtimes";

fn compose() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("docker-compose.yml")).unwrap()
}

/// The items of a list of a service.
fn items(compose: &str, service: &str, list: &str) -> Vec<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines = compose.lines().filter(|line| {
        let text = line.trim();
        !text.is_empty() && !text.starts_with('#')
    });
    let own = lines
        .skip_while(|line| *line != format!("  {service}:"))
        .skip(1)
        .take_while(|line| depth(line) > 2);
    let found: Vec<String> = own
        .skip_while(|line| *line != format!("    {list}:"))
        .skip(1)
        .take_while(|line| depth(line) > 4)
        .map(|line| line.trim().trim_start_matches("- ").to_owned())
        .collect();
    assert!(!found.is_empty(), "{service} has no {list}");
    found
}

/// A container of the built program, in the place of the image's.
struct Contained {
    id: String,
    state: State,
}

impl Contained {
    fn start() -> Self {
        let state = State::new();
        let directory = state.path().display().to_string();
        let compose = compose();
        let own = |text: &str| text.replace("${STATE_DIR:-/var/lib/hearth}", &directory);
        let program = format!("{}:/usr/local/bin/hearth:ro", env!("CARGO_BIN_EXE_hearth"));
        let runtimes = format!("{}:{RUNTIMES}:ro", languages::folder().display());
        let mut line: Vec<String> = ["run", "--detach", "--init", "--network=none"]
            .map(str::to_owned)
            .into();
        for volume in items(&compose, "hearth", "volumes") {
            line.push(format!("--volume={}", own(&volume)));
        }
        line.push(format!("--volume={program}"));
        line.push(format!("--volume={runtimes}"));
        line.extend([IMAGE, "hearth"].map(str::to_owned));
        for argument in items(&compose, "hearth", "command") {
            line.push(match argument.starts_with("--store=") {
                true => "--store=embedded".to_owned(),
                false => own(&argument),
            });
        }
        line.extend(["--set=pool.stem_min=1", "--set=pool.stem_max=1"].map(str::to_owned));
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let id = docker(&line).expect("a container");
        Self { id, state }
    }

    /// A command of the program, for the instance it runs beside.
    fn hearth(&self, line: &[&str]) -> Result<String, String> {
        let directory = format!("HEARTH_STATE_DIR={}", self.state.path().display());
        let mut all = vec!["exec", "--env", &directory, &self.id, "hearth"];
        all.extend(line);
        docker(&all)
    }

    fn log(&self) -> String {
        let said = Command::new("docker").args(["logs", &self.id]).output();
        let said = said.unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
    }

    fn eventually<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        let found = blocking(PATIENCE * 10, look);
        found.unwrap_or_else(|| panic!("waited in vain for {what}\n{}", self.log()))
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        remove(std::slice::from_ref(&self.id));
    }
}

#[test]
fn a_hearth_in_a_container_runs_functions_in_containers_beside_it() {
    let contained = Contained::start();
    // The first start on a machine builds the runtimes' images.
    contained.eventually("a stem worker of each runtime", || {
        let all = contained.state.containers();
        (all.len() >= languages::all().len()).then_some(())
    });
    let template = format!("{RUNTIMES}/python3.13/template");
    let deployed = contained.hearth(&["deploy", &template, "--name", "inner"]);
    deployed.unwrap_or_else(|error| panic!("{error}\n{}", contained.log()));
    for _ in 0..2 {
        let answer = contained.hearth(&["invoke", "inner", "--data", "{\"name\": \"you\"}"]);
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", contained.log()));
        assert!(answer.contains("Hello, you!"), "{answer}");
    }
    let starts = contained.hearth(&["starts", "inner", "--json"]).unwrap();
    let starts: Value = serde_json::from_str(&starts).unwrap();
    let items = starts["items"].as_array();
    assert_eq!(items.map(Vec::len), Some(1), "{starts}");

    // A worker that has to be killed is, though its process cannot be seen from in there.
    let source = contained.state.path().join("hangs.py");
    std::fs::write(
        &source,
        "import time\ndef handler(event, context):\n    time.sleep(60)\n",
    )
    .unwrap();
    let source = source.display().to_string();
    let made = contained.hearth(&["deploy", &source, "--name", "hangs", "--timeout", "1"]);
    made.unwrap_or_else(|error| panic!("{error}\n{}", contained.log()));
    let late = contained.hearth(&["invoke", "hangs"]).unwrap_err();
    assert!(
        late.contains("timeout") || late.contains("timed out"),
        "{late}"
    );

    docker(&["stop", "--time=60", &contained.id]).expect("stops");
    let ended = inspect(&contained.id).expect("is there until it is removed");
    assert_eq!(ended["State"]["ExitCode"], 0, "{}", contained.log());
    let instance = std::fs::read_to_string(contained.state.path().join("instance")).unwrap();
    let label = format!("hearth.instance={}", instance.trim());
    assert_eq!(containers::labelled(&label), [""; 0], "{}", contained.log());
}

#[test]
fn the_compose_file_can_be_read() {
    let compose = compose();
    let volumes = items(&compose, "hearth", "volumes");
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    let command = items(&compose, "hearth", "command");
    assert_eq!(command[0], "serve");
    // By the program itself, as `up` without more would start them. What has a profile is shown too, and would not be started.
    let mut command = Command::new("docker-compose");
    let said = command
        .arg("config")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("docker-compose is installed; scripts/setup.sh sees to it");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    for service in ["hearth", "redis", "prometheus", "grafana"] {
        assert!(
            text.contains(&format!("\n  {service}:\n")),
            "{service}: {text}"
        );
    }
    assert!(!text.contains("profiles:"), "{text}");
    // What Prometheus is given is where its configuration says.
    let volumes = items(&compose, "prometheus", "volumes");
    for file in ["prometheus.yml", "alerts.yml"] {
        let mount = format!("./grafana/{file}:/etc/prometheus/{file}:ro");
        assert!(volumes.contains(&mount), "{volumes:?}");
    }
}
