//! The life of a worker, and the one place that knows where it is in it.
//!
//! ```text
//! Stem ──INIT──▶ Loading ──first `next`: READY──▶ Idle ──INVOKE──▶ Invoked ──`next`──▶ Running ──body──▶ Answering
//!                   │                              ▲ ▲───CANCEL──────┘                    ▲──cut short──────┘ │
//!                   └─init/error, no start─▶ Failed └────────────────────────answer, error────────────────────┘
//! ```
//!
//! `serve` moves it by Hearth's frames, `api` by the bootstrap's requests, `watch` ends it with the bootstrap. SHUTDOWN and the
//! end of the connection end every state with status 0, anything unexpected with status 70. Extensions hold it up: READY and each
//! invocation wait until all of them wait, too.

pub mod extensions;

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use nix::unistd::Pid;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::bootstrap::NotStarted;
use crate::fault::{self, Fault};
use crate::settings::{Invocation, Settings};
use crate::wire::{self, Error, Frame, Kind, Reader};
use crate::worker::extensions::{Denied, Extensions};
use crate::{api, bootstrap};

const PROTOCOL: &str = "hearth-worker/1";
const RUNTIME: &str = "provided";
/// AWS's name for what a breach of the protocol is answered with.
const STATUS_OF_PROTOCOL: i32 = 70;
/// A bootstrap may end as soon as it has sent its answer: so long the answer may still be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What extensions may take to end, as on AWS; and where the bootstrap has ended by itself, whose caller waits for that.
const SHUTDOWN: Duration = Duration::from_secs(2);
const SHUTDOWN_OF_FAILED: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);

pub struct Worker {
    /// Frames are written whole, by whoever has something to say.
    output: Mutex<OwnedWriteHalf>,
    /// What an image starts in the bootstrap's place.
    program: Option<Vec<OsString>>,
    /// Never borrowed across an await.
    state: RefCell<State>,
    /// There is an invocation for a bootstrap that waits for one.
    invoked: Notify,
    /// An answer that was being read is dealt with.
    settled: Notify,
    /// Something happened that concerns extensions.
    changed: Notify,
}

struct State {
    phase: Phase,
    settings: Option<Rc<Settings>>,
    /// Its process, and the group of all it started.
    bootstrap: Option<Pid>,
    /// It has asked for its first invocation.
    asked: bool,
    /// Where the API is.
    address: String,
    extensions: Extensions,
    /// Everybody was told that this is the end.
    ending: bool,
    last_stream: u32,
    /// The invocation that ended last.
    answered: String,
}

enum Phase {
    Stem,
    Loading(Instant),
    Failed,
    Idle,
    Invoked(Invocation),
    Running(Call),
    Answering(Call),
}

/// An invocation the bootstrap has.
#[derive(Debug, Clone)]
pub struct Call {
    pub stream: u32,
    pub request_id: String,
}

/// Why the bootstrap may not do what it asked for.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    /// Not the invocation it has.
    RequestId,
    /// Not now.
    State,
}

impl Worker {
    pub fn new(output: OwnedWriteHalf, program: Option<Vec<OsString>>) -> Self {
        Self {
            program,
            output: Mutex::new(output),
            state: RefCell::new(State {
                phase: Phase::Stem,
                settings: None,
                bootstrap: None,
                asked: false,
                address: String::new(),
                extensions: Extensions::default(),
                ending: false,
                last_stream: 0,
                answered: String::new(),
            }),
            invoked: Notify::new(),
            settled: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Does what Hearth says until it says no more: the status the process ends with.
    pub async fn serve(self: Rc<Self>, mut input: Reader) -> i32 {
        match self.follow(&mut input).await {
            Ok(()) | Err(Error::Closed) => {
                let running = !self.state.borrow().phase.is_between();
                let reason = if running { "timeout" } else { "spindown" };
                self.shut_down(reason, SHUTDOWN).await;
                0
            }
            Err(Error::Protocol(text)) => {
                fault::say(&format!("hearth shim: {text}"));
                STATUS_OF_PROTOCOL
            }
        }
    }

    /// Ends the process, and whatever the bootstrap started with it.
    pub fn end(&self, status: i32) -> ! {
        let state = self.state.borrow();
        let extensions = state.extensions.processes();
        state
            .bootstrap
            .into_iter()
            .chain(extensions)
            .for_each(bootstrap::destroy);
        std::process::exit(status)
    }

    async fn follow(self: &Rc<Self>, input: &mut Reader) -> Result<(), Error> {
        let hello = json!({
            "protocol": PROTOCOL,
            "runtime": RUNTIME,
            "language": concat!("AWS Runtime API 2018-06-01 (shim ", env!("CARGO_PKG_VERSION"), ")"),
            "pid": std::process::id(),
        });
        self.send(Kind::Hello, 0, hello.to_string().as_bytes())
            .await?;
        loop {
            let frame = input.receive().await?;
            if frame.kind == Kind::Cancel && self.cancel(frame.stream).await? {
                continue;
            }
            if frame.kind == Kind::Invoke && matches!(self.state.borrow().phase, Phase::Idle) {
                self.invoke(frame).await?;
                continue;
            }
            let expected = self.state.borrow().phase.expected();
            let got = frame.kind.name();
            if frame.stream != 0 {
                let stream = frame.stream;
                let text = format!("expected {expected}, got {got} on stream {stream}");
                return Err(Error::Protocol(text));
            }
            match (frame.kind, self.state.borrow().phase.is_between()) {
                (Kind::Ping, true) => {}
                (Kind::Shutdown, true) => return Ok(()),
                (Kind::Init, _) if matches!(self.state.borrow().phase, Phase::Stem) => {}
                _ => return Err(Error::Protocol(format!("expected {expected}, got {got}"))),
            }
            if frame.kind == Kind::Ping {
                self.send(Kind::Pong, 0, &frame.body).await?;
            } else {
                self.init(&frame.body).await?;
            }
        }
    }

    // What Hearth says.

    async fn init(self: &Rc<Self>, body: &[u8]) -> Result<(), Error> {
        let settings = Settings::read(body).map_err(|what| {
            Error::Protocol(format!(
                "expected an INIT with every setting, got one where {what}"
            ))
        })?;
        self.state.borrow_mut().phase = Phase::Loading(Instant::now());
        match self.start(settings).await {
            Ok(()) => Ok(()),
            Err(fault) => self.fail(&fault).await,
        }
    }

    /// READY is sent when the bootstrap asks for its first invocation, and every extension for its first event.
    async fn start(self: &Rc<Self>, settings: Settings) -> Result<(), Fault> {
        let platform =
            |error: std::io::Error| Fault::new("Runtime.PlatformError", error.to_string());
        let listener = api::listen().await.map_err(platform)?;
        let address = listener.local_addr().map_err(platform)?.to_string();
        // Before there is a child, or its end could be missed.
        let children = signal(SignalKind::child()).map_err(platform)?;
        let extensions = bootstrap::start_extensions(&settings, &address)?;
        {
            let mut state = self.state.borrow_mut();
            state.settings = Some(Rc::new(settings));
            state.address = address;
            for (name, process) in extensions {
                state.extensions.started(name, process);
            }
        }
        spawn_local(self.clone().watch(children));
        spawn_local(api::serve(listener, self.clone()));
        spawn_local(self.clone().launch());
        Ok(())
    }

    /// The bootstrap, once every program of the layers has registered: it may count on them.
    async fn launch(self: Rc<Self>) {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.borrow();
                if !matches!(state.phase, Phase::Loading(_)) {
                    return;
                }
                if state.extensions.are_registered() {
                    break;
                }
            }
            changed.await;
        }
        self.start_bootstrap().await;
    }

    async fn start_bootstrap(&self) {
        let started = {
            let mut state = self.state.borrow_mut();
            state.asked = false;
            let settings = state.settings.clone().expect("INIT is long read");
            bootstrap::start(&settings, &state.address, self.program.as_deref())
        };
        match started {
            Ok(bootstrap) => self.state.borrow_mut().bootstrap = Some(bootstrap),
            Err(NotStarted::Wrapper(status)) => self.end(status),
            Err(NotStarted::Fault(fault)) => {
                if self.init_failed(&fault).await.is_err() {
                    self.end(0);
                }
            }
        }
    }

    async fn invoke(&self, frame: Frame) -> Result<(), Error> {
        let stream = frame.stream;
        {
            let mut state = self.state.borrow_mut();
            let last = state.last_stream;
            if stream <= last {
                return Err(Error::Protocol(format!(
                    "expected INVOKE on a stream after {last}, got stream {stream}"
                )));
            }
            state.last_stream = stream;
        }
        let raw = frame.flags & wire::RAW != 0;
        let mut invocation = Invocation::read(stream, raw, frame.body).map_err(|what| {
            Error::Protocol(format!("expected a whole INVOKE, got one where {what}"))
        })?;
        if !raw && invocation.payload.is_empty() {
            invocation.payload = Bytes::from_static(b"{}");
        }
        if !raw && let Err(error) = json_of(&invocation.payload) {
            let text = format!("Could not parse payload into json: {error}");
            let fault = Fault::new("Runtime.InvalidPayload", text);
            fault.say();
            return self
                .write(Kind::Error, wire::BAD_REQUEST, stream, &fault.encode())
                .await;
        }
        self.state.borrow_mut().phase = Phase::Invoked(invocation);
        self.invoked.notify_one();
        Ok(())
    }

    /// Whether this was something Hearth may say.
    async fn cancel(&self, stream: u32) -> Result<bool, Error> {
        let bootstrap = {
            let mut state = self.state.borrow_mut();
            if stream == 0 || stream > state.last_stream {
                return Ok(false);
            }
            match &state.phase {
                Phase::Running(call) | Phase::Answering(call) if call.stream == stream => {
                    state.bootstrap
                }
                Phase::Invoked(invocation) if invocation.stream == stream => {
                    state.phase = Phase::Idle;
                    None
                }
                // Of one that has just ended.
                _ => return Ok(true),
            }
        };
        match bootstrap {
            // The API has no word for it, so it is told as programs are told: what it makes of that is its answer.
            Some(bootstrap) => bootstrap::interrupt(bootstrap),
            None => {
                let fault = Fault::new("Runtime.Cancelled", "The invocation was cancelled");
                fault.say();
                self.send(Kind::Error, stream, &fault.encode()).await?;
            }
        }
        Ok(true)
    }

    // What the bootstrap says.

    /// The next invocation, whenever it comes.
    pub async fn next(&self) -> Result<(Invocation, Rc<Settings>), Refusal> {
        self.state.borrow_mut().asked = true;
        self.ready().await;
        loop {
            {
                let mut state = self.state.borrow_mut();
                let settings = state.settings.clone().ok_or(Refusal::State)?;
                let all_wait = state.extensions.wait_all();
                match std::mem::replace(&mut state.phase, Phase::Idle) {
                    Phase::Idle => {}
                    Phase::Invoked(invocation) if all_wait => {
                        state.phase = Phase::Running(Call {
                            stream: invocation.stream,
                            request_id: invocation.request_id.clone(),
                        });
                        state.extensions.invoked(&invocation, &settings);
                        self.changed.notify_waiters();
                        return Ok((invocation, settings));
                    }
                    // Extensions are not done with what was before.
                    other @ (Phase::Invoked(_) | Phase::Loading(_)) => state.phase = other,
                    other => {
                        state.phase = other;
                        return Err(Refusal::State);
                    }
                }
            }
            self.invoked.notified().await;
        }
    }

    /// The function is loaded: so it is, when everybody asks for work for the first time.
    async fn ready(&self) {
        let ready = {
            let mut state = self.state.borrow_mut();
            let (Phase::Loading(begun), Some(settings)) = (&state.phase, &state.settings) else {
                return;
            };
            if !state.asked || !state.extensions.wait_all() {
                return;
            }
            let mut applied = json!({
                "handler": settings.handler,
                "function_name": settings.function_name,
                "function_version": settings.function_version,
                "memory_mb": settings.memory_mb,
                "timeout_ms": settings.timeout_ms,
                "environment_count": settings.environment.len(),
                "init_us": u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            });
            if state.extensions.want_shutdown() {
                applied["shutdown_ms"] = json!(SHUTDOWN.as_millis() as u64);
            }
            state.phase = Phase::Idle;
            applied.to_string()
        };
        self.say(Kind::Ready, 0, 0, ready.as_bytes()).await;
    }

    // What extensions say.

    /// The new extension's id, and what it is told of the function.
    pub fn register(
        &self,
        name: &str,
        events: &[String],
    ) -> Result<(String, Rc<Settings>), Denied> {
        let mut state = self.state.borrow_mut();
        let closed = || {
            Denied::new(
                "Extension.RegistrationClosed",
                "Extension registration closed already",
            )
        };
        let settings = state.settings.clone().ok_or_else(closed)?;
        let open = matches!(state.phase, Phase::Loading(_)) && !state.asked;
        let id = state.extensions.register(name, events, open)?.to_owned();
        self.changed.notify_waiters();
        Ok((id, settings))
    }

    /// What an extension is to do next, whenever that is.
    pub async fn next_event(&self, id: &str) -> Result<Value, Denied> {
        self.state.borrow_mut().extensions.wait(id)?;
        self.ready().await;
        // The bootstrap may have waited for this one.
        self.invoked.notify_one();
        loop {
            let changed = self.changed.notified();
            if let Some(event) = self.state.borrow_mut().extensions.take(id)? {
                return Ok(event);
            }
            changed.await;
        }
    }

    /// An extension cannot go on. While the function is loaded that is the end of it; later it ends with the extension's process.
    pub async fn extension_failed(
        &self,
        id: &str,
        kind: &str,
        to: &str,
        body: &[u8],
    ) -> Result<(), Denied> {
        let name = self.state.borrow_mut().extensions.fail(id, to)?;
        let said = Fault::reported(Some(kind), body);
        let loading = matches!(self.state.borrow().phase, Phase::Loading(_));
        let fault = Fault::new(
            if loading {
                "Extension.InitError"
            } else {
                "Extension.ExitError"
            },
            format!("extension {name}: {}: {}", said.kind, said.message),
        );
        if !loading {
            fault.say();
        } else if self.fail(&fault).await.is_err() {
            self.end(0);
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// The bootstrap could not load the function.
    pub async fn init_failed(&self, fault: &Fault) -> Result<(), Refusal> {
        let waiting = match &self.state.borrow().phase {
            Phase::Loading(_) => None,
            // It was started again for this one.
            Phase::Invoked(invocation) if !self.state.borrow().asked => Some(invocation.stream),
            _ => return Err(Refusal::State),
        };
        if let Some(stream) = waiting {
            self.state.borrow_mut().phase = Phase::Failed;
            fault.say();
            self.say(Kind::Error, wire::LAST, stream, &fault.encode())
                .await;
            return Ok(());
        }
        match self.fail(fault).await {
            Ok(()) => Ok(()),
            Err(_) => self.end(0),
        }
    }

    /// Loading has failed; that is said once.
    async fn fail(&self, fault: &Fault) -> Result<(), Error> {
        if !matches!(self.state.borrow().phase, Phase::Loading(_)) {
            return Ok(());
        }
        self.state.borrow_mut().phase = Phase::Failed;
        fault.say();
        self.send(Kind::InitError, 0, &fault.encode()).await
    }

    /// From here on the invocation's answer is being read. `finish` or `take_back` ends that.
    pub fn begin(&self, request_id: &str) -> Result<Call, Refusal> {
        let mut state = self.state.borrow_mut();
        match &state.phase {
            Phase::Running(call) if call.request_id == request_id => {
                let call = call.clone();
                state.phase = Phase::Answering(call.clone());
                Ok(call)
            }
            Phase::Answering(call) if call.request_id == request_id => Err(Refusal::State),
            _ if state.answered == request_id => Err(Refusal::State),
            _ => Err(Refusal::RequestId),
        }
    }

    /// Nothing of the answer is worth anything: the bootstrap may try again.
    pub fn take_back(&self, call: Call) {
        self.state.borrow_mut().phase = Phase::Running(call);
        self.settled.notify_one();
    }

    /// A part of a streaming answer.
    pub async fn part(&self, call: &Call, kind: Kind, body: &[u8]) {
        self.say(kind, 0, call.stream, body).await;
    }

    /// The end of an invocation.
    pub async fn finish(&self, call: Call, kind: Kind, flags: u8, body: &[u8]) {
        {
            // First: the next INVOKE may be here before the write has returned.
            let mut state = self.state.borrow_mut();
            state.phase = Phase::Idle;
            state.answered = call.request_id;
        }
        self.say(kind, flags, call.stream, body).await;
        self.settled.notify_one();
    }

    /// The end of an invocation that went wrong.
    pub async fn finish_with(&self, call: Call, fault: &Fault) {
        fault.say();
        self.finish(call, Kind::Error, 0, &fault.encode()).await;
    }

    // Its process.

    /// Until the bootstrap ends: then so does the worker, in the same way. Or an extension, without which it is not what it was.
    async fn watch(self: Rc<Self>, mut children: Signal) {
        while children.recv().await.is_some() {
            for (process, status) in bootstrap::reap() {
                let bootstrap = self.state.borrow().bootstrap;
                if bootstrap == Some(process) {
                    self.bootstrap_ended(status).await;
                    continue;
                }
                let ended = self.state.borrow_mut().extensions.ended(process);
                if let Some((name, kind)) = ended {
                    self.extension_ended(&name, kind, status).await;
                }
            }
        }
    }

    async fn bootstrap_ended(&self, status: i32) {
        if self.state.borrow().ending {
            return;
        }
        // One that could not load the function has said so, and ends by itself.
        if matches!(self.state.borrow().phase, Phase::Failed) {
            return;
        }
        if matches!(self.state.borrow().phase, Phase::Answering(_)) {
            drop(timeout(LAST_WORDS, self.settled.notified()).await);
        }
        self.state.borrow_mut().bootstrap = None;
        // It had answered, and ends before it asks for the next one, which came meanwhile and is not to be lost with it.
        let waiting = {
            let state = self.state.borrow();
            matches!(state.phase, Phase::Invoked(_)) && state.asked
        };
        if waiting {
            self.start_bootstrap().await;
            return;
        }
        self.shut_down("failure", SHUTDOWN_OF_FAILED).await;
        self.end(status);
    }

    async fn extension_ended(&self, name: &str, kind: &str, status: i32) {
        if self.state.borrow().ending {
            return;
        }
        let fault = Fault::new(kind, format!("extension {name} ended with status {status}"));
        let stream = match &self.state.borrow().phase {
            Phase::Stem | Phase::Failed => return,
            Phase::Loading(_) => None,
            Phase::Idle => Some(0),
            Phase::Invoked(Invocation { stream, .. })
            | Phase::Running(Call { stream, .. })
            | Phase::Answering(Call { stream, .. }) => Some(*stream),
        };
        let Some(stream) = stream else {
            if self.fail(&fault).await.is_err() {
                self.end(0);
            }
            self.changed.notify_waiters();
            return;
        };
        fault.say();
        if stream != 0 {
            self.say(Kind::Error, wire::LAST, stream, &fault.encode())
                .await;
        }
        self.end(status.max(1));
    }

    /// Extensions that asked for it are told that this is the end, and have a while for what they have left to do.
    async fn shut_down(&self, reason: &str, grace: Duration) {
        let until = Instant::now() + grace;
        {
            let mut state = self.state.borrow_mut();
            if !state.extensions.want_shutdown() {
                return;
            }
            state.ending = true;
            // As on AWS, where a runtime is told only if there are extensions.
            if let Some(bootstrap) = state.bootstrap {
                bootstrap::interrupt(bootstrap);
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let deadline = now.unwrap_or_default() + grace;
            let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            state.extensions.shut_down(reason, deadline_ms);
        }
        self.changed.notify_waiters();
        loop {
            for (process, _) in bootstrap::reap() {
                self.state.borrow_mut().extensions.ended(process);
            }
            if !self.state.borrow().extensions.last_words() || Instant::now() >= until {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    // Frames.

    async fn send(&self, kind: Kind, stream: u32, body: &[u8]) -> Result<(), Error> {
        self.write(kind, 0, stream, body).await
    }

    async fn write(&self, kind: Kind, flags: u8, stream: u32, body: &[u8]) -> Result<(), Error> {
        let mut output = self.output.lock().await;
        wire::send(&mut output, kind, flags, stream, body).await
    }

    /// For those who have nobody to tell that Hearth is gone.
    async fn say(&self, kind: Kind, flags: u8, stream: u32, body: &[u8]) {
        if self.write(kind, flags, stream, body).await.is_err() {
            self.end(0);
        }
    }
}

impl Phase {
    /// What Hearth may send, for those who get something else.
    fn expected(&self) -> String {
        match self {
            Phase::Stem => "INIT, PING or SHUTDOWN before INIT".into(),
            Phase::Loading(_) => "nothing while the function is loaded".into(),
            Phase::Failed => "PING or SHUTDOWN after a failed INIT".into(),
            Phase::Idle => "INVOKE, PING or SHUTDOWN after INIT".into(),
            Phase::Invoked(Invocation { stream, .. })
            | Phase::Running(Call { stream, .. })
            | Phase::Answering(Call { stream, .. }) => format!("CANCEL of stream {stream}"),
        }
    }

    /// Nothing is loaded or run just now.
    fn is_between(&self) -> bool {
        matches!(self, Phase::Stem | Phase::Failed | Phase::Idle)
    }
}

/// Whether it is JSON, however large or deep: it is looked through, not read.
pub fn json_of(bytes: &[u8]) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_slice(bytes)
}
