//! Server-sent events, from bytes as they arrive. Pure.

/// No event of a log is longer: the server cuts lines far below.
const EVENT_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `message` when the server named none.
    pub kind: String,
    /// The id of this event; `None` when it has none of its own.
    pub id: Option<String>,
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {EVENT_MAX} bytes")]
pub struct TooLong;

/// Bytes of which an event has not come whole yet.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_return: bool,
    kind: String,
    id: Option<String>,
    data: Option<String>,
}

impl Events {
    /// Takes what arrived and gives the events that are whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                byte => self.line.push(*byte),
            }
            self.after_return = *byte == b'\r';
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_MAX {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.kind = value.to_owned(),
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment, which starts with the colon, or a field nobody knows.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let id = self.id.take();
        let data = self.data.take()?;
        Some(Event {
            kind: if kind.is_empty() {
                "message".into()
            } else {
                kind
            },
            id,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = ": hello\n\nid: 7\ndata: {\"a\":1}\n\nevent: lagged\rdata:x\rdata: y\r\rid:8\r\ndata\r\n\r\nevent: empty\n\ndata: not whole";

    fn event(kind: &str, id: Option<&str>, data: &str) -> Event {
        Event {
            kind: kind.into(),
            id: id.map(str::to_owned),
            data: data.into(),
        }
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let got = Events::default().feed(STREAM.as_bytes()).expect("short");
        let want = [
            event("message", Some("7"), "{\"a\":1}"),
            event("lagged", None, "x\ny"),
            event("message", Some("8"), ""),
        ];
        assert_eq!(got, want);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            let whole = Events::default().feed(STREAM.as_bytes()).expect("short");
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut events = Events::default();
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                got.extend(events.feed(&STREAM.as_bytes()[pair[0]..pair[1]]).expect("short"));
            }
            prop_assert_eq!(got, whole);
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        let part = vec![b'x'; EVENT_MAX / 2 + 1];
        assert_eq!(events.feed(&part), Ok(vec![]));
        assert_eq!(events.feed(&part), Err(TooLong));
    }
}
