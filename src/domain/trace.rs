//! Which trace a call belongs to: what came with its request (W3C `traceparent` and `tracestate`, or AWS's `X-Amzn-Trace-Id`), and what its
//! function is told. Pure text in both directions; whether and where spans are sent is `telemetry::traces`' business.

use std::fmt::{self, Write};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// What the W3C asks everybody to pass on; longer ones are left out, which it allows.
const STATE_MAX: usize = 512;
/// Of version 00: two digits, the trace, the caller's span, the flags, and dashes between.
const PARENT_LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// The protocol to workers has two bytes for the length of a context.
const CONTEXT_MAX: usize = u16::MAX as usize;

/// Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl TraceId {
    pub fn generate() -> Self {
        Self(rand::random::<u128>().max(1))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// A number that traces have evenly, from 0.0 to just below 1.0: every process makes the same of an id.
    pub fn share(self) -> f64 {
        // As many bits as a fraction has, of the half of the id that the W3C wants to be random.
        ((self.0 as u64) << 8 >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl SpanId {
    pub fn generate() -> Self {
        Self(rand::random::<u64>().max(1))
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The id of a part of this span: always the same, so that a span that is sent twice is one.
    pub fn part(self, number: u64) -> Self {
        // SplitMix64: a bijection for each number.
        let mut z = self
            .0
            .wrapping_add((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((z ^ (z >> 31)).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// What a caller says of its own trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub trace: TraceId,
    /// AWS's header may name none.
    pub span: Option<SpanId>,
    /// What was decided for the trace; `None` leaves it to who reads this.
    pub sampled: Option<bool>,
    /// What others on the way want to be told again; empty when nothing.
    pub state: String,
}

impl Parent {
    /// From the two headers of the W3C. What is not as it should be is as if it had not come, and takes its state with it.
    pub fn of_w3c(parent: &str, state: &str) -> Option<Self> {
        let (version, rest) = parent.split_at_checked(2)?;
        let version = hex::<u8>(version, 2)?;
        // What later versions append is behind a dash.
        let known = match version {
            0 => parent.len() == PARENT_LENGTH,
            0xff => false,
            _ => {
                parent.len() == PARENT_LENGTH || parent.as_bytes().get(PARENT_LENGTH) == Some(&b'-')
            }
        };
        let mut parts = rest.strip_prefix('-').filter(|_| known)?.split('-');
        let trace = hex::<u128>(parts.next()?, 32).filter(|id| *id != 0)?;
        let span = hex::<u64>(parts.next()?, 16).filter(|id| *id != 0)?;
        let flags = hex::<u8>(parts.next()?, 2)?;
        let state = state.trim();
        let passable = state.len() <= STATE_MAX && state.bytes().all(|b| matches!(b, b' '..=b'~'));
        Some(Self {
            trace: TraceId(trace),
            span: Some(SpanId(span)),
            sampled: Some(flags & SAMPLED != 0),
            state: if passable { state } else { "" }.to_owned(),
        })
    }

    /// From `X-Amzn-Trace-Id`: `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`, all but the first optional.
    pub fn of_aws(header: &str) -> Option<Self> {
        let (mut trace, mut span, mut sampled) = (None, None, None);
        for part in header.split(';') {
            let (name, value) = part.split_once('=')?;
            let value = value.trim();
            match name.trim() {
                "Root" => {
                    let (epoch, rest) = value.strip_prefix("1-")?.split_once('-')?;
                    let high = u128::from(hex::<u32>(epoch, 8)?);
                    let id = high << 96 | hex::<u128>(rest, 24)?;
                    trace = Some(TraceId(id)).filter(|id| id.0 != 0);
                }
                "Parent" => span = hex::<u64>(value, 16).filter(|id| *id != 0).map(SpanId),
                "Sampled" => {
                    sampled = match value {
                        "1" => Some(true),
                        "0" => Some(false),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        Some(Self {
            trace: trace?,
            span,
            sampled,
            state: String::new(),
        })
    }
}

/// So many digits, small ones as the W3C has it, and nothing else.
fn hex<T: TryFrom<u128>>(text: &str, digits: usize) -> Option<T> {
    let good = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let good = text.len() == digits && text.bytes().all(good);
    let number = u128::from_str_radix(text, 16).ok().filter(|_| good)?;
    T::try_from(number).ok()
}

/// Where a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Execute,
    Batch,
    Lambda,
    Route,
    Url,
    /// Nowhere: it was accepted before, and this is an attempt.
    Event,
    /// Nowhere either: its event is a queue's messages.
    Source,
}

impl Face {
    pub const fn as_str(self) -> &'static str {
        match self {
            Face::Execute => "execute",
            Face::Batch => "batch",
            Face::Lambda => "lambda",
            Face::Route => "route",
            Face::Url => "url",
            Face::Event => "event",
            Face::Source => "source",
        }
    }
}

/// A call's place in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub id: TraceId,
    pub parent: Option<SpanId>,
    /// Of the whole call.
    pub span: SpanId,
    /// Of the part in which the function's code runs: what the function is told, and what its own spans are below.
    pub run: SpanId,
    /// Somebody wants to see it.
    pub sampled: bool,
    pub state: String,
    pub face: Face,
    /// Of an event, counted from 1; 0 for what somebody waits for.
    pub attempt: u32,
}

impl Trace {
    fn parent_of(&self, span: SpanId) -> String {
        let flags = u8::from(self.sampled) * SAMPLED;
        format!("00-{}-{span}-{flags:02x}", self.id)
    }

    /// `traceparent`, as the function gets it.
    pub fn traceparent(&self) -> String {
        self.parent_of(self.run)
    }

    /// The same as AWS writes it.
    pub fn amzn(&self) -> String {
        let id = self.id.to_string();
        let (epoch, rest) = id.split_at(8);
        let sampled = u8::from(self.sampled);
        format!(
            "Root=1-{epoch}-{rest};Parent={};Sampled={sampled}",
            self.run
        )
    }

    /// The extra context of a call with this in it. What a worker's frame could not hold is left as it was.
    pub fn told(&self, context: &Bytes) -> Bytes {
        let mut text = BytesMut::with_capacity(context.len() + 2 * STATE_MAX);
        match context.strip_suffix(b"}") {
            Some(open) => {
                text.extend_from_slice(open);
                if open.len() > 1 {
                    text.extend_from_slice(b",");
                }
            }
            None => text.extend_from_slice(b"{"),
        }
        // Behind what is there: of two with one name, the last counts.
        let (parent, amzn) = (self.traceparent(), self.amzn());
        let wrote = write!(text, r#""traceparent":"{parent}","trace_id":"{amzn}""#);
        let wrote = wrote.and_then(|()| match self.state.as_str() {
            "" => Ok(()),
            state => write!(text, r#","tracestate":{}"#, serde_json::json!(state)),
        });
        wrote.expect("a buffer grows");
        text.extend_from_slice(b"}");
        match text.len() <= CONTEXT_MAX {
            true => text.freeze(),
            false => context.clone(),
        }
    }

    /// What is kept of it with an event: its attempts are below the span that accepted it.
    pub fn carried(&self) -> Carried {
        Carried {
            parent: self.parent_of(self.span),
            state: self.state.clone(),
        }
    }
}

/// As stored with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    pub parent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
}

impl Carried {
    pub fn parent(&self) -> Option<Parent> {
        Parent::of_w3c(&self.parent, &self.state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use serde_json::{Value, json};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace() -> Trace {
        Trace {
            id: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            parent: None,
            span: SpanId(1),
            run: SpanId(0x00f0_67aa_0ba9_02b7),
            sampled: true,
            state: String::new(),
            face: Face::Execute,
            attempt: 0,
        }
    }

    #[test]
    fn a_parent_of_the_w3c_is_taken_as_it_says() {
        let read = Parent::of_w3c(PARENT, " a=1, b=2 ").expect("is valid");
        assert_eq!(read.trace, trace().id);
        assert_eq!(read.span, Some(trace().run));
        assert_eq!(
            (read.sampled, read.state.as_str()),
            (Some(true), "a=1, b=2")
        );
        let unsampled = PARENT.replace("-01", "-00");
        let sampled = |text: &str| Parent::of_w3c(text, "").and_then(|read| read.sampled);
        assert_eq!(sampled(&unsampled), Some(false));
        // Other flags say nothing here, and versions to come may say more.
        assert_eq!(sampled(&PARENT.replace("-01", "-03")), Some(true));
        let newer = PARENT.replace("00-4", "cc-4");
        assert_eq!(sampled(&newer), Some(true));
        assert_eq!(sampled(&format!("{newer}-more")), Some(true));
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for wrong in [
            "",
            "00",
            "é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::of_w3c(wrong, ""), None, "{wrong:?}");
        }
        let state = |state: &str| Parent::of_w3c(PARENT, state).map(|read| read.state);
        assert_eq!(state(&"x".repeat(STATE_MAX + 1)), Some(String::new()));
        assert_eq!(state("a=\u{1}"), Some(String::new()));
    }

    #[test]
    fn a_header_of_aws_is_taken_as_it_says() {
        let full = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736; Parent=00f067aa0ba902b7;Sampled=1;Lineage=a:0";
        let read = Parent::of_aws(full).expect("is valid");
        assert_eq!((read.trace, read.span), (trace().id, Some(trace().run)));
        assert_eq!(read.sampled, Some(true));
        let bare = Parent::of_aws("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=?");
        let bare = bare.expect("is valid");
        assert_eq!((bare.span, bare.sampled), (None, None));
        for wrong in [
            "",
            "Root=1-4bf92f35",
            "Root=2-4bf92f35-77b34da6a3ce929d0e0e4736",
            "Root=1-00000000-000000000000000000000000",
            "Parent=00f067aa0ba902b7",
            "Root",
        ] {
            assert_eq!(Parent::of_aws(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_function_is_told_beside_what_it_is_told_anyway() {
        let amzn = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        let told = |trace: &Trace, context: &'static str| -> Value {
            let told = trace.told(&Bytes::from_static(context.as_bytes()));
            serde_json::from_slice(&told).expect("is JSON")
        };
        let own = json!({"traceparent": PARENT, "trace_id": amzn});
        assert_eq!(told(&trace(), ""), own);
        assert_eq!(told(&trace(), "{}"), own);
        let with = told(&trace(), r#"{"a":{"b":1},"trace_id":"old"}"#);
        assert_eq!(with["a"]["b"], 1);
        assert_eq!(with["trace_id"], amzn);
        let state = Trace {
            state: r#"a="1"\"#.into(),
            ..trace()
        };
        assert_eq!(told(&state, "")["tracestate"], r#"a="1"\"#);
        let full = Bytes::from(format!("{{\"a\":\"{}\"}}", "x".repeat(CONTEXT_MAX - 8)));
        assert_eq!(trace().told(&full), full);
    }

    #[test]
    fn what_an_event_carries_leads_back_to_the_call_that_made_it() {
        let parent = trace().carried().parent().expect("is valid");
        assert_eq!(
            (parent.trace, parent.span),
            (trace().id, Some(trace().span))
        );
        assert_eq!(parent.sampled, Some(true));
    }

    #[test]
    fn shares_are_spread_over_the_whole() {
        let shares: Vec<f64> = (0..1000).map(|_| TraceId::generate().share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        let low = shares.iter().filter(|share| **share < 0.5).count();
        assert!((350..650).contains(&low), "{low}");
        assert_eq!(TraceId(u128::MAX).share(), 1.0 - f64::EPSILON / 2.0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id in 1..u128::MAX, run in 1..u64::MAX, sampled in any::<bool>()) {
            let trace = Trace { id: TraceId(id), run: SpanId(run), sampled, ..trace() };
            for read in [Parent::of_w3c(&trace.traceparent(), ""), Parent::of_aws(&trace.amzn())] {
                let read = read.expect("is valid");
                assert_eq!((read.trace, read.span, read.sampled), (trace.id, Some(trace.run), Some(sampled)));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*", state in ".*") {
            Parent::of_w3c(&text, &state);
            Parent::of_aws(&text);
        }
    }
}
