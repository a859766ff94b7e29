//! Something between a server and its engine that can be broken: it passes everything on, or refuses connections, or lets them hang.
//! It counts what goes by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const ENGINE: &str = "/var/run/docker.sock";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The engine works.
    Forward,
    /// There is no engine: nobody listens, and connections that were open are cut.
    Refuse,
    /// The engine is wedged: it answers pings, and nothing else.
    Hang,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Containers asked for so far.
    pub(crate) creations: AtomicUsize,
    creating: AtomicUsize,
    /// The most creations there were at a time, each counted until its start was answered.
    pub(crate) most_creating: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    pub(crate) seen: Arc<Seen>,
    mode: watch::Sender<Mode>,
    /// What the listener has made of it.
    applied: watch::Receiver<Option<Mode>>,
}

impl Proxy {
    /// Lives as long as the test's runtime.
    pub(crate) fn start(socket: &Path, mode: Mode) -> Self {
        let (sender, receiver) = watch::channel(mode);
        let (apply, applied) = watch::channel(None);
        let seen = Arc::new(Seen::default());
        let proxy = Self {
            socket: socket.to_owned(),
            seen: seen.clone(),
            mode: sender,
            applied,
        };
        tokio::spawn(listen(proxy.socket.clone(), receiver, apply, seen));
        proxy
    }

    pub(crate) async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let mut applied = self.applied.clone();
        let done = applied.wait_for(|applied| *applied == Some(mode)).await;
        done.expect("the listener lives as long as the test");
    }

    pub(crate) fn path(&self) -> &str {
        self.socket.to_str().unwrap()
    }
}

async fn listen(
    socket: PathBuf,
    mut mode: watch::Receiver<Mode>,
    apply: watch::Sender<Option<Mode>>,
    seen: Arc<Seen>,
) {
    let mut listener = None;
    loop {
        let wanted = *mode.borrow_and_update();
        if wanted == Mode::Refuse {
            listener = None;
            drop(std::fs::remove_file(&socket));
        } else if listener.is_none() {
            listener = Some(UnixListener::bind(&socket).unwrap());
        }
        apply.send_replace(Some(wanted));
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.unwrap().0,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            client = accepted => {
                tokio::spawn(serve(client, mode.clone(), seen.clone()));
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn serve(mut client: UnixStream, mut mode: watch::Receiver<Mode>, seen: Arc<Seen>) {
    let mut creating = Creating {
        seen,
        counted: false,
    };
    if *mode.borrow_and_update() == Mode::Forward {
        let Ok(mut engine) = UnixStream::connect(ENGINE).await else {
            return;
        };
        tokio::select! {
            _ended = pass_on(&mut client, &mut engine, &mut creating) => return,
            _changed = mode.changed() => {}
        }
    }
    // What has begun to hang is cut when that is over, as by an engine that is started anew.
    if *mode.borrow_and_update() == Mode::Hang {
        tokio::select! {
            _answered = answer_pings(&mut client) => {}
            _changed = mode.changed() => {}
        }
    }
}

/// Lets pings through, and everything else hang.
async fn answer_pings(client: &mut UnixStream) -> std::io::Result<()> {
    let mut asked = vec![0; 65_536];
    loop {
        let n = client.read(&mut asked).await?;
        let line = asked[..n].split(|byte| *byte == b'\n').next();
        if n == 0 {
            return Ok(());
        }
        if !String::from_utf8_lossy(line.unwrap_or_default()).contains("/_ping ") {
            continue;
        }
        let mut engine = UnixStream::connect(ENGINE).await?;
        engine.write_all(&asked[..n]).await?;
        let mut answered = vec![0; 65_536];
        let n = engine.read(&mut answered).await?;
        client.write_all(&answered[..n]).await?;
    }
}

async fn pass_on(
    client: &mut UnixStream,
    engine: &mut UnixStream,
    creating: &mut Creating,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let bytes = &asked[..n?];
                if bytes.is_empty() {
                    return Ok(());
                }
                creating.look_at(bytes);
                engine.write_all(bytes).await?;
            }
            n = engine.read(&mut answered) => {
                let bytes = &answered[..n?];
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// A connection on which a container was asked for: the server creates and starts it on the same one, and closes it then.
struct Creating {
    seen: Arc<Seen>,
    counted: bool,
}

impl Creating {
    fn look_at(&mut self, bytes: &[u8]) {
        if bytes.starts_with(b"POST /containers/create") {
            self.seen.creations.fetch_add(1, Ordering::SeqCst);
            if !self.counted {
                self.counted = true;
                let now = self.seen.creating.fetch_add(1, Ordering::SeqCst) + 1;
                self.seen.most_creating.fetch_max(now, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        if self.counted {
            self.seen.creating.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
