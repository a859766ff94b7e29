//! API keys as they are kept: never the key, only its hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A key at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    pub name: String,
    /// Hex SHA-256 of the key. The key is 256 random bits, so a slow hash would add nothing but load.
    pub sha256: String,
    pub created_at: jiff::Timestamp,
}

/// The hash keys are compared by.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
