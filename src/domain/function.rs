//! A function: a named piece of user code with its settings, as it is stored and as everybody passes it around.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::aws;
use crate::domain::destination::Asynchronous;
use crate::domain::environment::Environment;
use crate::domain::id::{FunctionId, FunctionName, RuntimeId, VersionDigest};
use crate::domain::image::Image;
use crate::domain::layer;
use crate::domain::limits::Mebibytes;
use crate::domain::seldom::Seldom;
use crate::domain::version::VersionId;

/// The version that can be edited.
pub const LATEST: &str = "$LATEST";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub id: FunctionId,
    pub name: FunctionName,
    /// Grows by one with every change; a change names the revision it was made from, so that none is lost.
    pub revision: u64,
    pub runtime: RuntimeId,
    pub handler: String,
    pub timeout_seconds: u32,
    pub memory: Mebibytes,
    pub code: Code,
    /// What its workers find below `/opt`; of two that have a file of one name, the later one's is there. Not in records of older versions.
    #[serde(default)]
    pub layers: Vec<layer::Attached>,
    pub environment: Environment,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// The path the function answers plain HTTP at.
    pub route: Option<String>,
    /// How many invocations may be under way at once; `None` leaves only the account's limit.
    pub max_concurrency: Option<u32>,
    /// A part of the account's limit that is this function's alone, and all it can have. Not in records of older versions.
    #[serde(default)]
    pub reserved_concurrency: Option<u32>,
    /// How its asynchronous calls are run. Not in records of older versions.
    #[serde(default)]
    pub asynchronous: Seldom<Asynchronous>,
    pub network: Network,
    /// What only AWS's clients see. Not in records of older versions.
    #[serde(default)]
    pub aws: Seldom<aws::Settings>,
    pub created_at: jiff::Timestamp,
    pub updated_at: jiff::Timestamp,
}

/// The code package: a zip, kept by the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Hex SHA-256 of the zip.
    pub sha256: String,
    /// Size of the zip in bytes.
    pub size: u64,
    /// Bytes of its files. Not in records of older versions.
    #[serde(default)]
    pub unpacked_size: Option<u64>,
    pub origin: Origin,
}

impl Code {
    /// Of a function that is not whole yet.
    pub fn unknown() -> Self {
        Self {
            sha256: String::new(),
            size: 0,
            unpacked_size: None,
            origin: Origin::Zip,
        }
    }
}

/// How the code came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "path", rename_all = "snake_case")]
pub enum Origin {
    Inline,
    Zip,
    /// A file or directory on the server, packed when the function was written.
    Path(PathBuf),
    /// An image of the engine. The package says which, and no more.
    Image(Box<Image>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No network but the container's own loopback.
    #[default]
    None,
    /// May open connections to the outside.
    Egress,
}

impl Function {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// What its handler is told that its log is called. Hearth has no such groups.
    pub fn log_group(&self) -> String {
        let given = self.aws.logging.as_ref().and_then(|l| l.group.clone());
        given.unwrap_or_else(|| format!("/aws/lambda/{}", self.name))
    }

    /// What it is made of, if that is no package.
    pub fn image(&self) -> Option<&Image> {
        match &self.code.origin {
            Origin::Image(image) => Some(image),
            Origin::Inline | Origin::Zip | Origin::Path(_) => None,
        }
    }

    /// The hashes of all packages its workers need: its code, and its layers in their order.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().map(|layer| &layer.content);
        let layers = layers.map(|content| content.sha256.as_str());
        std::iter::once(self.code.sha256.as_str()).chain(layers)
    }

    /// Whether the other is the same but for what belongs to the function and not to one of its versions: so a version that was published of
    /// one need not be published of the other.
    pub fn runs_like(&self, other: &Self) -> bool {
        // Spelt as what is left out, so that a setting that is added later counts.
        let bare = |of: &Self| Self {
            name: self.name.clone(),
            revision: 0,
            tags: BTreeMap::new(),
            route: None,
            max_concurrency: None,
            reserved_concurrency: None,
            asynchronous: Seldom::default(),
            code: Code {
                origin: Origin::Zip,
                unpacked_size: None,
                ..of.code.clone()
            },
            aws: of.aws.of_versions().into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
            ..of.clone()
        };
        bare(self) == bare(other)
    }

    /// The digest of everything a worker bakes in when it is specialised. The timeout travels with every call, and
    /// description, tags, route and limits never reach a worker, so changing those keeps the warm ones.
    pub fn digest(&self) -> VersionDigest {
        self.digest_as(VersionId::Latest)
    }

    /// The same for a published version: its workers know its number.
    pub fn digest_as(&self, version: VersionId) -> VersionDigest {
        let mut hash = Sha256::new();
        // Length-prefixed, so that no two different settings can run together into the same bytes.
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(self.id.as_str().as_bytes());
        field(self.name.as_str().as_bytes());
        field(self.runtime.as_str().as_bytes());
        field(self.handler.as_bytes());
        field(&self.memory.0.to_be_bytes());
        field(self.code.sha256.as_bytes());
        field(&[self.network as u8]);
        // As they are stored: the digest is shown, and must not help anybody to guess a value.
        for (key, value) in &self.environment.0 {
            field(key.as_bytes());
            field(value.as_stored().as_bytes());
        }
        // The same for what is hardly ever there.
        if let Some(logging) = &self.aws.logging {
            for (name, value) in logging.variables() {
                field(name.as_bytes());
                field(value.as_bytes());
            }
            if let Some(group) = &logging.group {
                field(b"/log");
                field(group.as_bytes());
            }
        }
        // No variable has such a name. Without layers, the digest is what it was before there were any.
        if !self.layers.is_empty() {
            field(b"/opt");
        }
        for layer in &self.layers {
            field(layer.content.sha256.as_bytes());
        }
        if let VersionId::Number(number) = version {
            field(b"version");
            field(&number.to_be_bytes());
        }
        VersionDigest::new(&hex::encode(hash.finalize()))
    }
}
