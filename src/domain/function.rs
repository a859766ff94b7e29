//! A function: a named piece of user code with its settings, as it is stored and as everybody passes it around.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::environment::Environment;
use crate::domain::id::{FunctionId, FunctionName, RuntimeId, VersionDigest};
use crate::domain::limits::Mebibytes;

/// The version that can be edited; the only one until versions are published.
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
    pub network: Network,
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
    pub origin: Origin,
}

/// How the code came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "path", rename_all = "snake_case")]
pub enum Origin {
    Inline,
    Zip,
    /// A file or directory on the server, packed when the function was written.
    Path(PathBuf),
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

    /// The digest of everything a worker bakes in when it is specialised. The timeout travels with every call, and
    /// description, tags, route and limits never reach a worker, so changing those keeps the warm ones.
    pub fn digest(&self) -> VersionDigest {
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
        VersionDigest::new(&hex::encode(hash.finalize()))
    }
}
