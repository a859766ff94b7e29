//! Which key a request carries, and whether it opens anything. Warm path: nothing is allocated but where a browser's form of it has to be
//! decoded.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::api::keys::{Keys, Refused};
use crate::domain::key::Grant;
use crate::gateway::screen::Seen;

/// Why nobody comes in. The answer does not tell; the metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Missing,
    Unknown,
    Expired,
}

impl Failure {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Missing => "missing",
            Failure::Unknown => "unknown",
            Failure::Expired => "expired",
        }
    }
}

/// What the request's key may do: `Authorization: Bearer KEY`, `X-Api-Key: KEY`, or, for browsers, basic authentication with the key as
/// password.
pub fn admit(keys: &Keys, seen: &Seen<'_>) -> Result<Arc<Grant>, Failure> {
    known(keys, &presented(seen)?)
}

/// What this key may do.
pub fn known(keys: &Keys, key: &str) -> Result<Arc<Grant>, Failure> {
    keys.find(key).map_err(|refused| match refused {
        Refused::Unknown => Failure::Unknown,
        Refused::Expired => Failure::Expired,
    })
}

fn presented<'a>(seen: &Seen<'a>) -> Result<Cow<'a, str>, Failure> {
    if let Some(value) = seen.api_key.first() {
        let text = value.to_str().ok();
        return text.map(Into::into).ok_or(Failure::Unknown);
    }
    let value = seen.authorization.first().ok_or(Failure::Missing)?;
    let of_scheme = || {
        let text = value.to_str().ok()?;
        let (scheme, rest) = text.split_at(text.bytes().position(|byte| byte == b' ')?);
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().into());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (_, password) = text.split_once(':')?;
        Some(password.to_owned().into())
    };
    of_scheme().ok_or(Failure::Unknown)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::domain::key::Wish;

    #[test]
    fn a_key_comes_in_three_ways_and_no_other() {
        let keys = Keys::default();
        let (key, record) = Wish::admin().issue(crate::clock::wall());
        keys.replace(&[record]);
        let admitted = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            admit(&keys, &Seen::of(&headers)).map(|grant| grant.name.clone())
        };
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("any:{key}")));
        for (name, value) in [
            ("authorization", format!("Bearer {key}")),
            ("authorization", format!("bearer  {key}")),
            ("authorization", basic),
            ("x-api-key", key.clone()),
        ] {
            assert_eq!(admitted(name, &value), Ok("admin".into()), "{value}");
        }
        for (name, value) in [
            ("authorization", key.as_str()),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", &format!("Bearer {}", key.to_uppercase())),
            ("authorization", "Basic !!!"),
            ("authorization", "Digest x"),
            ("x-api-key", ""),
            ("x-api-key", "é"),
        ] {
            assert_eq!(admitted(name, value), Err(Failure::Unknown), "{value}");
        }
        assert_eq!(admit(&keys, &Seen::default()), Err(Failure::Missing));
    }
}
