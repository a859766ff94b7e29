//! Requests as bytes, and whatever comes back. Nothing here knows what a good request is: an HTTP client would refuse to send most of
//! what these tests send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::PATIENCE;

/// More than any answer here has. An endless one ends there.
const READ_MAX: usize = 4 * 1024 * 1024;

/// One thing done to a connection after the other.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// The same again and again, with pauses, until the server has had enough or this often.
    Dribble {
        piece: Vec<u8>,
        pause: Duration,
        times: usize,
    },
    /// Nothing more comes from here; the answer is still read.
    HalfClose,
}

/// What may come back. The connection may end with any of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want {
    /// One answer with one of these statuses.
    Status(&'static [u16]),
    /// That, or the connection ends without an answer.
    StatusOrClosed(&'static [u16]),
    /// That, and the connection ends.
    StatusAndClosed(&'static [u16]),
    /// No HTTP/1 answer, and the connection ends.
    Closed,
    /// These, in this order.
    All(&'static [u16]),
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) want: Want,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, want: Want) -> Self {
        Self {
            name: name.into(),
            steps: vec![Step::Send(bytes.into())],
            want,
        }
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// What came back until the server closed the connection.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
}

/// One answer in what came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Plays a case and listens until the server hangs up. The servers of these tests do so soon after the last request.
pub(crate) async fn play(address: &str, steps: &[Step]) -> Heard {
    let stream = TcpStream::connect(address).await.expect("accepted");
    let (mut from, mut to) = stream.into_split();
    let writing = async {
        for step in steps {
            // A server that has refused already does not read the rest.
            let done = match step {
                Step::Send(bytes) => to.write_all(bytes).await,
                Step::HalfClose => to.shutdown().await,
                Step::Dribble {
                    piece,
                    pause,
                    times,
                } => {
                    let mut done = Ok(());
                    for _ in 0..*times {
                        done = to.write_all(piece).await;
                        if done.is_err() {
                            break;
                        }
                        tokio::time::sleep(*pause).await;
                    }
                    done
                }
            };
            if done.is_err() {
                break;
            }
        }
        to
    };
    let reading = async {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        while bytes.len() < READ_MAX {
            match from.read(&mut piece).await {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                // Reset: it hung up on what we were still sending.
                Err(_) => break,
            }
        }
        bytes
    };
    let mut bytes = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, async {
        tokio::pin!(writing, reading);
        tokio::select! {
            read = &mut reading => bytes = read,
            // It is kept: closing it would be one more thing said.
            _open = &mut writing => bytes = reading.await,
        }
    })
    .await
    .is_ok();
    Heard { bytes, closed }
}

impl Heard {
    /// The answers in it; what cannot be read as one is the error.
    pub(crate) fn answers(&self) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let shown = || String::from_utf8_lossy(&rest[..rest.len().min(200)]).into_owned();
            let end = find(rest, b"\r\n\r\n").ok_or_else(|| format!("no head: {:?}", shown()))?;
            let head = String::from_utf8(rest[..end].to_vec()).map_err(|_binary| shown())?;
            let status = head
                .strip_prefix("HTTP/1.1 ")
                .or_else(|| head.strip_prefix("HTTP/1.0 "))
                .and_then(|rest| rest.get(..3)?.parse().ok())
                .ok_or_else(|| format!("no status: {head:?}"))?;
            rest = &rest[end + 4..];
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            });
            // Interim answers have no body, and all others here say how long it is or go on to the end.
            let length = match status {
                100..200 => 0,
                _ => length.unwrap_or(rest.len()).min(rest.len()),
            };
            answers.push(Answer {
                status,
                body: rest[..length].to_vec(),
            });
            rest = &rest[length..];
        }
        Ok(answers)
    }
}

/// What is wrong with what came back.
pub(crate) fn judge(case: &Case, heard: &Heard) -> Option<String> {
    let shown = || String::from_utf8_lossy(&heard.bytes[..heard.bytes.len().min(600)]).into_owned();
    let wrong = |what: &str| {
        Some(format!(
            "{}: {what}: {:?}, {:?}",
            case.name,
            case.want,
            shown()
        ))
    };
    if matches!(case.want, Want::Closed) {
        // Frames of HTTP/2 may say why.
        return match heard.closed && !heard.bytes.starts_with(b"HTTP/1") {
            true => None,
            false => wrong("was not hung up on"),
        };
    }
    let answers = match heard.answers() {
        Ok(answers) => answers,
        Err(error) => return wrong(&error),
    };
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let good = match case.want {
        Want::Closed => unreachable!("judged above"),
        Want::Status(allowed) => matches!(statuses[..], [one] if allowed.contains(&one)),
        Want::StatusAndClosed(allowed) => {
            heard.closed && matches!(statuses[..], [one] if allowed.contains(&one))
        }
        Want::StatusOrClosed(allowed) => match statuses[..] {
            [] => heard.closed,
            [one] => allowed.contains(&one),
            _ => false,
        },
        Want::All(wanted) => statuses == wanted,
    };
    if !good {
        return wrong("was answered otherwise");
    }
    for answer in answers {
        // What the HTTP library refuses by itself has no body; everything else says what was wrong.
        if answer.status >= 400 && !answer.body.is_empty() {
            let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
            if body.is_none_or(|body| !body["error"]["code"].is_string()) {
                return wrong("has no error document");
            }
        }
    }
    None
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
