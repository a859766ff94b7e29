//! What functions print. One `Book` per function keeps the newest lines within a bound and hands new ones to followers; a
//! `Pipe` is one worker's log FIFO, read by its own task and once more by the call when its answer is there.
//!
//! Completeness rests on order: the shim writes the lines to the pipe before the answer to the socket, so a read of the pipe
//! until it is empty, done after the answer arrived, has all of them. The readiness tokio remembers may be older than
//! that, so the read asks the kernel itself.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::poll_fn;
use memchr::memchr;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::unix::pipe;
use tokio::sync::broadcast;

use crate::clock;
use crate::domain::id::{RequestId, WorkerId};

/// Lines a follower may lag behind before it is told that it lost some.
const FOLLOWER_LAG: usize = 1024;
/// One read takes at most this much, so that a flood cannot hold a thread.
const READ_CHUNK: usize = 16 * 1024;
/// While a worker prints, its task looks no more often than this, unless there is a lot: a call reads its own lines when it has
/// its answer. What is printed between is seen this much later, and so is the worker's end.
const WATCH_PAUSE: Duration = Duration::from_millis(10);
/// What a thread that an invocation left behind prints in this time after it may be taken for the next one's, if that follows so soon: a
/// look at an empty pipe is spared.
const JUST_NOW: Duration = Duration::from_millis(1);
/// One drain reads at most this many chunks; a pipe holds one (64 KiB by default), so a quiet worker's is always emptied.
const DRAIN_CHUNKS: usize = 16;

/// One line of a function's output.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Grows by one per line of the function; a follower that lagged can see what is missing.
    pub sequence: u64,
    pub at: jiff::Timestamp,
    /// The invocation under way or, between two, the one before; none while the code is being loaded.
    pub request_id: Option<RequestId>,
    pub worker: WorkerId,
    pub text: String,
}

/// A function's log.
#[derive(Debug)]
pub struct Book {
    /// Another one after a restart, when numbers begin anew.
    life: u32,
    kept: Mutex<Kept>,
    /// Made for the first follower: it has room for all a follower may lag behind.
    followers: OnceLock<broadcast::Sender<Arc<Line>>>,
    keep_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    next: u64,
}

impl Book {
    pub fn new(keep_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            life: rand::random(),
            kept: Mutex::default(),
            followers: OnceLock::new(),
            keep_bytes,
        })
    }

    /// The newest lines, oldest first: at most `limit`, of one invocation if `request_id` names one.
    pub fn tail(&self, request_id: Option<&str>, limit: usize) -> Vec<Arc<Line>> {
        let kept = self.kept.lock();
        let wanted = |line: &&Arc<Line>| match request_id {
            Some(id) => line
                .request_id
                .is_some_and(|r| r.encode(&mut [0; 36]) == id),
            None => true,
        };
        let mut lines: Vec<_> = kept
            .lines
            .iter()
            .rev()
            .filter(wanted)
            .take(limit)
            .cloned()
            .collect();
        lines.reverse();
        lines
    }

    /// What tells its lines from those of the same number in another book of the function: before a restart, on another node.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Every line from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        let followers = self
            .followers
            .get_or_init(|| broadcast::Sender::new(FOLLOWER_LAG));
        followers.subscribe()
    }

    pub fn push(&self, worker: &WorkerId, request_id: Option<RequestId>, text: String) {
        let mut kept = self.kept.lock();
        let line = Arc::new(Line {
            sequence: kept.next,
            at: clock::wall(),
            request_id,
            worker: worker.clone(),
            text,
        });
        kept.next += 1;
        kept.bytes += cost(&line);
        kept.lines.push_back(line.clone());
        while kept.bytes > self.keep_bytes {
            let Some(old) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= cost(&old);
        }
        // Sent under the lock, so that followers see lines in the order of their sequence. No follower is no error.
        if let Some(followers) = self.followers.get()
            && followers.receiver_count() > 0
        {
            followers.send(line).ok();
        }
    }
}

fn cost(line: &Line) -> usize {
    line.text.len() + size_of::<Line>()
}

/// A worker's log pipe, host side.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    line_bytes: usize,
}

/// The reading end.
#[derive(Debug)]
struct Reader(Registered);

/// Whether the reactor has it.
#[derive(Debug)]
enum Registered {
    Yes(pipe::Receiver),
    No(OwnedFd),
    /// It could not be moved from one to the other.
    Lost,
}

impl Reader {
    fn register(&mut self, registered: bool) -> io::Result<()> {
        let descriptor = match std::mem::replace(&mut self.0, Registered::Lost) {
            Registered::Yes(receiver) => receiver.into_nonblocking_fd()?,
            Registered::No(descriptor) => descriptor,
            Registered::Lost => return Err(Errno::EBADF.into()),
        };
        self.0 = match registered {
            true => Registered::Yes(pipe::Receiver::from_owned_fd_unchecked(descriptor)?),
            false => Registered::No(descriptor),
        };
        Ok(())
    }

    fn poll_written(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Registered::Yes(receiver) => receiver.poll_read_ready(context),
            Registered::No(_) => Poll::Pending,
            Registered::Lost => Poll::Ready(Err(Errno::EBADF.into())),
        }
    }

    fn read(&self, chunk: &mut [u8]) -> Result<usize, Errno> {
        match &self.0 {
            Registered::Yes(receiver) => nix::unistd::read(receiver, chunk),
            Registered::No(descriptor) => nix::unistd::read(descriptor, chunk),
            Registered::Lost => Err(Errno::EBADF),
        }
    }
}

#[derive(Debug)]
struct State {
    reader: Reader,
    worker: WorkerId,
    /// Where lines go; a stem worker's go nowhere but into `early`.
    book: Option<Arc<Book>>,
    request_id: Option<RequestId>,
    partial: Vec<u8>,
    /// The part of an over-long line that is being skipped.
    skipping: bool,
    /// The last lines, kept for the error that may follow: a bounded tail, each with its end.
    tail: String,
    chunk: Vec<u8>,
    /// Something was read since the worker's task looked last.
    printed: bool,
    /// When the last invocation's lines were all read, until the next begins.
    emptied: Option<Instant>,
}

/// How a read of what is in the pipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Emptied,
    /// There may be more.
    Bounded,
    /// It is empty and has no writer: not yet, or no more.
    Ended,
}

/// What the worker's task saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing was printed since the last look.
    Quiet,
    Printed,
    More,
    Ended,
}

/// Bytes of output kept for an error's log tail; AWS returns the last 4 KB too.
const TAIL_BYTES: usize = 4 * 1024;

impl Pipe {
    /// Makes the FIFO and opens its reading end; done before the worker's container starts, so that its first instruction
    /// finds a reader.
    pub fn create(path: &Path, worker: WorkerId, line_bytes: usize) -> io::Result<Arc<Self>> {
        nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o622))?;
        // The process's umask took bits off; whoever the worker runs as must be able to write.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o622))?;
        let reader = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        Ok(Arc::new(Self {
            state: Mutex::new(State {
                reader: Reader(Registered::No(reader.into())),
                worker,
                book: None,
                request_id: None,
                partial: Vec::new(),
                skipping: false,
                tail: String::new(),
                chunk: vec![0; READ_CHUNK],
                printed: false,
                emptied: None,
            }),
            line_bytes,
        }))
    }

    /// From now on lines belong to this function.
    pub fn belong_to(&self, book: Arc<Book>) {
        self.state.lock().book = Some(book);
    }

    /// From now on lines belong to this invocation. What is in the pipe already is the previous one's, so it is read first, unless
    /// that has just been done.
    pub fn begin(&self, request_id: RequestId, now: Instant) {
        let mut state = self.state.lock();
        let emptied = state.emptied.take();
        if emptied.is_none_or(|at| now.saturating_duration_since(at) >= JUST_NOW) {
            self.read_available(&mut state);
        }
        state.finish_partial();
        state.tail.clear();
        // One long line must not take its room for ever.
        if state.tail.capacity() > 4 * TAIL_BYTES {
            state.tail = String::new();
        }
        state.request_id = Some(request_id);
    }

    /// Reads what the invocation printed. Called when its answer has arrived; a line it did not end is one now, or nobody would
    /// see it before the next invocation.
    pub fn drain(&self, now: Instant) {
        let mut state = self.state.lock();
        if !matches!(self.read_available(&mut state), Read::Bounded) {
            state.emptied = Some(now);
            state.finish_partial();
        }
    }

    /// The end of what was printed lately, for an error's answer.
    pub fn tail(&self) -> String {
        let mut state = self.state.lock();
        self.read_available(&mut state);
        last_lines(&state.tail).to_owned() + &String::from_utf8_lossy(&state.partial)
    }

    /// Reads for as long as somebody may write; returns when the last writer is gone, which is when the container's
    /// processes are. The worker's own task runs this, and so it is also how a dead idle worker is noticed.
    ///
    /// The pipe is registered with the reactor only while nothing is printed. A function that prints with every call would else
    /// wake a thread of the server with each line, before the answer does.
    pub async fn watch(&self) -> io::Result<()> {
        loop {
            self.written().await?;
            loop {
                match self.look() {
                    Look::Ended => return Ok(()),
                    // A flood must not keep others from running, and not wait for a reader.
                    Look::More => tokio::task::yield_now().await,
                    Look::Printed => tokio::time::sleep(WATCH_PAUSE).await,
                    Look::Quiet => break,
                }
            }
        }
    }

    /// Waits until something is in the pipe, or its last writer is gone.
    async fn written(&self) -> io::Result<()> {
        // Registered anew, also after a wait that was given up: what the reactor remembers is older than the last look.
        self.state.lock().reader.register(true)?;
        poll_fn(|context| self.state.lock().reader.poll_written(context)).await?;
        self.state.lock().reader.register(false)
    }

    /// Looks at the pipe after an event or a pause.
    fn look(&self) -> Look {
        let mut state = self.state.lock();
        let look = self.read_available(&mut state);
        let printed = std::mem::take(&mut state.printed);
        match look {
            // There was an event, so this is the end and not the time before the first writer.
            Read::Ended => {
                state.finish_partial();
                Look::Ended
            }
            Read::Bounded => Look::More,
            Read::Emptied if printed => Look::Printed,
            Read::Emptied => Look::Quiet,
        }
    }

    /// Reads until the pipe is empty, or the bound of one drain is reached.
    fn read_available(&self, state: &mut State) -> Read {
        // Taken out while its bytes are being sorted into lines; kept between calls so that a call does not pay for it.
        let mut chunk = std::mem::take(&mut state.chunk);
        let mut read = Read::Bounded;
        for _ in 0..DRAIN_CHUNKS {
            match state.reader.read(&mut chunk) {
                Ok(0) => {
                    read = Read::Ended;
                    break;
                }
                Ok(n) => {
                    state.take(&chunk[..n], self.line_bytes);
                    state.printed = true;
                    // A read gives all a pipe has, as far as there is room for it.
                    if n < chunk.len() {
                        read = Read::Emptied;
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => {
                    read = Read::Emptied;
                    break;
                }
            }
        }
        state.chunk = chunk;
        read
    }
}

/// As many whole lines from the end as are kept, and the last one however long it is.
fn last_lines(text: &str) -> &str {
    if text.len() <= TAIL_BYTES {
        return text;
    }
    let start = text.len() - TAIL_BYTES;
    let bytes = text.as_bytes();
    let ends = |from: usize| bytes[from..].iter().position(|byte| *byte == b'\n');
    let begin = ends(start - 1).map_or(text.len(), |at| start + at);
    let last = text.strip_suffix('\n').unwrap_or(text);
    let last = last.rfind('\n').map_or(0, |at| at + 1);
    &text[begin.min(last)..]
}

impl State {
    fn take(&mut self, mut bytes: &[u8], line_bytes: usize) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.extend(&bytes[..end], line_bytes);
            self.finish_line();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, line_bytes);
    }

    /// Adds to the current line; what is beyond the longest line is cut and said so.
    fn extend(&mut self, bytes: &[u8], line_bytes: usize) {
        if self.skipping {
            return;
        }
        let room = line_bytes.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.partial.extend_from_slice(" … (cut)".as_bytes());
            self.skipping = true;
        }
    }

    fn finish_partial(&mut self) {
        if !self.partial.is_empty() {
            self.finish_line();
        }
    }

    fn finish_line(&mut self) {
        self.skipping = false;
        // What is text already is looked at word by word, and what is not byte by byte.
        let text = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.into(),
            Err(_) => String::from_utf8_lossy(&self.partial),
        };
        let text = text.trim_end_matches('\r').to_owned();
        self.partial.clear();
        self.tail.push_str(&text);
        self.tail.push('\n');
        // Not with every line: what stays is moved.
        if self.tail.len() > 2 * TAIL_BYTES {
            let gone = self.tail.len() - last_lines(&self.tail).len();
            self.tail.drain(..gone);
        }
        if let Some(book) = &self.book {
            book.push(&self.worker, self.request_id, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pipe(line_bytes: usize) -> (tempfile::TempDir, Arc<Pipe>, std::fs::File, Arc<Book>) {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("log");
        let pipe = Pipe::create(&path, WorkerId::generate(), line_bytes).expect("fifo");
        let writer = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("writer");
        let book = Book::new(4096);
        pipe.belong_to(book.clone());
        (dir, pipe, writer, book)
    }

    #[tokio::test]
    async fn lines_belong_to_the_invocation_that_printed_them() {
        let (_dir, pipe, mut out, book) = pipe(1024);
        writeln!(out, "loading").expect("write");
        let (one, two) = (RequestId::generate(), RequestId::generate());
        let now = clock::now();
        pipe.begin(one, now);
        write!(out, "first\nhalf").expect("write");
        pipe.drain(now);
        let text = |l: &Arc<Line>| l.text.clone();
        let shown: Vec<_> = book.tail(None, 10).iter().map(text).collect();
        assert_eq!(shown, ["loading", "first", "half"]);
        writeln!(out, "left behind").expect("write");
        pipe.begin(two, now + JUST_NOW);
        writeln!(out, "second").expect("write");
        pipe.drain(clock::now());
        let got: Vec<_> = book
            .tail(None, 10)
            .iter()
            .map(|l| (l.request_id, l.text.clone()))
            .collect();
        let want = [
            (None, "loading"),
            (Some(one), "first"),
            (Some(one), "half"),
            (Some(one), "left behind"),
            (Some(two), "second"),
        ];
        assert_eq!(got, want.map(|(id, text)| (id, text.to_owned())));
        assert_eq!(book.tail(Some(&two.to_string()), 10).len(), 1);
        assert_eq!(pipe.tail(), "second\n");
    }

    #[tokio::test]
    async fn the_end_of_the_last_writer_ends_the_watch() {
        let (_dir, pipe, mut out, book) = pipe(1024);
        write!(out, "last words\nin a hurry").expect("write");
        drop(out);
        tokio::time::timeout(std::time::Duration::from_secs(5), pipe.watch())
            .await
            .expect("ends")
            .expect("no error");
        let lines = book.tail(None, 10);
        assert_eq!(lines[0].text, "last words");
        assert_eq!(
            lines[1].text, "in a hurry",
            "a line nobody ended is kept too"
        );
    }

    #[test]
    fn the_tail_is_of_whole_lines() {
        let line = "é".repeat(24) + "\n";
        let short = line.repeat(TAIL_BYTES / line.len());
        assert_eq!(last_lines(&short), short);
        let many = line.repeat(500);
        let tail = last_lines(&many);
        assert!(tail.len() <= TAIL_BYTES && tail.len() + line.len() > TAIL_BYTES);
        assert_eq!(tail.len() % line.len(), 0);
        let long = "x".repeat(2 * TAIL_BYTES) + "\n";
        assert_eq!(last_lines(&long), long);
        assert_eq!(last_lines(&(many.clone() + &long)), long);
        assert_eq!(last_lines(&(long + &line)), line);
        assert!(last_lines(&("a".to_owned() + &"\n".repeat(9000))).len() <= TAIL_BYTES);
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_old_lines_dropped() {
        let (_dir, pipe, mut out, book) = pipe(8);
        writeln!(out, "0123456789").expect("write");
        pipe.drain(clock::now());
        assert_eq!(book.tail(None, 1)[0].text, "01234567 … (cut)");
        for n in 0..100 {
            writeln!(out, "{n}").expect("write");
        }
        pipe.drain(clock::now());
        let lines = book.tail(None, 1000);
        assert!(lines.len() < 100, "bounded: {}", lines.len());
        assert_eq!(lines.last().expect("some").text, "99");
        assert_eq!(lines.last().expect("some").sequence, 100);
    }
}
