//! A Hearth of a test's own, or one that tests share: the built program on a state directory that is gone afterwards. How it ends is
//! part of every test: it must stop when it is told to, have logged no warning the test did not announce, and leave neither a
//! container nor a worker's directory behind.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client};
use crate::proxy::{Mode, Proxy};
use crate::wait::{PATIENCE, blocking, eventually};
use crate::{containers, languages, sweep};

/// The first start on a machine builds the runtimes' images.
const READY_WITHIN: Duration = Duration::from_secs(15 * 60);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// What stays when a server is gone. Dropped, it makes sure that nothing else did.
#[derive(Debug)]
pub(crate) struct State {
    directory: TempDir,
    /// The socket of the engine its containers are in, if that is not everybody's.
    engine: Option<PathBuf>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) client: Client,
    /// Taken by whoever needs it after the server's end.
    state: Option<State>,
    log: PathBuf,
    /// Parts of the warnings and errors that may be in the log.
    expected: Mutex<Vec<String>>,
    /// Where its engine is only to be reached through one; it is needed to the end.
    proxy: Option<Proxy>,
}

impl State {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hearth-it-").tempdir();
        Self {
            directory: directory.unwrap(),
            engine: None,
        }
    }

    /// One whose containers are in an engine of the test's own.
    pub(crate) fn on(engine: &Path) -> Self {
        let mut state = Self::new();
        state.engine = Some(engine.to_owned());
        state
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A place for a test's own files.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn key(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("admin.key")).unwrap();
        text.trim().to_owned()
    }

    /// Ids of all containers of this instance.
    pub(crate) fn containers(&self) -> Vec<String> {
        let instance = std::fs::read_to_string(self.path().join("instance"));
        match instance {
            Ok(instance) => {
                let label = format!("hearth.instance={}", instance.trim());
                containers::labelled_at(self.engine.as_deref(), &label)
            }
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn worker_directories(&self) -> Vec<PathBuf> {
        let list = std::fs::read_dir(self.path().join("workers"));
        list.map(|list| list.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let (left, directories) = (self.containers(), self.worker_directories());
        containers::remove_at(self.engine.as_deref(), &left);
        let mounts = sweep::mounts_below(self.directory.path());
        if !std::thread::panicking() {
            assert!(mounts.is_empty(), "left behind: {mounts:?}");
            assert!(left.is_empty(), "containers left behind: {left:?}");
            assert!(directories.is_empty(), "left behind: {directories:?}");
        }
    }
}

impl Server {
    /// Starts one with these settings (`section.key`, value) over the defaults.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_on(State::new(), settings)
    }

    pub(crate) fn start_on(state: State, settings: &[(&str, &str)]) -> Self {
        let server = Self::spawn(state, settings);
        server.wait_ready();
        server
    }

    /// One that does not have to become ready.
    pub(crate) fn spawn(state: State, settings: &[(&str, &str)]) -> Self {
        Self::spawn_with(state, settings, |_| {})
    }

    /// The same, with something about its process changed.
    pub(crate) fn spawn_with(
        state: State,
        settings: &[(&str, &str)],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        // One for each start: what is expected of one may not be of the next.
        let mut logs = (0..).map(|n| state.beside(&format!("log-{n}")));
        let log = logs
            .find(|log| !log.exists())
            .expect("there is no end to them");
        let announced = state.path().join("instance.json");
        // A killed predecessor had no time to withdraw its own.
        drop(std::fs::remove_file(&announced));
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(state.path())
            .args(["--set", "log.format=json"]);
        if settings.iter().all(|(key, _)| *key != "server.listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if settings.iter().all(|(key, _)| *key != "runtimes.dir") {
            command.arg("--runtimes").arg(languages::folder());
        }
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = File::options().create(true).append(true).open(&log);
        without_settings(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output.unwrap());
        change(&mut command);
        let mut child = command.spawn().expect("the server starts");
        let url = blocking(PATIENCE, || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let text = std::fs::read_to_string(&announced).ok()?;
            let instance: Value = serde_json::from_str(&text).ok()?;
            Some(Ok(instance["url"].as_str()?.to_owned()))
        });
        let url = match url {
            Some(Ok(url)) => url,
            ended => panic!("no server: {ended:?}\n{}", read(&log)),
        };
        // Tests of TLS speak for themselves.
        let (_, address) = url.split_once("://").expect("a URL");
        let address = address.to_owned();
        let key = Some(state.key());
        Self {
            child,
            client: Client { address, key },
            state: Some(state),
            log,
            expected: Mutex::default(),
            proxy: None,
        }
    }

    /// One whose engine is behind a proxy, so that it can be broken and watched. Does not wait until it is ready.
    pub(crate) fn spawn_behind(mode: Mode, settings: &[(&str, &str)]) -> Self {
        let state = State::new();
        let proxy = Proxy::start(&state.beside("engine"), mode);
        let mut all = vec![("engine.socket", proxy.path())];
        all.extend(settings);
        let mut server = Self::spawn(state, &all);
        server.proxy = Some(proxy);
        server
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it was started behind one")
    }

    /// The server that tests share which need nothing special. It is started for the first of them and ends with the last one that
    /// holds it; a later one starts it anew.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start(&[("server.failed_keys", "10000")]));
        *shared = Arc::downgrade(&server);
        server
    }

    pub(crate) fn wait_ready(&self) {
        let ready = blocking(READY_WITHIN, || {
            let answer = plain_get(&self.client.address, "/readyz").ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        });
        assert!(ready.is_some(), "never ready\n{}", read(&self.log));
    }

    pub(crate) fn state(&self) -> &State {
        self.state.as_ref().expect("there until the end")
    }

    /// A warning or error with this in it is part of the test.
    pub(crate) fn expects(&self, text: &str) {
        self.expected.lock().unwrap().push(text.to_owned());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its file descriptors lead to.
    pub(crate) fn descriptors(&self) -> Vec<PathBuf> {
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        // One that is closed just now is none.
        let links = list.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, signal).expect("the server is there");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let child = &mut self.child;
        blocking(STOPPED_WITHIN, || child.try_wait().unwrap())
    }

    /// Ends it in an orderly way; the state stays.
    pub(crate) fn stop(mut self) -> State {
        self.finish();
        self.state.take().expect("there until the end")
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }

    /// The same; the state stays, and what it left behind too.
    pub(crate) fn crash(mut self) -> State {
        self.kill();
        self.check_log();
        self.state.take().expect("there until the end")
    }

    fn finish(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::SIGTERM);
        }
        let ended = self.ended();
        if ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", read(&self.log));
            return;
        }
        let log = || read(&self.log);
        assert!(ended.is_some(), "did not stop when told\n{}", log());
        assert!(ended.unwrap().success(), "{ended:?}\n{}", log());
        self.check_log();
    }

    fn check_log(&self) {
        let expected = self.expected.lock().unwrap();
        let unexpected: Vec<String> = read(&self.log)
            .lines()
            .filter(|line| {
                let entry: Option<Value> = serde_json::from_str(line).ok();
                // What is no log line at all is a panic's message, or worse.
                let level = entry.as_ref().and_then(|e| e["level"].as_str());
                !matches!(level, Some("INFO" | "DEBUG" | "TRACE"))
            })
            .filter(|line| !expected.iter().any(|part| line.contains(part.as_str())))
            .map(str::to_owned)
            .collect();
        assert!(unexpected.is_empty(), "in the log: {unexpected:#?}");
    }

    /// The first line of its log with this message: its fields.
    pub(crate) fn log_line(&self, part: &str) -> Value {
        let log = read(&self.log);
        let mut entries = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = entries.find_map(|entry| {
            let fields = entry.get("fields").cloned().unwrap_or(entry);
            let message = fields["message"].as_str()?;
            message.contains(part).then_some(fields)
        });
        found.unwrap_or_else(|| panic!("nothing says {part:?} in:\n{log}"))
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    // What tests do most.

    /// Deploys inline code with further settings, and returns the function as it was answered.
    pub(crate) async fn deploy(&self, name: &str, code: &str, settings: Value) -> Value {
        let mut body = json!({"name": name, "language": "python", "code": code});
        merge(&mut body, settings);
        self.client
            .post("/functions/", &body)
            .await
            .expect(201)
            .json()
    }

    pub(crate) async fn call(&self, name: &str, event: &Value) -> Answer {
        self.client
            .post(&format!("/functions/{name}/execute"), event)
            .await
    }

    /// The texts of the lines a call has printed so far.
    pub(crate) async fn lines(&self, name: &str, request_id: Option<&str>) -> Vec<String> {
        let query = request_id.map_or(String::new(), |id| format!("&request_id={id}"));
        let path = format!("/functions/{name}/logs?limit=10000{query}");
        let lines = self.client.get(&path).await.expect(200).json();
        let items = lines["items"].as_array().expect("a list").iter();
        items
            .map(|line| line["text"].as_str().expect("a text").to_owned())
            .collect()
    }

    /// Waits until the function has printed such a line, and returns it.
    pub(crate) async fn printed(&self, name: &str, part: &str) -> String {
        eventually(&format!("{name} to print {part:?}"), || async {
            let lines = self.lines(name, None).await;
            lines.into_iter().find(|line| line.contains(part))
        })
        .await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics(self.client.get("/metrics").await.expect(200).text())
    }

    /// Waits until a metric's sum over these labels is as wanted.
    pub(crate) async fn measured(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        wanted: impl Fn(f64) -> bool,
    ) -> f64 {
        eventually(&format!("{name} {labels:?} as wanted"), || async {
            let value = self.metrics().await.sum(name, labels);
            wanted(value).then_some(value)
        })
        .await
    }

    /// Waits until every runtime has this many stem workers ready and none is being made.
    pub(crate) async fn settled(&self, stems_of_each: usize) {
        let runtimes = languages::all();
        eventually("the stem pools to be full", || async {
            let metrics = self.metrics().await;
            let full = runtimes.iter().all(|runtime| {
                let labels = [("runtime", runtime.id.as_str())];
                metrics.sum("hearth_stem_workers", &labels) == stems_of_each as f64
            });
            let still = metrics.sum("hearth_creation_lanes", &[]) == 0.0;
            (full && still).then_some(())
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.state.is_some() {
            self.finish();
        }
    }
}

/// The text of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn of(text: String) -> Self {
        Self(text)
    }

    /// The sum of all series of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (series, value) = rest.rsplit_once(' ')?;
                let of_this_name = series.is_empty() || series.starts_with('{');
                let has =
                    |(key, value): &(&str, &str)| series.contains(&format!("{key}=\"{value}\""));
                (of_this_name && labels.iter().all(has)).then(|| value.parse::<f64>().unwrap())
            })
            .sum()
    }
}

impl Metrics {
    /// The values of a metric by one of its labels.
    pub(crate) fn by(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let lines = self.0.lines().filter_map(|line| {
            let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let (_, value_of) = series
                .strip_prefix('{')?
                .split_once(&format!("{label}=\""))?;
            let (value_of, _) = value_of.split_once('"')?;
            Some((value_of.to_owned(), value.parse().unwrap()))
        });
        lines.collect()
    }
}

/// The settings of a Hearth that the developer uses must not reach the tests.
pub(crate) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTH_") {
            command.env_remove(name);
        }
    }
    command
}

fn merge(body: &mut Value, settings: Value) {
    if let Value::Object(settings) = settings {
        for (key, value) in settings {
            body[key] = value;
        }
    }
}

/// One request without a runtime.
fn plain_get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
