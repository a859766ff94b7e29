//! What every answer to a call says beside what was answered: which call it was, where its time went and on what it ran. Warm path: the
//! headers are copied from some that were put together once, because to copy them takes less than to find each its place by its name.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::api::error;
use crate::domain::function::LATEST;
use crate::domain::id::RequestId;
use crate::domain::invocation::{Phases, StartKind, StartReason};
use crate::domain::version::VersionId;
use crate::scheduler::Target;

pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub const START: HeaderName = HeaderName::from_static("x-hearth-start");
pub const VERSION: HeaderName = HeaderName::from_static("x-hearth-version");
pub const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");

/// The head of an answer while it is put together.
#[derive(Debug)]
pub struct Head {
    /// All there may be, each at its place.
    headers: HeaderMap,
    has_target: bool,
}

/// One that says nothing yet.
static WHOLE: LazyLock<HeaderMap> = LazyLock::new(|| {
    let blank = HeaderValue::from_static("");
    NAMES
        .iter()
        .map(|name| (name.clone(), blank.clone()))
        .collect()
});

static NAMES: [HeaderName; 6] = [
    error::REQUEST_ID,
    VERSION,
    EXECUTED_VERSION,
    SERVER_TIMING,
    START,
    CONTENT_TYPE,
];

/// Where in `WHOLE` each of `NAMES` is: the same in every copy of it.
static PLACES: LazyLock<[usize; NAMES.len()]> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let place = WHOLE.keys().position(|key| *key == NAMES[number]);
        place.expect("it was put there")
    })
});

impl Head {
    /// What is known before the call.
    pub fn of(request_id: RequestId, target: Option<&Target>) -> Self {
        let mut head = Self {
            headers: WHOLE.clone(),
            has_target: target.is_some(),
        };
        head.put::<0>(error::request_id_value(request_id));
        if let Some(target) = target {
            let version = HeaderValue::from_str(target.digest.short()).expect("a digest is hex");
            head.put::<1>(version);
            head.put::<2>(executed(target.version));
        }
        head
    }

    /// All of it, with what is known after the call, for an answer of this type; or one that is declared otherwise.
    pub fn headers(
        mut self,
        phases: &Phases,
        start: Option<(StartKind, StartReason)>,
        content_type: Option<HeaderValue>,
    ) -> HeaderMap {
        self.put::<3>(server_timing(phases, start));
        if let Some((kind, _)) = start {
            self.put::<4>(HeaderValue::from_static(kind.as_str()));
        }
        let typed = content_type.map(|value| self.put::<5>(value)).is_some();
        let mut headers = self.headers;
        // Only now: what is left may have other places then.
        if !self.has_target {
            headers.remove(VERSION);
            headers.remove(EXECUTED_VERSION);
        }
        if start.is_none() {
            headers.remove(START);
        }
        if !typed {
            headers.remove(CONTENT_TYPE);
        }
        headers
    }

    /// The value of the header of this number.
    fn put<const NUMBER: usize>(&mut self, value: HeaderValue) {
        let place = self.headers.values_mut().nth(PLACES[NUMBER]);
        *place.expect("a copy has as many") = value;
    }
}

/// Says it in an answer that has a head already.
pub fn label(
    headers: &mut HeaderMap,
    request_id: RequestId,
    phases: &Phases,
    start: Option<(StartKind, StartReason)>,
    target: &Target,
) {
    let head = Head::of(request_id, Some(target));
    headers.extend(head.headers(phases, start, None));
}

fn executed(version: VersionId) -> HeaderValue {
    match version {
        VersionId::Latest => HeaderValue::from_static(LATEST),
        VersionId::Number(number) => number.into(),
    }
}

/// Where the time went, in milliseconds.
pub fn server_timing(phases: &Phases, start: Option<(StartKind, StartReason)>) -> HeaderValue {
    let mut text = Text::default();
    text.put("queue;dur=");
    text.put_millis(phases.queue);
    match start {
        // As most calls are: in few pieces.
        Some((StartKind::Warm, reason)) if phases.start.is_zero() && phases.init.is_zero() => {
            text.put(", start;dur=0.000;desc=\"warm: ");
            text.put(reason.as_str());
            text.put("\", init;dur=0.000");
        }
        _ => text.put_start(phases, start),
    }
    text.put(", run;dur=");
    text.put_millis(phases.run);
    HeaderValue::from_bytes(&text.bytes[..text.length]).expect("digits and names are ASCII")
}

/// A header's text before it is one. By hand, because the formatting machinery takes longer than the rest of an answer's head.
struct Text {
    /// The longest is shorter.
    bytes: [u8; 256],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; 256],
            length: 0,
        }
    }
}

impl Text {
    fn put(&mut self, part: &str) {
        let end = self.length + part.len();
        self.bytes[self.length..end].copy_from_slice(part.as_bytes());
        self.length = end;
    }

    fn put_start(&mut self, phases: &Phases, start: Option<(StartKind, StartReason)>) {
        self.put(", start;dur=");
        self.put_millis(phases.start);
        if let Some((kind, reason)) = start {
            for part in [";desc=\"", kind.as_str(), ": ", reason.as_str(), "\""] {
                self.put(part);
            }
        }
        self.put(", init;dur=");
        self.put_millis(phases.init);
    }

    /// Milliseconds with three digits behind the point.
    fn put_millis(&mut self, time: Duration) {
        let mut digits = [b'0'; 24];
        // In 64 bits, which divide in one step: half a million years are enough.
        let mut rest = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut first = digits.len();
        while rest > 0 || first > digits.len() - 5 {
            first -= 1;
            if first == digits.len() - 4 {
                digits[first] = b'.';
                continue;
            }
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for digit in &digits[first..] {
            self.bytes[self.length] = *digit;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_behind_its_name() {
        let id = RequestId::generate();
        let start = Some((StartKind::Stem, StartReason::AllBusy));
        let headers = Head::of(id, None).headers(&Phases::default(), start, Some(error::JSON));
        assert_eq!(headers.len(), 4);
        assert_eq!(headers[error::REQUEST_ID], id.to_string());
        assert_eq!(headers[START], "stem");
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        let timing = headers[SERVER_TIMING].to_str().expect("text");
        assert!(timing.contains("stem: all_busy"));
        let bare = Head::of(id, None).headers(&Phases::default(), None, None);
        assert_eq!(bare.len(), 2);
        assert_eq!(bare[error::REQUEST_ID], id.to_string());
        assert!(bare.contains_key(SERVER_TIMING));
    }

    #[test]
    fn a_warm_call_is_said_in_few_pieces_as_in_several() {
        for reason in [StartReason::Idle, StartReason::AllBusy] {
            let start = Some((StartKind::Warm, reason));
            let mut text = Text::default();
            text.put_start(&Phases::default(), start);
            let several = std::str::from_utf8(&text.bytes[..text.length]).expect("text");
            let few = server_timing(&Phases::default(), start);
            let few = few.to_str().expect("text");
            assert_eq!(few, format!("queue;dur=0.000{several}, run;dur=0.000"));
        }
        let started = Phases {
            init: Duration::from_millis(1),
            ..Phases::default()
        };
        let timing = server_timing(&started, Some((StartKind::Warm, StartReason::Idle)));
        assert!(timing.to_str().expect("text").contains("init;dur=1.000"));
    }
}
