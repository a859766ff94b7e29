//! What is published of a function: versions, immutable and numbered, and aliases, names that point at one version or at two with
//! weights. Pure: every change is decided here, from what there is, as an `Edit` that a store writes whole or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::destination::Asynchronous;
use crate::domain::function::{Function, LATEST};
use crate::domain::id::{AliasName, FunctionId};
use crate::domain::limits::{ALIASES_MAX, VERSIONS_MAX};
use crate::domain::url::Url;

/// Which version of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum VersionId {
    /// The one that can be edited.
    Latest,
    Number(u64),
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Latest => f.write_str(LATEST),
            VersionId::Number(number) => number.fmt(f),
        }
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for VersionId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for VersionId {
    type Err = String;

    /// `$LATEST`, or a number as it is written: without a sign and without zeros before it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == LATEST {
            return Ok(VersionId::Latest);
        }
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        let number = digits.then(|| text.parse().ok()).flatten();
        let number = number.map(VersionId::Number);
        number.ok_or_else(|| format!("must be a version's number or {LATEST}, is {text:?}"))
    }
}

/// What stands behind a function's name: a version, or an alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qualifier {
    Version(VersionId),
    Alias(AliasName),
}

impl Qualifier {
    /// What consists of digits can only be a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == LATEST || text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Qualifier::Version);
        }
        AliasName::parse(text).map(Qualifier::Alias)
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Qualifier::Version(version) => version.fmt(f),
            Qualifier::Alias(name) => name.fmt(f),
        }
    }
}

/// A function as it was when it was published. Nothing changes it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Counts up within a function and is never used again.
    pub number: u64,
    /// Of the version itself.
    pub revision: u64,
    pub description: String,
    pub created_at: Timestamp,
    /// Code and settings. Name, route, tags and limits are the function's of that time: for those, the function is asked.
    pub function: Function,
}

impl Version {
    pub fn id(&self) -> VersionId {
        VersionId::Number(self.number)
    }

    /// The version as it runs now: a function is called by its name of today, within its limits of today.
    pub fn as_of(&self, latest: &Function) -> Function {
        Function {
            name: latest.name.clone(),
            max_concurrency: latest.max_concurrency,
            reserved_concurrency: latest.reserved_concurrency,
            route: None,
            ..self.function.clone()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    pub version: VersionId,
    /// A part of the calls goes to another version.
    pub second: Option<Second>,
    pub description: String,
    /// Grows by one with every change of the alias.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub version: u64,
    /// From 0.0 to 1.0: the share of calls.
    pub weight: f64,
}

impl Alias {
    fn points_at(&self, number: u64) -> bool {
        let second = self.second.is_some_and(|second| second.version == number);
        self.version == VersionId::Number(number) || second
    }
}

/// Everything published of a function but the versions themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub function: FunctionId,
    /// Grows by one with every change of this or of the versions; 0 is that there never was one.
    pub revision: u64,
    /// The highest number there ever was.
    pub last: u64,
    pub aliases: BTreeMap<AliasName, Alias>,
    /// By a version's number or an alias's name, which is never one. Not in records of older versions.
    #[serde(default)]
    pub provisioned: BTreeMap<String, Provisioned>,
    /// By the same: how asynchronous calls are run that were accepted for it, where that is not as the function says. Not in records of
    /// older versions.
    #[serde(default)]
    pub events: BTreeMap<String, EventSettings>,
    /// By an alias's name, or `$LATEST`. Not in records of older versions.
    #[serde(default)]
    pub urls: BTreeMap<String, Url>,
}

/// Workers that are kept ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    pub requested: u32,
    pub updated_at: Timestamp,
}

/// A version's or an alias's own settings for asynchronous calls: all of them, none is the function's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSettings {
    pub asynchronous: Asynchronous,
    pub updated_at: Timestamp,
}

/// Everything published of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub head: Head,
    pub versions: BTreeMap<u64, Arc<Version>>,
}

/// A change, as a store writes it: from the revision before the head's.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    pub head: Head,
    /// It is refused unless the function is still at the revision it was taken from.
    pub publish: Option<Arc<Version>>,
    pub delete: Option<u64>,
}

/// Why something is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no version {0}")]
    NoVersion(u64),
    #[error("there is no alias {0:?}")]
    NoAlias(String),
    #[error("there is an alias {0:?} already")]
    AliasTaken(AliasName),
    #[error("version {number} is in use by {}", listed(.by))]
    InUse { number: u64, by: Vec<String> },
    #[error("a function has {most} {what} at most")]
    TooMany { what: &'static str, most: usize },
    /// A field of an alias, and what is wrong with it.
    #[error("{field}: {message}")]
    Invalid {
        field: &'static str,
        message: String,
    },
    #[error("nothing is provisioned for {0:?}")]
    NotProvisioned(String),
    #[error("{0:?} has a URL already")]
    UrlTaken(String),
    #[error("{0:?} has no URL")]
    NoUrl(String),
    #[error("the alias is at another revision than {0}")]
    Stale(u64),
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(|name| format!("{name:?}"));
    let shown: Vec<_> = shown.collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// What is to be of an alias; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    pub version: Option<VersionId>,
    /// `Some(None)` takes it away.
    pub second: Option<Option<Second>>,
    pub description: Option<String>,
    /// The revision of the alias the change was made from.
    pub revision: Option<u64>,
}

/// What publishing came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing was changed since this one.
    Unchanged(Arc<Version>),
    New(Arc<Version>, Edit),
}

impl Published {
    pub fn none(function: FunctionId) -> Self {
        Self {
            head: Head {
                function,
                revision: 0,
                last: 0,
                aliases: BTreeMap::new(),
                provisioned: BTreeMap::new(),
                events: BTreeMap::new(),
                urls: BTreeMap::new(),
            },
            versions: BTreeMap::new(),
        }
    }

    pub fn revision(&self) -> u64 {
        self.head.revision
    }

    /// The version a number or an alias stands for first; `None` if there is none.
    pub fn version(&self, number: u64) -> Option<&Arc<Version>> {
        self.versions.get(&number)
    }

    pub fn alias(&self, name: &str) -> Option<(&AliasName, &Alias)> {
        self.head.aliases.get_key_value(name)
    }

    /// A copy of the function as it is now, unless it is what the last version is.
    pub fn publish(
        &self,
        function: &Function,
        description: Option<String>,
        now: Timestamp,
    ) -> Result<Outcome, Refused> {
        if let Some(last) = self.versions.get(&self.head.last)
            && last.function.runs_like(function)
        {
            return Ok(Outcome::Unchanged(last.clone()));
        }
        if self.versions.len() >= VERSIONS_MAX {
            return Err(Refused::TooMany {
                what: "versions",
                most: VERSIONS_MAX,
            });
        }
        let version = Arc::new(Version {
            number: self.head.last + 1,
            revision: 1,
            description: description.unwrap_or_else(|| function.description.clone()),
            created_at: now,
            function: function.clone(),
        });
        let edit = Edit {
            head: Head {
                last: version.number,
                ..self.next()
            },
            publish: Some(version.clone()),
            delete: None,
        };
        Ok(Outcome::New(version, edit))
    }

    pub fn delete_version(&self, number: u64) -> Result<Edit, Refused> {
        if !self.versions.contains_key(&number) {
            return Err(Refused::NoVersion(number));
        }
        let aliases = self.head.aliases.iter();
        let using = aliases.filter(|(_, alias)| alias.points_at(number));
        let by: Vec<String> = using.map(|(name, _)| name.to_string()).collect();
        if !by.is_empty() {
            return Err(Refused::InUse { number, by });
        }
        let mut head = self.next();
        head.provisioned.remove(&number.to_string());
        head.events.remove(&number.to_string());
        Ok(Edit {
            head,
            publish: None,
            delete: Some(number),
        })
    }

    pub fn create_alias(
        &self,
        name: AliasName,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(Alias, Edit), Refused> {
        if self.head.aliases.contains_key(&name) {
            return Err(Refused::AliasTaken(name));
        }
        if self.head.aliases.len() >= ALIASES_MAX {
            return Err(Refused::TooMany {
                what: "aliases",
                most: ALIASES_MAX,
            });
        }
        let version = wish.version.ok_or_else(|| Refused::Invalid {
            field: "version",
            message: "is required".into(),
        })?;
        let alias = Alias {
            version,
            second: wish.second.flatten(),
            description: wish.description.unwrap_or_default(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        self.with_alias(name, alias)
    }

    pub fn update_alias(
        &self,
        name: &str,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(Alias, Edit), Refused> {
        let found = self.alias(name);
        let (name, alias) = found.ok_or_else(|| Refused::NoAlias(name.into()))?;
        if let Some(given) = wish.revision.filter(|given| *given != alias.revision) {
            return Err(Refused::Stale(given));
        }
        let alias = Alias {
            version: wish.version.unwrap_or(alias.version),
            second: wish.second.unwrap_or(alias.second),
            description: wish.description.unwrap_or(alias.description.clone()),
            revision: alias.revision + 1,
            created_at: alias.created_at,
            updated_at: now,
        };
        self.with_alias(name.clone(), alias)
    }

    pub fn delete_alias(&self, name: &str, revision: Option<u64>) -> Result<Edit, Refused> {
        let found = self.alias(name);
        let (name, alias) = found.ok_or_else(|| Refused::NoAlias(name.into()))?;
        if let Some(given) = revision.filter(|given| *given != alias.revision) {
            return Err(Refused::Stale(given));
        }
        let mut head = self.next();
        head.aliases.remove(name);
        head.provisioned.remove(name.as_str());
        head.events.remove(name.as_str());
        head.urls.remove(name.as_str());
        Ok(Edit {
            head,
            publish: None,
            delete: None,
        })
    }

    fn with_alias(&self, name: AliasName, alias: Alias) -> Result<(Alias, Edit), Refused> {
        if let VersionId::Number(number) = alias.version
            && !self.versions.contains_key(&number)
        {
            return Err(Refused::NoVersion(number));
        }
        if let Some(second) = alias.second {
            let invalid = |message: &str| Refused::Invalid {
                field: "second",
                message: message.into(),
            };
            if !(0.0..=1.0).contains(&second.weight) {
                return Err(invalid("its weight must be from 0.0 to 1.0"));
            }
            if alias.version == VersionId::Latest {
                return Err(invalid("an alias of $LATEST has no second version"));
            }
            if alias.version == VersionId::Number(second.version) {
                return Err(invalid("must be another version than the first"));
            }
            if !self.versions.contains_key(&second.version) {
                return Err(Refused::NoVersion(second.version));
            }
        }
        if alias.version == VersionId::Latest && self.head.provisioned.contains_key(name.as_str()) {
            return Err(Refused::Invalid {
                field: "version",
                message: "may not be $LATEST: the alias has provisioned concurrency".into(),
            });
        }
        let mut head = self.next();
        head.aliases.insert(name, alias.clone());
        let edit = Edit {
            head,
            publish: None,
            delete: None,
        };
        Ok((alias, edit))
    }

    /// Keeps so many workers of a published version ready, or of those an alias points at.
    pub fn provision(
        &self,
        qualifier: &Qualifier,
        requested: u32,
        now: Timestamp,
    ) -> Result<Edit, Refused> {
        if self.first(qualifier)? == VersionId::Latest {
            return Err(Refused::Invalid {
                field: "qualifier",
                message: "must be a published version, or an alias of one".into(),
            });
        }
        let mut head = self.next();
        let provisioned = Provisioned {
            requested,
            updated_at: now,
        };
        head.provisioned.insert(qualifier.to_string(), provisioned);
        Ok(Edit {
            head,
            publish: None,
            delete: None,
        })
    }

    pub fn unprovision(&self, qualifier: &str) -> Result<Edit, Refused> {
        let mut head = self.next();
        match head.provisioned.remove(qualifier) {
            None => Err(Refused::NotProvisioned(qualifier.into())),
            Some(_) => Ok(Edit {
                head,
                publish: None,
                delete: None,
            }),
        }
    }

    /// The version a qualifier stands for first.
    fn first(&self, qualifier: &Qualifier) -> Result<VersionId, Refused> {
        let version = match qualifier {
            Qualifier::Version(version) => *version,
            Qualifier::Alias(name) => {
                let found = self.alias(name.as_str());
                let (_, alias) = found.ok_or_else(|| Refused::NoAlias(name.to_string()))?;
                alias.version
            }
        };
        match version {
            VersionId::Number(number) if !self.versions.contains_key(&number) => {
                Err(Refused::NoVersion(number))
            }
            version => Ok(version),
        }
    }

    /// Gives a version or an alias settings of its own for asynchronous calls; those of the editable version are the function's.
    pub fn set_events(
        &self,
        qualifier: &Qualifier,
        asynchronous: Asynchronous,
        now: Timestamp,
    ) -> Result<(EventSettings, Edit), Refused> {
        self.first(qualifier)?;
        assert_ne!(*qualifier, Qualifier::Version(VersionId::Latest));
        let settings = EventSettings {
            asynchronous,
            updated_at: now,
        };
        let mut head = self.next();
        head.events.insert(qualifier.to_string(), settings.clone());
        let edit = Edit {
            head,
            publish: None,
            delete: None,
        };
        Ok((settings, edit))
    }

    /// Takes them away; `None` if there are none.
    pub fn unset_events(&self, qualifier: &str) -> Option<Edit> {
        let mut head = self.next();
        head.events.remove(qualifier)?;
        Some(Edit {
            head,
            publish: None,
            delete: None,
        })
    }

    /// The own settings of what an asynchronous call was accepted for: of the alias it came through, or else of the version.
    pub fn events(&self, version: VersionId, alias: Option<&AliasName>) -> Option<&Asynchronous> {
        let own = match (alias, version) {
            (Some(alias), _) => self.head.events.get(alias.as_str()),
            (None, VersionId::Number(number)) => self.head.events.get(&number.to_string()),
            (None, VersionId::Latest) => None,
        };
        own.map(|own| &own.asynchronous)
    }

    /// What is provisioned for a qualifier, by version: of an alias with two, each gets its share.
    pub fn shares(&self, qualifier: &str) -> Vec<(u64, u32)> {
        let Some(provisioned) = self.head.provisioned.get(qualifier) else {
            return Vec::new();
        };
        let requested = provisioned.requested;
        let alias = self.alias(qualifier).map(|(_, alias)| alias);
        let version = alias.map_or_else(|| qualifier.parse().ok(), |alias| Some(alias.version));
        let Some(VersionId::Number(first)) = version else {
            return Vec::new();
        };
        match alias.and_then(|alias| alias.second) {
            Some(second) => {
                let part = (f64::from(requested) * second.weight).round();
                // It is no more than the whole, which fits.
                let part = (part as u32).min(requested);
                vec![(first, requested - part), (second.version, part)]
            }
            None => vec![(first, requested)],
        }
    }

    /// How many workers of each version are kept ready, over all qualifiers that lead to it.
    pub fn provisioned(&self) -> BTreeMap<u64, u32> {
        let mut all = BTreeMap::new();
        for qualifier in self.head.provisioned.keys() {
            for (version, count) in self.shares(qualifier) {
                let sum: &mut u32 = all.entry(version).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        all.retain(|_, count| *count > 0);
        all
    }

    /// The same of all versions together.
    pub fn provisioned_in_all(&self) -> u32 {
        let all = self.provisioned();
        all.values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(in crate::domain) fn next(&self) -> Head {
        Head {
            revision: self.head.revision + 1,
            ..self.head.clone()
        }
    }

    /// What there is after a change of this was written.
    pub fn after(&self, edit: Edit) -> Self {
        let mut versions = self.versions.clone();
        if let Some(version) = edit.publish {
            versions.insert(version.number, version);
        }
        if let Some(number) = edit.delete {
            versions.remove(&number);
        }
        Self {
            head: edit.head,
            versions,
        }
    }
}

#[cfg(test)]
mod tests;
