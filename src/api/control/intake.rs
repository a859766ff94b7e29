//! What comes in with a request: its body, within a bound for itself and one for all bodies together, and its query.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query as AxumQuery};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::arriving;
use crate::api::error::{FieldFault, Problem};
use crate::domain::limits::PACKAGE_PACKED_MAX;

/// The largest zip in base64, with its line breaks and the other fields.
pub const BODY_MAX: usize = PACKAGE_PACKED_MAX / 3 * 4 + 4 * 1024 * 1024;
/// Room for bodies that are being read or worked on, in MiB: seven of the largest, or hundreds of small ones.
const ROOM_MIB: usize = 512;
/// A body waits this long for room, and has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for bodies: the memory requests may take together.
#[derive(Debug, Clone)]
pub struct Room {
    mebibytes: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            mebibytes: Arc::new(Semaphore::new(ROOM_MIB)),
            patience: PATIENCE,
        }
    }
}

/// A body, and its room for as long as it is held.
#[derive(Debug)]
pub struct Upload {
    pub bytes: Bytes,
    pub room: OwnedSemaphorePermit,
}

impl Room {
    #[cfg(test)]
    pub(crate) fn with_patience(patience: Duration) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// Reads a JSON body whole.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Upload, Problem> {
        json_type(headers)?;
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok())
            .unwrap_or(BODY_MAX);
        if declared > BODY_MAX {
            return Err(Problem::TooLarge { limit: BODY_MAX });
        }
        let room = self.hold(declared).await?;
        let bytes = whole(&mut body, BODY_MAX, self.patience).await?;
        Ok(Upload { bytes, room })
    }

    /// Room for this many bytes, for as long as it is held.
    pub async fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let share = bytes.div_ceil(1024 * 1024).clamp(1, ROOM_MIB) as u32;
        let room = self.mebibytes.clone().acquire_many_owned(share);
        let room = tokio::time::timeout(self.patience, room).await;
        room.ok().and_then(Result::ok).ok_or(Problem::Busy)
    }
}

/// A body of at most `limit` bytes, which has `patience` to arrive.
pub async fn whole(body: &mut Body, limit: usize, patience: Duration) -> Result<Bytes, Problem> {
    let arrived = tokio::time::timeout(patience, Limited::new(body, limit).collect()).await;
    let arrived = arrived.map_err(|_elapsed| Problem::BodyIncomplete("it took too long".into()))?;
    match arrived {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge { limit }),
        Err(error) => Err(Problem::of_body(&arriving::broken(&*error))),
    }
}

/// Whether a body is said to be something else than JSON. Nothing said is fine, and so is what `curl -d` says whatever it sends.
fn json_type(headers: &HeaderMap) -> Result<(), Problem> {
    const TAKEN: [&str; 3] = [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/json",
    ];
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or("");
    let utf8 = parts.all(|part| match part.strip_prefix("charset=") {
        Some(charset) => matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"),
        None => true,
    });
    let is_json = TAKEN.contains(&essence)
        || essence
            .strip_prefix("application/")
            .is_some_and(|kind| kind.ends_with("+json"));
    match is_json && utf8 {
        true => Ok(()),
        false => Err(Problem::Type(text.chars().take(64).collect())),
    }
}

/// The function's id or name in the path.
#[derive(Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(Problem::invalid("id", error.body_text())),
        }
    }
}

/// The function's id or name in the path, and what stands below it.
#[derive(Debug)]
pub struct Below(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Below {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(Path((name, below))) => Ok(Self(name, below)),
            Err(error) => Err(Problem::invalid("id", error.body_text())),
        }
    }
}

/// The parameters of a query, taken one by one; what is left at the end is refused by name.
#[derive(Debug)]
pub struct Query {
    given: Vec<(String, String)>,
    faults: Vec<FieldFault>,
}

impl Query {
    pub fn of(uri: &Uri) -> Result<Self, Problem> {
        let given = AxumQuery::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::invalid("query", error.body_text()))?;
        Ok(Self {
            given: given.0,
            faults: Vec::new(),
        })
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        let at = self.given.iter().position(|(key, _)| key == name)?;
        Some(self.given.remove(at).1)
    }

    pub fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(&text)
            .map_err(|message| self.faults.push(FieldFault::new(name, message)))
            .ok()
    }

    pub fn limit(&mut self, range: RangeInclusive<usize>) -> Option<usize> {
        self.parsed("limit", |text| match text.parse() {
            Ok(limit) if range.contains(&limit) => Ok(limit),
            _ => Err(format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            )),
        })
    }

    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self.given {
            self.faults.push(FieldFault::new(
                name,
                "is not a parameter here, or is there twice",
            ));
        }
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Problem::Invalid(self.faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let uri = format!("/x?{text}").parse().expect("a URI");
        Query::of(&uri).expect("a query")
    }

    #[test]
    fn wrong_and_unknown_parameters_are_named() {
        let mut query = query("limit=0&what=1");
        assert_eq!(query.limit(1..=10), None);
        let Err(Problem::Invalid(faults)) = query.finish() else {
            panic!("refused");
        };
        let names: Vec<_> = faults.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(names, ["limit", "what"]);
    }

    #[test]
    fn a_body_that_is_said_to_be_no_json_is_refused() {
        let said = |value: &str| {
            let mut headers = HeaderMap::new();
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.insert(CONTENT_TYPE, value);
            json_type(&headers)
        };
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(said(good), Ok(()), "{good}");
        }
        assert_eq!(json_type(&HeaderMap::new()), Ok(()));
        for bad in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "application/zip",
            "application/jsonx",
            "",
            "é",
        ] {
            assert!(matches!(said(bad), Err(Problem::Type(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_before_and_while_it_is_read() {
        let room = Room::default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, (BODY_MAX + 1).into());
        let declared = room.read(&headers, Body::empty()).await;
        assert_eq!(
            declared.map(drop),
            Err(Problem::TooLarge { limit: BODY_MAX })
        );
        let piece = Bytes::from(vec![b' '; 16 * 1024 * 1024]);
        let pieces = (0..6).map(move |_| Ok::<_, std::convert::Infallible>(piece.clone()));
        let endless = Body::from_stream(futures_util::stream::iter(pieces));
        let read = room.read(&HeaderMap::new(), endless).await;
        assert_eq!(read.map(drop), Err(Problem::TooLarge { limit: BODY_MAX }));
        assert_eq!(room.mebibytes.available_permits(), ROOM_MIB, "given back");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
        let room = Room::with_patience(Duration::from_millis(10));
        let pieces = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let never = room
            .read(&HeaderMap::new(), Body::from_stream(pieces))
            .await;
        assert!(matches!(never.map(drop), Err(Problem::BodyIncomplete(_))));
        // And one that finds no room is told so.
        let all = room.mebibytes.clone().acquire_many_owned(ROOM_MIB as u32);
        let _all = all.await.expect("open");
        let busy = room.read(&HeaderMap::new(), Body::empty()).await;
        assert_eq!(busy.map(drop), Err(Problem::Busy));
    }
}
