//! Function URLs: an address of its own at which a function, or an alias of it, answers plain HTTP. They are kept with what is published of
//! the function, so they go with it, and with the alias. Pure: changes are decided here, as an `Edit` that a store writes.

use std::fmt;

use jiff::Timestamp;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::domain::function::LATEST;
use crate::domain::version::{Edit, Published, Refused};

/// The first label of a URL's host. Nobody guesses one: there are more than 10^49.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UrlId(Box<str>);

impl UrlId {
    pub fn generate() -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        // Of a generator that is seeded by the system, and meant for secrets.
        let mut chance = rand::rng();
        let letter = |_| char::from(LETTERS[chance.random_range(0..LETTERS.len())]);
        Self((0..32).map(letter).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthType {
    #[serde(rename = "NONE")]
    Anybody,
    /// Whoever signs with a key that may call the function.
    #[serde(rename = "AWS_IAM")]
    Signed,
}

impl AuthType {
    pub const NAMES: [&str; 2] = ["NONE", "AWS_IAM"];

    pub const fn as_str(self) -> &'static str {
        match self {
            AuthType::Anybody => "NONE",
            AuthType::Signed => "AWS_IAM",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let known = [AuthType::Anybody, AuthType::Signed];
        known.into_iter().find(|known| known.as_str() == text)
    }
}

/// How answers are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    /// Whole, and read as what a response is to be.
    #[serde(rename = "BUFFERED")]
    Buffered,
    /// As they come.
    #[serde(rename = "RESPONSE_STREAM")]
    Stream,
}

impl InvokeMode {
    /// In AWS's order.
    pub const NAMES: [&str; 2] = ["RESPONSE_STREAM", "BUFFERED"];

    pub const fn as_str(self) -> &'static str {
        match self {
            InvokeMode::Buffered => "BUFFERED",
            InvokeMode::Stream => "RESPONSE_STREAM",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let known = [InvokeMode::Buffered, InvokeMode::Stream];
        known.into_iter().find(|known| known.as_str() == text)
    }
}

/// Which pages may call from a browser. What was not given is not given back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_headers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_methods: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_origins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

impl Cors {
    /// Of each list, and of what is in it, as AWS has them.
    pub const LIST_MAX: usize = 100;
    pub const METHODS_MAX: usize = 6;
    pub const METHOD_MAX: usize = 6;
    pub const HEADER_MAX: usize = 1024;
    pub const ORIGIN_MAX: usize = 253;
    pub const AGE_MAX_SECONDS: u32 = 86_400;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    pub id: UrlId,
    pub auth: AuthType,
    pub cors: Option<Cors>,
    /// `None` is that nobody ever said: it is buffered then.
    pub mode: Option<InvokeMode>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What is to be of a URL; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub auth: Option<AuthType>,
    /// `Some(None)` takes it away.
    pub cors: Option<Option<Cors>>,
    pub mode: Option<InvokeMode>,
}

impl Published {
    /// The URL of an alias, or of `$LATEST`.
    pub fn url(&self, qualifier: &str) -> Option<&Url> {
        self.head.urls.get(qualifier)
    }

    /// The URL of an id, and what it is of.
    pub fn url_of(&self, id: &str) -> Option<(&str, &Url)> {
        let mut all = self.head.urls.iter();
        let (qualifier, url) = all.find(|(_, url)| url.id.as_str() == id)?;
        Some((qualifier, url))
    }

    pub fn create_url(
        &self,
        qualifier: &str,
        id: UrlId,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(Url, Edit), Refused> {
        if qualifier != LATEST && self.alias(qualifier).is_none() {
            return Err(Refused::NoAlias(qualifier.into()));
        }
        if self.url(qualifier).is_some() {
            return Err(Refused::UrlTaken(qualifier.into()));
        }
        let auth = wish.auth.ok_or_else(|| Refused::Invalid {
            field: "auth_type",
            message: "is required".into(),
        })?;
        let url = Url {
            id,
            auth,
            cors: wish.cors.flatten(),
            mode: wish.mode,
            created_at: now,
            updated_at: now,
        };
        Ok(self.with_url(qualifier, url))
    }

    pub fn update_url(
        &self,
        qualifier: &str,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(Url, Edit), Refused> {
        let current = self.url(qualifier);
        let current = current.ok_or_else(|| Refused::NoUrl(qualifier.into()))?;
        let url = Url {
            id: current.id.clone(),
            auth: wish.auth.unwrap_or(current.auth),
            cors: wish.cors.unwrap_or_else(|| current.cors.clone()),
            mode: wish.mode.or(current.mode),
            created_at: current.created_at,
            updated_at: now,
        };
        Ok(self.with_url(qualifier, url))
    }

    pub fn delete_url(&self, qualifier: &str) -> Result<Edit, Refused> {
        let mut head = self.next();
        match head.urls.remove(qualifier) {
            None => Err(Refused::NoUrl(qualifier.into())),
            Some(_) => Ok(Edit {
                head,
                publish: None,
                delete: None,
            }),
        }
    }

    fn with_url(&self, qualifier: &str, url: Url) -> (Url, Edit) {
        let mut head = self.next();
        head.urls.insert(qualifier.into(), url.clone());
        let edit = Edit {
            head,
            publish: None,
            delete: None,
        };
        (url, edit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{AliasName, FunctionId};
    use crate::domain::version;
    use crate::domain::version::VersionId;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().expect("is a time")
    }

    fn open() -> Wish {
        Wish {
            auth: Some(AuthType::Anybody),
            ..Wish::default()
        }
    }

    fn with_alias() -> Published {
        let none = Published::none(FunctionId::generate());
        let wish = version::Wish {
            version: Some(VersionId::Latest),
            ..version::Wish::default()
        };
        let name = AliasName::parse("live").expect("a name");
        let (_, edit) = none.create_alias(name, wish, now()).expect("is right");
        none.after(edit)
    }

    #[test]
    fn ids_are_long_lower_case_and_never_the_same() {
        let ids: Vec<_> = (0..200).map(|_| UrlId::generate()).collect();
        for id in &ids {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            assert!(id.as_str().len() == 32 && id.as_str().bytes().all(good));
        }
        // Every letter is drawn: one that is not, of 6400, has no chance.
        let all: std::collections::BTreeSet<_> = ids.iter().flat_map(|id| id.0.chars()).collect();
        assert_eq!(all.len(), 36);
        let different: std::collections::HashSet<_> = ids.iter().map(UrlId::as_str).collect();
        assert_eq!(different.len(), ids.len());
    }

    #[test]
    fn there_is_one_for_the_function_and_one_for_each_alias() {
        let mut all = with_alias();
        for qualifier in [LATEST, "live"] {
            let make =
                |all: &Published| all.create_url(qualifier, UrlId::generate(), open(), now());
            let (url, edit) = make(&all).expect("is right");
            assert_eq!(edit.head.revision, all.revision() + 1);
            all = all.after(edit);
            assert_eq!(all.url(qualifier), Some(&url));
            assert_eq!(all.url_of(url.id.as_str()), Some((qualifier, &url)));
            assert_eq!(make(&all), Err(Refused::UrlTaken(qualifier.into())));
        }
        let nobody = all.create_url("nobody", UrlId::generate(), open(), now());
        assert_eq!(nobody, Err(Refused::NoAlias("nobody".into())));
        assert_eq!(all.url_of(""), None);
        let without = all.delete_url(LATEST).expect("is there");
        all = all.after(without);
        assert_eq!(all.delete_url(LATEST), Err(Refused::NoUrl(LATEST.into())));
        assert!(all.url("live").is_some(), "is another's");
        let edit = all.delete_alias("live", None).expect("is there");
        assert!(all.after(edit).head.urls.is_empty(), "goes with its alias");
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let all = with_alias();
        let cors = Cors {
            max_age_seconds: Some(7),
            ..Cors::default()
        };
        let wish = Wish {
            cors: Some(Some(cors.clone())),
            mode: Some(InvokeMode::Stream),
            ..open()
        };
        let made = all.create_url(LATEST, UrlId::generate(), wish, now());
        let (made, edit) = made.expect("is right");
        let all = all.after(edit);
        let wish = Wish {
            auth: Some(AuthType::Signed),
            ..Wish::default()
        };
        let later = now() + jiff::SignedDuration::from_secs(9);
        let (url, edit) = all.update_url(LATEST, wish, later).expect("is there");
        let wanted = Url {
            auth: AuthType::Signed,
            updated_at: later,
            ..made
        };
        assert_eq!(url, wanted);
        let wish = Wish {
            cors: Some(None),
            ..Wish::default()
        };
        let (url, _) = all.after(edit).update_url(LATEST, wish, later).expect("is");
        assert_eq!((url.cors, url.mode), (None, Some(InvokeMode::Stream)));
        let nobody = all.update_url("live", Wish::default(), now());
        assert_eq!(nobody, Err(Refused::NoUrl("live".into())));
        let nothing = all.create_url("live", UrlId::generate(), Wish::default(), now());
        assert!(matches!(nothing, Err(Refused::Invalid { .. })));
    }

    #[test]
    fn records_of_before_have_none() {
        let id = FunctionId::generate();
        let old = format!(r#"{{"function":"{id}","revision":3,"last":1,"aliases":{{}}}}"#);
        let head: version::Head = serde_json::from_str(&old).expect("is read");
        assert!(head.urls.is_empty());
    }
}
