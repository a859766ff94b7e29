//! A real Prometheus scrapes a Hearth under load, and so does one that takes native histograms: every panel's query gives data, every alert rule
//! can be evaluated, and none fires.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use http::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::collector::Collector;
use crate::server::{Server, State};
use crate::sharing::Redis;
use crate::wait::{PATIENCE, blocking, eventually};

/// What may have no data here, and why.
const ABSENT: [(&str, &str); 5] = [
    ("hearth_certificate_reads_total", "it has no certificate"),
    (
        "hearth_engine_errors_total",
        "the engine may well do everything",
    ),
    ("hearth_store_errors_total", "so may the store"),
    ("hearth_start_failures_total", "so may the containers"),
    (
        "hearth_permit_waits_total",
        "permits may be at hand whenever they are needed",
    ),
];

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// The text with the one place that says `from` saying `to`.
fn swap(text: &str, from: &str, to: &str) -> String {
    // In its comments it may be spoken of.
    let said = text.lines().filter(|line| !line.trim().starts_with('#'));
    assert_eq!(said.filter(|line| line.contains(from)).count(), 1, "{from}");
    text.replace(from, to)
}

struct Prometheus {
    child: Child,
    client: Client,
    _directory: tempfile::TempDir,
}

/// Makes Prometheus ask for protobuf, and keep native histograms instead of the classic ones.
const NATIVE: &str = "--enable-feature=native-histograms";

impl Prometheus {
    fn watching(server: &Server, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // What compose runs, with the server's address and its key's path instead of the container's.
        let config = std::fs::read_to_string(grafana().join("prometheus.yml")).unwrap();
        let key = server.state().path().join("admin.key");
        let config = swap(&config, "hearth:8080", &server.client.address);
        let config = swap(
            &config,
            "/var/lib/hearth/admin.key",
            &key.display().to_string(),
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // Beside it, as in the container.
        std::fs::copy(
            grafana().join("alerts.yml"),
            directory.path().join("alerts.yml"),
        )
        .unwrap();
        // Given back before it is taken again; nobody else asks for ports of this range without being given one.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={port}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed; scripts/setup.sh sees to it");
        let client = Client {
            address: port.to_string(),
            key: None,
        };
        Self {
            child,
            client,
            _directory: directory,
        }
    }

    async fn ready(&mut self) {
        let client = self.client.clone();
        blocking(PATIENCE, || {
            assert!(self.child.try_wait().unwrap().is_none(), "prometheus ended");
            std::net::TcpStream::connect(&client.address).ok()
        })
        .expect("it listens");
        eventually("prometheus to be ready", || async {
            (client.get("/-/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// The samples of an instant query.
    async fn query(&self, expression: &str) -> Vec<f64> {
        let body = form(&[("query", expression)]);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self
            .client
            .send_with(Method::POST, "/api/v1/query", &headers, body)
            .await;
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let samples = answer["data"]["result"].as_array().unwrap().iter();
        samples
            .map(|s| s["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// What `label_values(metric, label)`, the query of a dashboard's variable, gives the menu.
    async fn values(&self, variable: &str) -> Vec<String> {
        let inside = variable
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(")"))
            .unwrap_or_else(|| panic!("{variable} is no query this test can send"));
        let (metric, label) = inside.rsplit_once(", ").expect("a metric and a label");
        let path = format!(
            "/api/v1/label/{label}/values?{}",
            form(&[("match[]", metric)])
        );
        let answer = self.client.get(&path).await.json();
        assert_eq!(answer["status"], "success", "{variable}: {answer}");
        let values = answer["data"].as_array().unwrap().iter();
        values.map(|v| v.as_str().unwrap().to_owned()).collect()
    }

    /// Waits for so many more scrapes.
    async fn scrapes(&self, more: f64) {
        let count = async || self.query("count_over_time(up{job=\"hearth\"}[10m])").await;
        let before = count().await.first().copied().unwrap_or(0.0);
        eventually("prometheus to scrape", || async {
            let now = count().await.first().copied().unwrap_or(0.0);
            (now >= before + more).then_some(())
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Something of everything that is counted, always by the same functions: a counter has a rate once it has risen between two scrapes.
async fn load(server: &Server, round: usize) {
    let code = "def handler(event, context):\n    if event: raise ValueError\n    return 1\n#";
    let name = |n: usize| format!("observed-{n}");
    // Another version every time, so that they have to be started. More at once than there are stem workers: some need a container.
    for n in 0..3 {
        put(server, &name(n), &format!("{code} {round}"), round).await;
    }
    let names: Vec<_> = (0..3).map(name).collect();
    let calls = names
        .iter()
        .map(|name| async move { server.call(name, &json!(0)).await });
    for answer in futures_util::future::join_all(calls).await {
        answer.expect(200);
    }
    let (called, path) = (name(0), format!("/functions/{}/execute", name(0)));
    for _ in 0..20 {
        server.call(&called, &json!(0)).await.expect(200);
    }
    server.call(&called, &json!(1)).await.error(502);
    // More than there are workers: some wait in line.
    let event = json!(0);
    let together = (0..8).map(|_| server.call(&called, &event));
    futures_util::future::join_all(together).await;
    let settings = format!("/functions/{called}");
    let most = async |calls: Value| {
        let change = json!({ "max_concurrency": calls });
        server.client.put(&settings, &change).await.expect(200);
    };
    most(json!(0)).await;
    server.call(&called, &json!(0)).await.error(429);
    most(Value::Null).await;
    let key = format!("{called}-{round}");
    let later = [
        ("x-amz-invocation-type", "Event"),
        ("idempotency-key", key.as_str()),
    ];
    let accepted = server.client.send_with(Method::POST, &path, &later, "0");
    accepted.await.expect(202);
    let stranger = Client {
        key: Some("nobody's".into()),
        ..server.client.clone()
    };
    stranger.post(&path, &json!(0)).await.error(401);
    let dies = "import os\ndef handler(event, context): os._exit(1)";
    put(server, &name(9), dies, round).await;
    server.call(&name(9), &json!(0)).await.error(502);
}

/// Makes the function, in the first round, or changes its code.
async fn put(server: &Server, name: &str, code: &str, round: usize) {
    if round == 0 {
        server.deploy(name, code, json!({})).await;
    } else {
        let path = format!("/functions/{name}");
        let changed = json!({ "code": code });
        server.client.put(&path, &changed).await.expect(200);
    }
}

fn dashboard(file: &str) -> Value {
    let text = std::fs::read_to_string(grafana().join("dashboards").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The variables of a dashboard that Prometheus is asked for, each with its query.
fn variables(file: &str) -> Vec<(String, String)> {
    let dashboard = dashboard(file);
    let all = dashboard["templating"]["list"].as_array().unwrap().iter();
    all.filter(|variable| variable["type"] == "query")
        .map(|variable| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            // Grafana sends the one, and shows the other.
            assert_eq!(variable["query"]["query"], variable["definition"], "{file}");
            (text(&variable["name"]), text(&variable["definition"]))
        })
        .collect()
}

/// The queries of a dashboard, each with its panel's title, as Grafana would send them.
fn queries(file: &str) -> Vec<(String, String)> {
    let dashboard = dashboard(file);
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                // Long enough for all of the load, however slow the machine.
                .replace("$__rate_interval", "10m")
                .replace("$instance", ".+")
                .replace("$function", "observed-.+");
            let title = panel["title"].as_str().unwrap();
            found.push((format!("{file}: {title}"), expression));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_and_no_alert_fires() {
    let redis = Redis::start();
    let url = redis.url();
    let collector = Collector::start().await;
    let endpoint = collector.url();
    let settings = [
        ("traces.endpoint", endpoint.as_str()),
        ("store.url", url.as_str()),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    let server = Server::start_on(State::new(), &settings);
    server.settled(1).await;
    let mut classic = Prometheus::watching(&server, &[]);
    let mut native = Prometheus::watching(&server, &[NATIVE]);
    for prometheus in [&mut classic, &mut native] {
        prometheus.ready().await;
    }
    let both = [("classic", &classic), ("native", &native)];
    let dashboards = std::fs::read_dir(grafana().join("dashboards")).unwrap();
    let names = dashboards.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.collect();
    let queries: Vec<_> = names.iter().flat_map(|name| queries(name)).collect();
    assert!(queries.len() > 100, "{} queries", queries.len());
    let deadline = std::time::Instant::now() + PATIENCE;
    for round in 0.. {
        load(&server, round).await;
        let mut empty = Vec::new();
        for (kind, prometheus) in both {
            prometheus.scrapes(2.0).await;
            for (title, expression) in &queries {
                let samples = prometheus.query(expression).await;
                let explained = ABSENT.iter().any(|(name, _)| expression.contains(name));
                if !explained && !samples.iter().any(|sample| sample.is_finite()) {
                    empty.push(format!("{kind}, {title}: {expression}: {samples:?}"));
                }
            }
        }
        if empty.is_empty() {
            break;
        }
        // Which function finds the stem worker is chance, and so is which counters have risen by now.
        let late = std::time::Instant::now() > deadline && round > 3;
        assert!(
            !late,
            "without data after {round} rounds:\n{}",
            empty.join("\n")
        );
        server.settled(1).await;
    }

    for (kind, prometheus) in both {
        // Each has one sort of histograms and not the other: no query was answered by what is in both.
        let bucket = r#"{__name__=~"hearth_.+_seconds_bucket"}"#;
        let classic = prometheus.query(bucket).await.len();
        let native = prometheus
            .query("histogram_count(hearth_invocation_seconds)")
            .await;
        let right = if kind == "native" {
            classic == 0 && !native.is_empty()
        } else {
            classic > 0 && native.is_empty()
        };
        assert!(right, "{kind}: {classic} buckets, {native:?}");
        agrees(prometheus).await;
        // Of the rules the one that asks for histograms.
        has_data(prometheus, "HearthCallsWait").await;
        menus_are_right(prometheus, &server, &names).await;
        rules_are_quiet(prometheus).await;
    }
}

/// Calls are counted, and the same ones timed.
async fn agrees(prometheus: &Prometheus) {
    let calls = r#"sum(hearth_invocations_total{start!="none"})"#;
    let timed =
        "(sum(histogram_count(hearth_invocation_seconds)) or sum(hearth_invocation_seconds_count))";
    assert!(prometheus.query(calls).await[0] > 0.0);
    // A scrape may come between the one and the other.
    eventually("as many calls to be timed as counted", || async {
        let differ = prometheus.query(&format!("{calls} - {timed}")).await;
        (differ == [0.0]).then_some(())
    })
    .await;
}

/// The rule's expression gives data when nothing is too little for it: that it does not fire is not for want of it.
async fn has_data(prometheus: &Prometheus, rule: &str) {
    let text = std::fs::read_to_string(grafana().join("alerts.yml")).unwrap();
    let rule = text
        .split(RULE)
        .find(|text| text.starts_with(rule))
        .unwrap();
    let (_, rest) = rule.split_once("expr: |").expect("an expression");
    let (expression, _) = rest.split_once("        for:").expect("how long");
    let anything = [("> 0.1", ">= 0"), ("> 1", ">= 0"), ("[5m]", "[10m]")]
        .iter()
        .fold(expression.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from} in {text}");
            text.replace(from, to)
        });
    eventually("a rule to have data", || async {
        let samples = prometheus.query(&anything).await;
        samples
            .iter()
            .any(|sample| sample.is_finite())
            .then_some(())
    })
    .await;
}

/// What the menus of the dashboards offer to choose from.
async fn menus_are_right(prometheus: &Prometheus, server: &Server, names: &[String]) {
    for name in names {
        let variables = variables(name);
        assert!(!variables.is_empty(), "{name} has no variables");
        for (variable, query) in variables {
            let values = prometheus.values(&query).await;
            let right = match variable.as_str() {
                "instance" => values == [server.client.address.as_str()],
                "function" => ["observed-0", "observed-1", "observed-2", "observed-9"]
                    .iter()
                    .all(|function| values.iter().any(|value| value == function)),
                other => panic!("{name}: nothing says what ${other} has to offer"),
            };
            assert!(right, "{name}: ${variable}, {query}: {values:?}");
        }
    }
}

async fn rules_are_quiet(prometheus: &Prometheus) {
    let rules = eventually("every rule to be evaluated", || async {
        let rules = prometheus.client.get("/api/v1/rules").await.json();
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        let known = rules.iter().all(|rule| rule["health"] != "unknown");
        known.then_some(rules)
    })
    .await;
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}

/// What promtool says to this, in a directory; an error if it fails.
fn promtool(directory: &Path, line: [&str; 3]) -> Result<String, String> {
    let mut command = Command::new("promtool");
    command
        .args(line)
        .current_dir(directory)
        .stdin(Stdio::null());
    let said: Output = command
        .output()
        .expect("promtool comes with prometheus; scripts/setup.sh sees to it");
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    match said.status.success() {
        true => Ok(text.into_owned()),
        false => Err(format!("{line:?}: {text}")),
    }
}

const CHECK: [&str; 3] = ["check", "rules", "alerts.yml"];
const TEST: [&str; 3] = ["test", "rules", "alerts.test.yml"];

#[test]
fn the_alert_rules_fire_when_they_should() {
    for line in [CHECK, TEST] {
        promtool(&grafana(), line).unwrap();
    }
}

/// The start of each rule in the file.
const RULE: &str = "      - alert: ";

/// What can be wrong with a rule, with the rule as it would be then.
fn mutants(rule: &str) -> Vec<(&'static str, String)> {
    let lines: Vec<&str> = rule.split_inclusive('\n').collect();
    let at = |key: &str| {
        let start = format!("        {key}:");
        lines.iter().position(|line| line.starts_with(&start))
    };
    let with = |from: usize, to: usize, line: &str| {
        [&lines[..from].concat(), line, &lines[to..].concat()].concat()
    };
    let first = at("expr").expect("an expression");
    // The rest of it is further in.
    let deeper = lines[first + 1..]
        .iter()
        .take_while(|line| line.starts_with("          "));
    let after = first + 1 + deeper.count();
    let never = with(first, after, "        expr: vector(0) > 1\n");
    let mut mutants = vec![("never fires", never)];
    if let Some(at) = at("for") {
        let minutes: u32 = lines[at]
            .trim()
            .trim_start_matches("for: ")
            .trim_end_matches('m')
            .parse()
            .expect("so many minutes");
        let late = format!("        for: {}m\n", minutes + 1);
        mutants.push(("fires at once", with(at, at + 1, "")));
        mutants.push(("fires a minute late", with(at, at + 1, &late)));
    }
    mutants
}

/// The tests of the rules would see it if one of them were wrong. No rule is about another, so all are changed at once.
#[test]
fn an_alert_rule_that_never_fires_or_at_the_wrong_time_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::copy(grafana().join("alerts.test.yml"), path("alerts.test.yml")).unwrap();
    let text = std::fs::read_to_string(grafana().join("alerts.yml")).unwrap();
    let (head, rules) = text.split_once(RULE).expect("a rule");
    let rules: Vec<&str> = rules.split(RULE).collect();
    let mutants: Vec<_> = rules.iter().map(|rule| mutants(rule)).collect();
    for (what, fewest) in [
        ("never fires", rules.len()),
        ("fires at once", 10),
        ("fires a minute late", 10),
    ] {
        let mut wrong = head.to_owned();
        let mut names = Vec::new();
        for (rule, mutants) in rules.iter().zip(&mutants) {
            let mutant = mutants.iter().find(|(other, _)| *other == what);
            if mutant.is_some() {
                names.push(rule.lines().next().unwrap());
            }
            wrong.push_str(RULE);
            wrong.push_str(mutant.map_or(rule, |(_, mutant)| mutant));
        }
        assert!(names.len() >= fewest, "{what}: {names:?}");
        std::fs::write(path("alerts.yml"), wrong).unwrap();
        promtool(directory.path(), CHECK).unwrap();
        let said = promtool(directory.path(), TEST).expect_err(what);
        for name in names {
            let failed = format!("alertname: {name},");
            assert!(said.contains(&failed), "no test fails if {name} {what}");
        }
    }
}
