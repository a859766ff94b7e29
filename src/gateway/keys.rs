//! Who may come in. Keys are compared by hash, in constant time, against a snapshot; the store is not asked.

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq};

use crate::domain::key::{self, KeyRecord};

const KEY_HEADER: &str = "x-api-key";

#[derive(Debug, Default)]
pub struct Keys {
    hashes: ArcSwap<Vec<[u8; 32]>>,
}

impl Keys {
    pub fn replace(&self, records: &[KeyRecord]) {
        let hash = |record: &KeyRecord| {
            let mut hash = [0; 32];
            hex::decode_to_slice(&record.sha256, &mut hash)
                .ok()
                .map(|()| hash)
        };
        self.hashes
            .store(records.iter().filter_map(hash).collect::<Vec<_>>().into());
    }

    /// Whether the request carries a valid key: `Authorization: Bearer KEY`, `X-Api-Key: KEY`, or, for browsers, basic
    /// authentication with the key as password.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(presented) = presented(headers) else {
            return false;
        };
        let hash = key::hash(&presented);
        // Every key is compared, whole, so that the time tells nothing.
        let matches = |found: Choice, known: &[u8; 32]| found | known.ct_eq(&hash);
        self.hashes
            .load()
            .iter()
            .fold(Choice::from(0), matches)
            .into()
    }
}

fn presented(headers: &HeaderMap) -> Option<std::borrow::Cow<'_, str>> {
    if let Some(value) = headers.get(KEY_HEADER) {
        return value.to_str().ok().map(Into::into);
    }
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().into());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
        return text
            .split_once(':')
            .map(|(_, password)| password.to_owned().into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let keys = Keys::default();
        let sha256 = hex::encode(key::hash("secret"));
        let record = |sha256| KeyRecord {
            id: "k".into(),
            name: "n".into(),
            sha256,
            created_at: crate::clock::wall(),
        };
        keys.replace(&[record("unreadable".into()), record(sha256)]);
        keys
    }

    #[test]
    fn a_key_comes_in_three_ways_and_no_other() {
        let keys = keys();
        let admitted = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            keys.admit(&headers)
        };
        assert!(admitted("authorization", "Bearer secret"));
        assert!(admitted("authorization", "bearer  secret"));
        assert!(admitted("x-api-key", "secret"));
        assert!(admitted(
            "authorization",
            &format!("Basic {}", BASE64_STANDARD.encode("any:secret"))
        ));
        assert!(!admitted("authorization", "secret"));
        assert!(!admitted("authorization", "Bearer"));
        assert!(!admitted("authorization", "Bearer Secret"));
        assert!(!admitted("authorization", "Basic !!!"));
        assert!(!admitted("x-api-key", ""));
        assert!(!keys.admit(&HeaderMap::new()));
        assert!(!Keys::default().admit(&HeaderMap::new()));
    }
}
