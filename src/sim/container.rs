//! What runs in a simulated container: a shim that speaks the worker protocol over the worker's socket, and a function that
//! does what its script says. Knows nothing of plans; what it sees it tells to whoever watches.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::fcntl::OFlag;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::engine::Exit;
use crate::sim::weather::{Boot, Fate, Idle, Init, Weather};
use crate::worker::frame::{self, Frame, Kind};

/// An invocation as the function gets it.
#[derive(Debug)]
pub struct Invoked {
    pub container: u64,
    pub stream: u32,
    /// As the wire has them; an answer of bytes repeats them.
    pub flags: u8,
    /// As JSON text; empty when there is none.
    pub context: Bytes,
    pub payload: Bytes,
    /// What INIT said.
    pub init: Value,
    /// The function's code, as it was linked.
    pub task: PathBuf,
}

/// What a function does with one invocation.
#[derive(Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
    pub ignores_cancel: bool,
}

#[derive(Debug)]
pub enum Step {
    Pause(Duration),
    /// Frames that leave in one write.
    Send(Vec<Frame>),
    Bytes(Vec<u8>),
    /// The code has stopped running; said before the frames that tell so.
    Done,
    CloseLog,
    CloseSocket,
    Hang,
    End(Exit),
}

pub type Program = dyn Fn(&Invoked) -> Script + Send + Sync;

/// What is seen from inside the containers, and of them.
#[derive(Debug)]
pub enum Seen<'a> {
    Starting {
        container: u64,
        memory: u32,
    },
    NotStarted {
        container: u64,
    },
    Limited {
        container: u64,
        memory: u32,
    },
    Greeted {
        container: u64,
    },
    Init {
        container: u64,
        init: &'a Value,
    },
    Ready {
        container: u64,
    },
    Invoked(&'a Invoked),
    Done {
        container: u64,
    },
    /// It did what no worker does; `idle`: while nothing was asked of it.
    Lied {
        container: u64,
        how: String,
        idle: bool,
    },
    /// Hearth did what it must not do.
    Wrong {
        container: u64,
        what: String,
    },
    Ended {
        container: u64,
        exit: Exit,
    },
    Removed {
        container: u64,
    },
}

pub trait Watch: Send + Sync + std::fmt::Debug {
    fn see(&self, seen: Seen<'_>);
}

/// A container before it runs.
pub struct Container {
    pub number: u64,
    pub directory: PathBuf,
    pub runtime: String,
    pub fate: Fate,
    pub weather: Arc<Weather>,
    pub program: Arc<Program>,
    pub watch: Arc<dyn Watch>,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Container({})", self.number)
    }
}

const fn exit(code: i64) -> Exit {
    Exit {
        code,
        out_of_memory: false,
    }
}

impl Container {
    /// From its first instruction to the end of its process, which is also when its ends of socket and pipe close.
    pub async fn live(self) -> Exit {
        let Some(log) = open(&self.directory.join("log")) else {
            return exit(2);
        };
        pause(self.fate.boots_in).await;
        let boot = self.now_or_never(self.fate.boot, Boot::Well);
        match boot {
            Boot::Dies => return exit(3),
            Boot::Silent => std::future::pending().await,
            _ => {}
        }
        let Ok(stream) = UnixStream::connect(self.directory.join("worker.sock")).await else {
            return exit(4);
        };
        let socket = Socket {
            stream: Some(stream),
            input: BytesMut::new(),
        };
        Process {
            container: self,
            socket,
            log: Some(log),
            init: None,
        }
        .run(boot)
        .await
    }

    /// What was fated happens no more once the weather is calm.
    fn now_or_never<T: Copy>(&self, fated: T, well: T) -> T {
        if self.weather.is_calm() { well } else { fated }
    }
}

fn open(path: &Path) -> Option<File> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .ok()
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

struct Socket {
    stream: Option<UnixStream>,
    input: BytesMut,
}

impl Socket {
    async fn send(&mut self, frames: &[Frame]) {
        let mut output = BytesMut::new();
        for frame in frames {
            frame::encode(frame, &mut output);
        }
        self.write(&output).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).await.is_err()
        {
            self.stream = None;
        }
    }

    /// The next frame; `None` when the other end is gone. Cancel-safe.
    async fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input).expect("Hearth writes frames") {
                return Some(frame);
            }
            let stream = self.stream.as_mut()?;
            if !matches!(stream.read_buf(&mut self.input).await, Ok(1..)) {
                self.stream = None;
                return None;
            }
        }
    }
}

struct Process {
    container: Container,
    socket: Socket,
    log: Option<File>,
    init: Option<Value>,
}

impl Process {
    async fn run(mut self, boot: Boot) -> Exit {
        let number = self.container.number;
        let runtime = match boot {
            Boot::Foreign => "another",
            _ => self.container.runtime.as_str(),
        };
        let hello = json!({"protocol": "hearth-worker/1", "runtime": runtime});
        match boot {
            Boot::Garbage => {
                self.socket
                    .write(b"what is this, and why is it here?")
                    .await
            }
            _ => {
                let hello = Frame::new(Kind::Hello, 0, hello.to_string());
                self.socket.send(&[hello]).await;
            }
        }
        if boot == Boot::DiesGreeted {
            return exit(5);
        }
        loop {
            let fated = self.container.fate.idle.take();
            let idle_for = fated.map(|(time, _)| time);
            let frame = tokio::select! {
                biased;
                frame = self.socket.receive() => frame,
                () = idle(idle_for) => {
                    if let (Some((_, what)), false) = (fated, self.container.weather.is_calm())
                        && let Some(exit) = self.idles(what).await
                    {
                        return exit;
                    }
                    continue;
                }
            };
            // Not yet: it starts again when it is idle again.
            self.container.fate.idle = fated;
            let Some(frame) = frame else {
                if self.container.fate.lingers {
                    std::future::pending::<()>().await;
                }
                return exit(0);
            };
            match frame.kind {
                Kind::Ping => {
                    let body = match boot {
                        Boot::WrongPong => Bytes::from_static(b"no"),
                        _ => frame.body,
                    };
                    self.see(Seen::Greeted { container: number });
                    self.socket.send(&[Frame::new(Kind::Pong, 0, body)]).await;
                }
                Kind::Init if self.init.is_none() => {
                    if let Some(exit) = self.load(&frame.body).await {
                        return exit;
                    }
                }
                Kind::Invoke if self.init.is_some() => {
                    if let Some(exit) = self.invoke(frame).await {
                        return exit;
                    }
                }
                // Sent while the answer was on its way.
                Kind::Cancel => {}
                kind => self.see(Seen::Wrong {
                    container: number,
                    what: format!("{kind:?} came while it was idle"),
                }),
            }
        }
    }

    fn see(&self, seen: Seen<'_>) {
        self.container.watch.see(seen);
    }

    fn lied(&self, how: &str, idle: bool) {
        self.see(Seen::Lied {
            container: self.container.number,
            how: how.into(),
            idle,
        });
    }

    async fn idles(&mut self, what: Idle) -> Option<Exit> {
        match what {
            Idle::Dies => return Some(exit(6)),
            Idle::Speaks => {
                self.lied("spoke", true);
                let said = Frame::new(Kind::ResponseEnd, 1, "nobody asked");
                self.socket.send(&[said]).await;
            }
            Idle::ClosesLog => {
                self.lied("closed its log", true);
                self.log = None;
            }
        }
        None
    }

    async fn load(&mut self, body: &[u8]) -> Option<Exit> {
        let mut init: Value = serde_json::from_slice(body).expect("INIT");
        init["environment_count"] = init["environment"].as_object().map_or(0, Map::len).into();
        self.see(Seen::Init {
            container: self.container.number,
            init: &init,
        });
        self.init = Some(init.clone());
        pause(self.container.fate.loads_in).await;
        let fated = self
            .container
            .now_or_never(self.container.fate.init, Init::Well);
        let answer = match fated {
            Init::Well => {
                self.see(Seen::Ready {
                    container: self.container.number,
                });
                Frame::new(Kind::Ready, 0, init.to_string())
            }
            Init::Error => {
                let report = r#"{"errorType":"Sim.Init","errorMessage":"","stackTrace":[]}"#;
                Frame::new(Kind::InitError, 0, report)
            }
            Init::Dies => return Some(exit(7)),
            Init::Hangs => std::future::pending().await,
            Init::Differs => {
                init["memory_mb"] = 1.into();
                Frame::new(Kind::Ready, 0, init.to_string())
            }
            Init::Garbage => Frame::new(Kind::ResponseEnd, 9, ""),
        };
        self.socket.send(&[answer]).await;
        None
    }

    async fn invoke(&mut self, frame: Frame) -> Option<Exit> {
        let (flags, stream) = (frame.flags, frame.stream);
        let (context, payload) = split(&frame.body);
        let invoked = Invoked {
            container: self.container.number,
            stream,
            flags,
            context,
            payload,
            init: self.init.clone().unwrap_or_default(),
            task: self.container.directory.join("task"),
        };
        self.see(Seen::Invoked(&invoked));
        let script = (self.container.program)(&invoked);
        if let Some(log) = &mut self.log {
            // A full pipe loses lines here, and nobody minds.
            writeln!(log, "called").ok();
        }
        for step in script.steps {
            match step {
                Step::Pause(time) => {
                    let until = tokio::time::Instant::now() + time;
                    if self.wait(stream, Some(until), script.ignores_cancel).await {
                        return None;
                    }
                }
                Step::Hang => {
                    if self.wait(stream, None, script.ignores_cancel).await {
                        return None;
                    }
                }
                Step::Send(frames) => self.socket.send(&frames).await,
                Step::Bytes(bytes) => self.socket.write(&bytes).await,
                Step::Done => self.see(Seen::Done {
                    container: self.container.number,
                }),
                Step::CloseLog => {
                    self.lied("closed its log", false);
                    self.log = None;
                }
                Step::CloseSocket => self.socket.stream = None,
                Step::End(exit) => return Some(exit),
            }
        }
        None
    }

    /// Waits while the handler runs; whether it was cancelled, and so has ended.
    async fn wait(
        &mut self,
        stream: u32,
        until: Option<tokio::time::Instant>,
        ignores_cancel: bool,
    ) -> bool {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.socket.receive(), if self.socket.stream.is_some() => frame,
                () = asleep(until) => return false,
            };
            let Some(frame) = frame else {
                // Hearth hung up. The handler knows nothing of it and runs on.
                continue;
            };
            let container = self.container.number;
            if frame.kind != Kind::Cancel || frame.stream != stream {
                let what = format!("{:?} for {} came during {stream}", frame.kind, frame.stream);
                self.see(Seen::Wrong { container, what });
            } else if !ignores_cancel {
                self.see(Seen::Done { container });
                let report = r#"{"errorType":"Cancelled","errorMessage":"","stackTrace":[]}"#;
                let error = Frame::new(Kind::Error, stream, report);
                self.socket.send(&[error]).await;
                return true;
            }
        }
    }
}

async fn idle(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn asleep(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// An INVOKE's body without what stands before the payload.
/// The context and the payload of an INVOKE.
fn split(body: &Bytes) -> (Bytes, Bytes) {
    let id_end = 9 + usize::from(body[8]);
    let context = usize::from(u16::from_be_bytes([body[id_end], body[id_end + 1]]));
    let payload = id_end + 2 + context;
    (body.slice(id_end + 2..payload), body.slice(payload..))
}
