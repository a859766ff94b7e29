//! `aws-chunked` bodies: each chunk says its length and its signature, which covers the one before it, so that none can be left out, added or
//! moved. Pure.
//!
//! ```text
//! 10000;chunk-signature=<64 hex digits>\r\n<that many bytes>\r\n … 0;chunk-signature=<64 hex digits>\r\n\r\n
//! ```

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api::lambda::sigv4::{Error, Key};

const ALGORITHM: &str = "AWS4-HMAC-SHA256-PAYLOAD";
/// Hex of the hash of nothing.
pub(super) const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A chunk's head: sixteen digits of length and the signature.
const HEAD_MAX: usize = 16 + ";chunk-signature=".len() + 64;
/// Each costs two hashes; a client sends 64 KiB at a time or more.
const CHUNKS_MAX: usize = 16 * 1024;

/// What proves the next chunk.
#[derive(Debug)]
pub struct Chain {
    key: Key,
    time: String,
    scope: String,
    /// Of what came before.
    signature: String,
}

impl Chain {
    pub(super) fn new(key: Key, time: String, scope: String, signature: String) -> Self {
        Self {
            key,
            time,
            scope,
            signature,
        }
    }

    /// The body that came in these chunks.
    pub fn decode(mut self, mut rest: &[u8]) -> Result<Vec<u8>, Error> {
        let mut body = Vec::with_capacity(rest.len());
        for _ in 0..CHUNKS_MAX {
            let (chunk, signature, after) = split(rest).ok_or(Error::Chunks)?;
            let text = format!(
                "{ALGORITHM}\n{}\n{}\n{}\n{EMPTY}\n{}",
                self.time,
                self.scope,
                self.signature,
                hex::encode(Sha256::digest(chunk))
            );
            let wanted = self.key.sign_text(&text);
            if !bool::from(wanted.as_bytes().ct_eq(signature)) {
                return Err(Error::Mismatch);
            }
            if chunk.is_empty() {
                // Nobody signed what comes after the end.
                return match after.is_empty() {
                    true => Ok(body),
                    false => Err(Error::Chunks),
                };
            }
            body.extend_from_slice(chunk);
            self.signature = wanted;
            rest = after;
        }
        Err(Error::Chunks)
    }
}

/// The first chunk, its signature, and what comes after it.
fn split(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let window = &rest[..rest.len().min(HEAD_MAX + 2)];
    let end = window.windows(2).position(|pair| pair == b"\r\n")?;
    let head = std::str::from_utf8(&rest[..end]).ok()?;
    let (length, signature) = head.split_once(";chunk-signature=")?;
    // `from_str_radix` would take a sign.
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_hexdigit());
    let length = digits.then(|| usize::from_str_radix(length, 16).ok())??;
    let data = &rest[end + 2..];
    let chunk = data.get(..length)?;
    let after = data[length..].strip_prefix(b"\r\n")?;
    Some((chunk, signature.as_bytes(), after))
}
