//! A function's log: its newest lines as a list, or every line as it comes, as server-sent events. A follower that comes back is given
//! what it missed, as far as that is still remembered, and is told when it is not.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

use crate::api::control::Control;
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::ReadErrors;
use crate::api::error::Problem;
use crate::scheduler::{Book, Line};

const LINES_DEFAULT: usize = 100;
const LINES_MAX: usize = 10_000;
/// A comment this often keeps what is between the ends from taking a quiet function for a dead connection.
/// Who follows and hears nothing for a few of these takes the server for lost.
const HEARTBEAT: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLines)]
struct Lines<'a> {
    #[schema(value_type = Vec<LogLine>)]
    items: Vec<&'a Line>,
}

// Describes `Line`.
/// One line a function printed.
#[derive(Debug, ToSchema)]
pub struct LogLine {
    /// Grows by one with every line of the function.
    pub sequence: u64,
    #[schema(format = DateTime)]
    pub at: String,
    /// The call it belongs to; null while the code was being loaded.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// The worker that printed it.
    pub worker: String,
    pub text: String,
}

/// Read a function's log
///
/// The newest lines, oldest first. With `follow=true`, or `accept: text/event-stream`, the answer does not end: every line is an event
/// with the line as its data, and a `lagged` event with `{"missed": n}` stands where lines were lost. The id of the last event, sent back as
/// `Last-Event-ID`, goes on where an earlier answer ended; after a restart of the server all lines are new.
#[utoipa::path(
    get, path = "/functions/{id}/logs", tag = "logs", operation_id = "read_logs",
    params(
        ("id" = String, Path, description = "id or name"),
        ("request_id" = Option<String>, Query, description = "only lines of this call"),
        ("limit" = Option<u32>, Query, minimum = 0, maximum = 10000, description = "lines that were printed already; 100 if left out"),
        ("follow" = Option<bool>, Query, description = "go on with the lines that come"),
        ("last-event-id" = Option<String>, Header, nullable = false, description = "of the last event that was seen"),
    ),
    responses(
        (status = 200, description = "the lines", content((Lines = "application/json"), (String = "text/event-stream"))),
        ReadErrors,
    )
)]
pub async fn read(
    State(control): State<Control>,
    Name(id): Name,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(0..=LINES_MAX).unwrap_or(LINES_DEFAULT);
    let request_id = query.text("request_id");
    let follow = query.parsed("follow", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    });
    query.finish()?;
    let book = find(&control, &id)?.logs().clone();
    if follow.unwrap_or_else(|| asks_for_events(&headers)) {
        let from = headers
            .get("last-event-id")
            .and_then(|id| seen(book.life(), id.to_str().ok()?));
        let life = book.life();
        let events = follow_book(&book, request_id, from, limit)
            .map(move |happening| Ok::<_, Infallible>(happening.event(life)))
            .take_until(control.stop.clone().cancelled_owned());
        let heartbeat = KeepAlive::new().interval(HEARTBEAT);
        return Ok(Sse::new(events).keep_alive(heartbeat).into_response());
    }
    let lines = book.tail(request_id.as_deref(), limit);
    let items = lines.iter().map(|line| &**line).collect();
    Ok(json(StatusCode::OK, &Lines { items }))
}

fn asks_for_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.contains("text/event-stream"))
}

/// The id of a line's event.
fn event_id(life: u32, sequence: u64) -> String {
    format!("{life:08x}-{sequence}")
}

/// The line an event's id names, if it is one of this life.
fn seen(life: u32, id: &str) -> Option<u64> {
    let (of, sequence) = id.split_once('-')?;
    let same = u32::from_str_radix(of, 16) == Ok(life);
    same.then(|| sequence.parse().ok())?
}

#[derive(Debug)]
enum Happening {
    Line(Arc<Line>),
    Lagged(u64),
}

impl Happening {
    fn event(&self, life: u32) -> Event {
        match self {
            Happening::Line(line) => Event::default()
                .id(event_id(life, line.sequence))
                .json_data(line)
                .unwrap_or_default(),
            Happening::Lagged(missed) => Event::default()
                .event("lagged")
                .data(format!("{{\"missed\":{missed}}}")),
        }
    }
}

/// What a follower gets next: first what is remembered, then what comes.
struct Follower {
    request_id: Option<String>,
    remembered: VecDeque<Happening>,
    /// Lines below this were given already: a line can be remembered and come as well.
    next: u64,
    coming: Receiver<Arc<Line>>,
}

/// Does not hold the book, so that the end of the function is the end of the stream.
fn follow_book(
    book: &Book,
    request_id: Option<String>,
    last_seen: Option<u64>,
    limit: usize,
) -> impl Stream<Item = Happening> + use<> {
    // Before the look back, or a line between the two would be lost.
    let coming = book.follow();
    let all = book.tail(None, usize::MAX);
    let mut remembered = VecDeque::new();
    let newest = all.last().map(|line| line.sequence);
    let mut back: Vec<_> = match last_seen {
        Some(seen) => {
            let oldest = all.first().map_or(0, |line| line.sequence);
            if oldest > seen + 1 {
                remembered.push_back(Happening::Lagged(oldest - seen - 1));
            }
            all.into_iter()
                .filter(|line| line.sequence > seen)
                .collect()
        }
        None => all,
    };
    back.retain(|line| belongs(line, request_id.as_deref()));
    if last_seen.is_none() {
        back.drain(..back.len().saturating_sub(limit));
    }
    remembered.extend(back.into_iter().map(Happening::Line));
    let follower = Follower {
        request_id,
        remembered,
        next: newest.map_or(0, |newest| newest + 1),
        coming,
    };
    stream::unfold(follower, async |mut follower| {
        let happening = follower.next().await?;
        Some((happening, follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<Happening> {
        if let Some(happening) = self.remembered.pop_front() {
            return Some(happening);
        }
        loop {
            match self.coming.recv().await {
                Ok(line) if line.sequence < self.next => {}
                Ok(line) if belongs(&line, self.request_id.as_deref()) => {
                    return Some(Happening::Line(line));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(Happening::Lagged(missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn belongs(line: &Line, request_id: Option<&str>) -> bool {
    request_id.is_none_or(|wanted| {
        line.request_id
            .is_some_and(|id| id.encode(&mut [0; 36]) == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{RequestId, WorkerId};

    fn push(book: &Book, request_id: Option<RequestId>, text: &str) {
        book.push(&WorkerId::generate(), request_id, text.into());
    }

    /// What comes without waiting.
    fn ready(stream: &mut (impl Stream<Item = Happening> + Unpin)) -> Vec<String> {
        use futures_util::FutureExt;
        let mut got = Vec::new();
        // Without tokio's budget, which makes a task pause after some lines.
        while let Some(Some(happening)) = tokio::task::unconstrained(stream.next()).now_or_never() {
            got.push(match happening {
                Happening::Line(line) => line.text.clone(),
                Happening::Lagged(missed) => format!("lagged {missed}"),
            });
        }
        got
    }

    #[tokio::test]
    async fn a_follower_gets_what_was_and_what_comes_once_each() {
        let book = Book::new(1 << 20);
        for n in 0..5 {
            push(&book, None, &n.to_string());
        }
        let mut lines = Box::pin(follow_book(&book, None, None, 2));
        push(&book, None, "new");
        assert_eq!(ready(&mut lines), ["3", "4", "new"]);
        push(&book, None, "newer");
        assert_eq!(ready(&mut lines), ["newer"]);
    }

    #[tokio::test]
    async fn a_follower_that_comes_back_goes_on_where_it_was() {
        let book = Book::new(1 << 20);
        for n in 0..5 {
            push(&book, None, &n.to_string());
        }
        let mut lines = Box::pin(follow_book(&book, None, Some(2), 0));
        assert_eq!(ready(&mut lines), ["3", "4"]);
        let life = book.life();
        assert_eq!(seen(life, &event_id(life, 2)), Some(2));
        // From before a restart, when other lines had these numbers; or nobody's.
        for id in [
            &event_id(life ^ 1, 2),
            "2",
            "",
            "-",
            "-2",
            "x-2",
            &format!("{life:08x}-"),
        ] {
            assert_eq!(seen(life, id), None, "{id}");
        }
    }

    #[tokio::test]
    async fn a_follower_is_told_what_it_missed() {
        let book = Book::new(2_000);
        for n in 0..100 {
            push(&book, None, &n.to_string());
        }
        let oldest = book.tail(None, usize::MAX)[0].sequence;
        let mut lines = Box::pin(follow_book(&book, None, Some(0), 0));
        assert_eq!(ready(&mut lines)[0], format!("lagged {}", oldest - 1));
        for n in 0..5_000 {
            push(&book, None, &n.to_string());
        }
        let late = ready(&mut lines);
        assert!(late[0].starts_with("lagged "), "{}", late[0]);
        assert_eq!(late.last().map(String::as_str), Some("4999"));
    }

    #[tokio::test]
    async fn lines_of_one_call_only() {
        let book = Book::new(1 << 20);
        let (mine, other) = (RequestId::generate(), RequestId::generate());
        push(&book, Some(other), "other");
        push(&book, Some(mine), "mine");
        let mut lines = Box::pin(follow_book(&book, Some(mine.to_string()), None, 1));
        push(&book, Some(other), "other again");
        push(&book, None, "nobody's");
        push(&book, Some(mine), "mine again");
        assert_eq!(ready(&mut lines), ["mine", "mine again"]);
    }

    #[tokio::test]
    async fn the_end_of_the_function_is_the_end_of_its_log() {
        let book = Book::new(1 << 20);
        let mut lines = Box::pin(follow_book(&book, None, None, 0));
        drop(book);
        assert!(lines.next().await.is_none());
    }
}
