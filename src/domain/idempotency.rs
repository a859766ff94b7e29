//! Idempotency keys: a caller names a call, so that a repeated request is answered and not run again. After the draft «The
//! Idempotency-Key HTTP Header Field»; a key is any visible characters, quotes among them, and means nothing but itself.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::domain::id::FunctionId;

/// Characters of a key.
const LENGTH_MAX: usize = 255;

/// A call as its caller named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Follows from the function and what the caller wrote; short, and harmless as a part of any name.
    pub id: String,
    /// Follows from what was asked for.
    pub print: String,
}

impl Key {
    /// `written` is what the caller chose, `how` in what way the call is to be made.
    pub fn of(function: &FunctionId, written: &str, how: &str, payload: &[u8]) -> Self {
        let digest = |parts: [&[u8]; 2]| {
            let mut hash = Sha256::new();
            // Length-prefixed, so that no two different pairs can run together into the same bytes.
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hex::encode(hash.finalize())
        };
        Self {
            id: digest([function.as_str().as_bytes(), written.as_bytes()]),
            print: digest([how.as_bytes(), payload]),
        }
    }
}

/// What the caller wrote, if it can be a key.
pub fn read(written: &[u8]) -> Result<&str, String> {
    if written.is_empty() || written.len() > LENGTH_MAX {
        let length = written.len();
        return Err(format!(
            "must have 1 to {LENGTH_MAX} characters, has {length}"
        ));
    }
    match std::str::from_utf8(written) {
        Ok(text) if written.iter().all(u8::is_ascii_graphic) => Ok(text),
        _ => Err("may have visible ASCII characters only, and no spaces".into()),
    }
}

/// An answer as it is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Those that belong to the answer and not to how it came about.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_and_neither_empty_nor_long() {
        let longest = "k".repeat(LENGTH_MAX);
        for good in ["a", "\"8e03978e\"", "order:17/x~!", &longest] {
            assert_eq!(read(good.as_bytes()), Ok(good));
        }
        let longer = "k".repeat(LENGTH_MAX + 1);
        for bad in ["", "a b", "a\tb", "ü", "\u{7f}", &longer] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(read(b"\xff").is_err());
    }

    #[test]
    fn function_and_key_make_the_id_and_the_rest_the_print() {
        let [f, g] = ["f", "g"].map(FunctionId::from_stored);
        let key = Key::of(&f, "k", "json", b"{}");
        assert_eq!(key, Key::of(&f, "k", "json", b"{}"));
        assert_ne!(key.id, Key::of(&g, "k", "json", b"{}").id);
        assert_ne!(key.id, Key::of(&f, "l", "json", b"{}").id);
        for (how, payload) in [("json", "{ }"), ("raw", "{}"), ("json{", "}")] {
            let other = Key::of(&f, "k", how, payload.as_bytes());
            assert_eq!(key.id, other.id);
            assert_ne!(key.print, other.print, "{how} {payload}");
        }
    }
}
