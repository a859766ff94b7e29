//! Who runs beside the bootstrap: programs in the layers' `extensions/`, started before it (external ones), and parts of its own process
//! that register (internal ones). What each waits for, and what it is told. Errors have the types and texts of AWS's own emulator.
//!
//! ```text
//! Started ──register──▶ Registered ──next──▶ Waiting ──event──▶ Busy ──next──▶ Waiting
//!    └──────────────────────┴── init/error, exit/error: Failed;  its process ends: Ended ──┘
//! ```

use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::settings::{Invocation, Settings};

/// As many as AWS has, of both kinds together.
const MOST: usize = 10;
const INVOKE: &str = "INVOKE";
const SHUTDOWN: &str = "SHUTDOWN";

#[derive(Debug, Default)]
pub struct Extensions {
    all: Vec<Extension>,
}

#[derive(Debug)]
struct Extension {
    /// What it is known by once it has registered.
    id: String,
    /// Of its file, where it has one.
    name: String,
    /// Of external ones.
    process: Option<Pid>,
    phase: Phase,
    invoke: bool,
    shutdown: bool,
    /// What it has not been told yet.
    event: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Started,
    Registered,
    Waiting,
    Busy,
    Failed,
    Ended,
}

impl Phase {
    /// As AWS calls it.
    fn name(self) -> &'static str {
        match self {
            Phase::Started => "Started",
            Phase::Registered => "Registered",
            Phase::Waiting => "Ready",
            Phase::Busy => "Running",
            Phase::Failed => "ExitError",
            Phase::Ended => "Exited",
        }
    }
}

/// Why an extension may not do what it asked for.
#[derive(Debug)]
pub struct Denied {
    pub kind: &'static str,
    pub message: String,
}

impl Denied {
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    fn state(extension: &Extension, to: &str) -> Self {
        let (from, id) = (extension.phase.name(), &extension.id);
        Self::new(
            "Extension.InvalidExtensionState",
            format!(
                "State transition from {from} to {to} failed for extension {id}. Error: State transition is not allowed"
            ),
        )
    }
}

impl Extensions {
    /// A program of a layer that was just started.
    pub fn started(&mut self, name: String, process: Pid) {
        self.all.push(Extension {
            id: new_id(),
            name,
            process: Some(process),
            phase: Phase::Started,
            invoke: false,
            shutdown: false,
            event: None,
        });
    }

    /// Its id from now on. `open`: the function is still being loaded.
    pub fn register(&mut self, name: &str, events: &[String], open: bool) -> Result<&str, Denied> {
        let there = self.all.iter().position(|one| one.name == name);
        let external = there.is_some_and(|at| self.all[at].process.is_some());
        let known = |event: &&String| match event.as_str() {
            INVOKE => true,
            SHUTDOWN => external,
            _ => false,
        };
        if let Some(event) = events.iter().find(|event| !known(event)) {
            let text = format!("{event}: the event is not supported for this kind of extension");
            return Err(Denied::new("Extension.InvalidEventType", text));
        }
        let at = match there {
            Some(at) if !external => {
                let text = format!(
                    "Extension with the name {:?} already registered",
                    self.all[at].name
                );
                return Err(Denied::new("Extension.InvalidExtensionState", text));
            }
            Some(at) if self.all[at].phase != Phase::Started => {
                return Err(Denied::state(&self.all[at], "Registered"));
            }
            Some(at) => at,
            None if !open => {
                let text = "Extension registration closed already";
                return Err(Denied::new("Extension.RegistrationClosed", text));
            }
            None if self.all.len() >= MOST => {
                let text = format!("Extension limit ({MOST}) reached");
                return Err(Denied::new("Extension.TooManyExtensions", text));
            }
            None => {
                self.all.push(Extension {
                    id: new_id(),
                    name: name.to_owned(),
                    process: None,
                    phase: Phase::Started,
                    invoke: false,
                    shutdown: false,
                    event: None,
                });
                self.all.len() - 1
            }
        };
        let extension = &mut self.all[at];
        extension.phase = Phase::Registered;
        extension.invoke = events.iter().any(|event| event == INVOKE);
        extension.shutdown = events.iter().any(|event| event == SHUTDOWN);
        Ok(&extension.id)
    }

    /// It has done what it was told, and waits.
    pub fn wait(&mut self, id: &str) -> Result<(), Denied> {
        let extension = self.find(id)?;
        match extension.phase {
            Phase::Registered | Phase::Waiting | Phase::Busy => {
                extension.phase = Phase::Waiting;
                Ok(())
            }
            _ => Err(Denied::state(extension, "Ready")),
        }
    }

    /// What it is to be told, once.
    pub fn take(&mut self, id: &str) -> Result<Option<Value>, Denied> {
        let extension = self.find(id)?;
        let event = extension.event.take();
        if event.is_some() {
            extension.phase = Phase::Busy;
        }
        Ok(event)
    }

    /// Cannot go on. Its name.
    pub fn fail(&mut self, id: &str, to: &str) -> Result<String, Denied> {
        let extension = self.find(id)?;
        match extension.phase {
            Phase::Started | Phase::Failed | Phase::Ended => Err(Denied::state(extension, to)),
            _ => {
                extension.phase = Phase::Failed;
                Ok(extension.name.clone())
            }
        }
    }

    /// Its process ended: its name, and the kind of error that is.
    pub fn ended(&mut self, process: Pid) -> Option<(String, &'static str)> {
        let mut all = self.all.iter_mut();
        let extension = all.find(|one| one.process == Some(process))?;
        let said = extension.phase == Phase::Failed;
        extension.phase = Phase::Ended;
        let kind = if said {
            "Extension.ExitError"
        } else {
            "Extension.Crash"
        };
        Some((extension.name.clone(), kind))
    }

    /// Nobody is waited for any more before the bootstrap may start.
    pub fn are_registered(&self) -> bool {
        self.all.iter().all(|one| one.phase != Phase::Started)
    }

    /// All of them have done what they were told.
    pub fn wait_all(&self) -> bool {
        self.all.iter().all(|one| one.phase == Phase::Waiting)
    }

    pub fn invoked(&mut self, invocation: &Invocation, settings: &Settings) {
        let mut event = json!({
            "eventType": INVOKE,
            "deadlineMs": invocation.deadline_ms,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.extra.get("invoked_function_arn").and_then(Value::as_str)
                .unwrap_or(&settings.function_arn),
        });
        if let Some(trace) = invocation.extra.get("trace_id").and_then(Value::as_str) {
            event["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace});
        }
        for extension in self.all.iter_mut().filter(|one| one.invoke) {
            extension.event = Some(event.clone());
        }
    }

    /// Whether somebody wants to be told of the end.
    pub fn want_shutdown(&self) -> bool {
        self.all.iter().any(|one| one.shutdown)
    }

    /// The last thing they are told. Those who did not ask for it have nothing to wait for.
    pub fn shut_down(&mut self, reason: &str, deadline_ms: u64) {
        let event =
            json!({"eventType": SHUTDOWN, "shutdownReason": reason, "deadlineMs": deadline_ms});
        for extension in self.all.iter_mut().filter(|one| one.shutdown) {
            extension.event = Some(event.clone());
        }
    }

    /// Whether one that was told of the end still runs.
    pub fn last_words(&self) -> bool {
        self.all.iter().any(|one| {
            one.shutdown && matches!(one.phase, Phase::Waiting | Phase::Busy | Phase::Registered)
        })
    }

    pub fn processes(&self) -> impl Iterator<Item = Pid> {
        let running = self.all.iter().filter(|one| one.phase != Phase::Ended);
        running.filter_map(|one| one.process)
    }

    fn find(&mut self, id: &str) -> Result<&mut Extension, Denied> {
        if id.is_empty() {
            let text = "Missing Lambda-Extension-Identifier header";
            return Err(Denied::new("Extension.MissingExtensionIdentifier", text));
        }
        if !is_id(id) {
            let text = "Invalid Lambda-Extension-Identifier";
            return Err(Denied::new("Extension.InvalidExtensionIdentifier", text));
        }
        // One that has not registered was never told its id.
        let mut all = self.all.iter_mut();
        let found = all.find(|one| one.id.eq_ignore_ascii_case(id));
        found.ok_or_else(|| {
            let text = format!("Unknown extension {id}");
            Denied::new("Extension.UnknownExtensionIdentifier", text)
        })
    }
}

fn is_id(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    let good = |(at, byte): (usize, u8)| match dashes.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(good)
}

/// A random UUID. The kernel makes them.
pub fn new_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
    text.map_or_else(|_| String::new(), |text| text.trim().to_owned())
}
