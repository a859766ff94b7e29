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

/// What stands for a key where an AWS client wants an access key id: looks like one, and follows from the key alone.
pub fn access_key_id(key: &str) -> String {
    let digest = hex::encode_upper(hash(key));
    format!(
        "HEARTH{}",
        digest.get(..14).expect("a digest has 64 digits")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
