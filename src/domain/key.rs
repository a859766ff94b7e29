//! API keys: what they look like, what one may do, and how it is kept: never the key, only its hash.
//!
//! A key is `hk_<id>_<secret>`. The id finds the record, so that one hash is compared and not all; it is no secret. The secret is 256
//! random bits: nobody guesses it, so a plain SHA-256 is as safe as a slow hash would be, and costs a request nothing. Keys of
//! versions before this one have no id and go on working.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::pattern::Pattern;

/// How a key begins. Also what scanners for leaked secrets look for.
const PREFIX: &str = "hk_";
/// Characters of a key that are shown after it was made.
const SHOWN: usize = 4;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything, keys and metrics too.
    Admin,
    /// Make, change, delete, list and read functions, and read their logs and what calls were given and answered. It does not imply calling them.
    Deploy,
    /// Call functions.
    Invoke,
}

impl Scope {
    pub const ALL: [Self; 3] = [Scope::Admin, Scope::Deploy, Scope::Invoke];

    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Deploy => "deploy",
            Scope::Invoke => "invoke",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// A key at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    pub name: String,
    /// Hex SHA-256 of the whole key.
    pub sha256: String,
    pub created_at: Timestamp,
    /// Keys of versions without scopes could do everything.
    #[serde(default = "everything")]
    pub scopes: Vec<Scope>,
    /// The functions it is for; none named is all of them.
    #[serde(default)]
    pub functions: Vec<Pattern>,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Its last characters, to tell keys apart by; empty for keys of versions that did not keep them.
    #[serde(default)]
    pub last_four: String,
    /// The key itself, encrypted under the server's key file: the signatures of AWS clients can only be checked with it. Absent, they
    /// cannot be.
    #[serde(default)]
    pub sealed: Option<String>,
}

fn everything() -> Vec<Scope> {
    vec![Scope::Admin]
}

impl KeyRecord {
    /// Whether this key can make another that can do everything, now and for good.
    pub fn is_lasting_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin) && self.expires_at.is_none()
    }
}

/// What a new key shall be.
#[derive(Debug, Clone)]
pub struct Wish {
    pub name: String,
    pub scopes: Vec<Scope>,
    pub functions: Vec<Pattern>,
    pub expires_at: Option<Timestamp>,
}

impl Wish {
    pub fn admin() -> Self {
        Self {
            name: "admin".into(),
            scopes: everything(),
            functions: Vec::new(),
            expires_at: None,
        }
    }

    /// A new key and its record. The key exists nowhere else.
    pub fn issue(self, now: Timestamp) -> (String, KeyRecord) {
        let id = hex::encode(rand::random::<[u8; 8]>());
        let key = with_id(&id);
        let record = self.record(id, &key, now);
        (key, record)
    }

    /// The record of a key there is.
    pub fn record(self, id: String, key: &str, now: Timestamp) -> KeyRecord {
        let shown = key.len().checked_sub(SHOWN).and_then(|at| key.get(at..));
        KeyRecord {
            id,
            name: self.name,
            sha256: hex::encode(hash(key)),
            created_at: now,
            scopes: self.scopes,
            functions: self.functions,
            expires_at: self.expires_at,
            last_four: shown.unwrap_or_default().to_owned(),
            sealed: None,
        }
    }
}

/// A new key with this id.
pub fn with_id(id: &str) -> String {
    format!("{PREFIX}{id}_{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// The hash keys are compared by.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The id in a key, if it has the form of one that has an id.
pub fn id_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(PREFIX)?;
    // By the byte: for a text this short the search for a character takes longer to begin than to end.
    let end = rest.bytes().position(|byte| byte == b'_')?;
    Some(&rest[..end])
}

/// What stands for a key where an AWS client wants an access key id: looks like one, and follows from the key alone.
pub fn access_key_id(key: &str) -> String {
    access_key_id_of(&hash(key))
}

/// The same, of a key of which only the hash is known.
pub fn access_key_id_of(hash: &[u8; 32]) -> String {
    let digest = hex::encode_upper(hash);
    format!(
        "HEARTH{}",
        digest.get(..14).expect("a digest has 64 digits")
    )
}

/// What the key of a request may do. Every face asks this and nothing else.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: String,
    pub name: String,
    scopes: Vec<Scope>,
    functions: Vec<Pattern>,
    expires_at: Option<Timestamp>,
}

/// Why a good key may not do this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    Scope(Scope),
    /// It has the scope, for other functions.
    Function {
        scope: Scope,
        function: String,
    },
}

impl From<&KeyRecord> for Grant {
    fn from(record: &KeyRecord) -> Self {
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            scopes: record.scopes.clone(),
            functions: record.functions.clone(),
            expires_at: record.expires_at,
        }
    }
}

impl Grant {
    /// One that may do everything.
    pub fn all(name: &str) -> Self {
        Self {
            id: String::new(),
            name: name.into(),
            scopes: everything(),
            functions: Vec::new(),
            expires_at: None,
        }
    }

    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Patterns of the functions it is for; none is all.
    pub fn functions(&self) -> &[Pattern] {
        &self.functions
    }

    /// `now` is asked for only where there is something to compare it with.
    pub fn has_expired(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now())
    }

    /// Whether it has the scope, for whatever functions.
    pub fn may(&self, scope: Scope) -> Result<(), Denied> {
        match self.scopes.contains(&scope) || self.is_admin() {
            true => Ok(()),
            false => Err(Denied::Scope(scope)),
        }
    }

    /// Whether it has the scope for the function of this name.
    pub fn may_with(&self, scope: Scope, function: &str) -> Result<(), Denied> {
        self.may(scope)?;
        match self.is_for(function) {
            true => Ok(()),
            false => Err(Denied::Function {
                scope,
                function: function.into(),
            }),
        }
    }

    /// Whether this is one of the functions it is for.
    pub fn is_for(&self, function: &str) -> bool {
        self.is_for_all() || self.functions.iter().any(|p| p.matches(function))
    }

    pub fn is_for_all(&self) -> bool {
        self.functions.is_empty() || self.is_admin()
    }

    fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(scopes: &[Scope], functions: &[&str]) -> Grant {
        let wish = Wish {
            name: "n".into(),
            scopes: scopes.to_vec(),
            functions: functions
                .iter()
                .map(|text| Pattern::parse(text).expect("a pattern"))
                .collect(),
            expires_at: None,
        };
        Grant::from(&wish.issue(Timestamp::UNIX_EPOCH).1)
    }

    #[test]
    fn an_access_key_id_has_the_form_aws_clients_expect() {
        let id = access_key_id("secret");
        assert_eq!(id.len(), 20);
        assert!(
            id.chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        );
        assert_ne!(id, access_key_id("other"));
    }

    #[test]
    fn a_key_says_its_id_and_its_record_says_nothing_of_the_key() {
        let (key, record) = Wish::admin().issue(Timestamp::UNIX_EPOCH);
        assert_eq!(id_of(&key), Some(record.id.as_str()));
        assert_eq!(record.sha256, hex::encode(hash(&key)));
        let secret = key.rsplit('_').next().expect("three parts");
        assert_eq!(secret.len(), 64, "256 bits");
        assert!(secret.ends_with(&record.last_four) && record.last_four.len() == 4);
        let stored = serde_json::to_string(&record).expect("JSON");
        assert!(!stored.contains(&secret[..8]), "{stored}");
        let (other, _) = Wish::admin().issue(Timestamp::UNIX_EPOCH);
        assert_ne!(key, other);
        for old in ["", "hk_", "hk_abc", "hearth_0123_45", "x"] {
            assert_eq!(id_of(old), None, "{old:?}");
        }
    }

    #[test]
    fn a_record_without_scopes_reads_as_admin() {
        let old = r#"{"id":"a","name":"admin","sha256":"00","created_at":"2026-01-02T03:04:05Z"}"#;
        let record: KeyRecord = serde_json::from_str(old).expect("is read");
        assert!(record.is_lasting_admin());
        let grant = Grant::from(&record);
        assert_eq!(grant.may(Scope::Admin), Ok(()));
        assert_eq!(grant.may_with(Scope::Invoke, "any"), Ok(()));
    }

    #[test]
    fn a_scope_is_for_itself_and_admin_for_all() {
        for (has, wants, may) in [
            (Scope::Admin, Scope::Admin, true),
            (Scope::Admin, Scope::Deploy, true),
            (Scope::Admin, Scope::Invoke, true),
            (Scope::Deploy, Scope::Deploy, true),
            (Scope::Deploy, Scope::Invoke, false),
            (Scope::Deploy, Scope::Admin, false),
            (Scope::Invoke, Scope::Invoke, true),
            (Scope::Invoke, Scope::Deploy, false),
            (Scope::Invoke, Scope::Admin, false),
        ] {
            let answer = grant(&[has], &[]).may_with(wants, "f");
            let wanted = if may {
                Ok(())
            } else {
                Err(Denied::Scope(wants))
            };
            assert_eq!(answer, wanted, "{has:?} for {wants:?}");
        }
        let both = grant(&[Scope::Deploy, Scope::Invoke], &[]);
        assert!(both.may(Scope::Deploy).is_ok() && both.may(Scope::Invoke).is_ok());
    }

    #[test]
    fn patterns_bound_everything_but_admin() {
        let some = grant(&[Scope::Invoke], &["orders-*", "mail"]);
        for name in ["orders-", "orders-new", "mail"] {
            assert_eq!(some.may_with(Scope::Invoke, name), Ok(()), "{name}");
        }
        let denied = some.may_with(Scope::Invoke, "mailer");
        let function = "mailer".to_owned();
        let scope = Scope::Invoke;
        assert_eq!(denied, Err(Denied::Function { scope, function }));
        assert_eq!(
            some.may_with(Scope::Deploy, "mail"),
            Err(Denied::Scope(Scope::Deploy))
        );
        assert!(!some.is_for("other") && !some.is_for_all());
        assert!(grant(&[Scope::Admin], &["x"]).is_for("other"));
    }

    #[test]
    fn a_key_ends_at_its_time_and_not_before() {
        let at = Timestamp::from_second(100).expect("a time");
        let wish = Wish {
            expires_at: Some(at),
            ..Wish::admin()
        };
        let (_, record) = wish.issue(Timestamp::UNIX_EPOCH);
        assert!(!record.is_lasting_admin());
        let grant = Grant::from(&record);
        let second = |n| move || Timestamp::from_second(n).expect("a time");
        assert!(!grant.has_expired(second(99)));
        assert!(grant.has_expired(second(100)) && grant.has_expired(second(101)));
        assert!(!Grant::all("x").has_expired(second(i64::from(i32::MAX))));
    }
}
