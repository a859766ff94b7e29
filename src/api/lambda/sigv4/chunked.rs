//! `aws-chunked` bodies: each chunk says its length and its signature, which covers the one before it, so that none can be left out, added or
//! moved. Pure.
//!
//! ```text
//! 10000;chunk-signature=<64 hex digits>\r\n<that many bytes>\r\n … 0;chunk-signature=<64 hex digits>\r\n\r\n
//! ```
//!
//! A body with trailers has them after its last chunk's head, line by line, and their signature in the last line:
//!
//! ```text
//! … 0;chunk-signature=<64 hex digits>\r\nx-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:<64 hex digits>\r\n\r\n
//! ```

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api::lambda::sigv4::{Error, Key};

const ALGORITHM: &str = "AWS4-HMAC-SHA256-PAYLOAD";
const ALGORITHM_OF_TRAILERS: &str = "AWS4-HMAC-SHA256-TRAILER";
/// Hex of the hash of nothing.
pub(super) const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A chunk's head: sixteen digits of length and the signature.
const HEAD_MAX: usize = 16 + ";chunk-signature=".len() + 64;
/// Each costs two hashes; a client sends 64 KiB at a time or more.
const CHUNKS_MAX: usize = 16 * 1024;
/// All of them: a client sends a checksum or two.
const TRAILERS_MAX: usize = 4 * 1024;

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

    /// The body that came in these chunks. What trailers say of it, the chunks' signatures have proved already.
    pub fn decode(mut self, mut rest: &[u8], trailers: bool) -> Result<Vec<u8>, Error> {
        let mut body = Vec::with_capacity(rest.len());
        for _ in 0..CHUNKS_MAX {
            let (chunk, signature, after) = split(rest).ok_or(Error::Chunks)?;
            let hash = hex::encode(Sha256::digest(chunk));
            self.prove(ALGORITHM, &format!("{EMPTY}\n{hash}"), signature)?;
            if chunk.is_empty() {
                let after = match trailers {
                    true => self.prove_trailers(after)?,
                    false => after.strip_prefix(b"\r\n").ok_or(Error::Chunks)?,
                };
                // Nobody signed what comes after the end.
                return match after.is_empty() {
                    true => Ok(body),
                    false => Err(Error::Chunks),
                };
            }
            body.extend_from_slice(chunk);
            rest = after.strip_prefix(b"\r\n").ok_or(Error::Chunks)?;
        }
        Err(Error::Chunks)
    }

    /// Whether this is what was signed next; then it is a part of what comes after it.
    fn prove(&mut self, algorithm: &str, hashes: &str, signature: &[u8]) -> Result<(), Error> {
        let (time, scope, before) = (&self.time, &self.scope, &self.signature);
        let text = format!("{algorithm}\n{time}\n{scope}\n{before}\n{hashes}");
        let wanted = self.key.sign_text(&text);
        if !bool::from(wanted.as_bytes().ct_eq(signature)) {
            return Err(Error::Mismatch);
        }
        self.signature = wanted;
        Ok(())
    }

    /// What comes after them.
    fn prove_trailers<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], Error> {
        let (lines, after) = lines(rest).ok_or(Error::Chunks)?;
        let (signature, lines) = lines.split_last().ok_or(Error::Chunks)?;
        let signature = signature.strip_prefix("x-amz-trailer-signature:");
        let signature = signature.ok_or(Error::Chunks)?;
        let signed: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let hash = hex::encode(Sha256::digest(signed));
        self.prove(ALGORITHM_OF_TRAILERS, &hash, signature.as_bytes())?;
        Ok(after)
    }
}

/// The lines up to an empty one, and what comes after that.
fn lines(rest: &[u8]) -> Option<(Vec<&str>, &[u8])> {
    let window = &rest[..rest.len().min(TRAILERS_MAX)];
    let end = window.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    Some((text.split("\r\n").collect(), &rest[end + 4..]))
}

/// The first chunk, its signature, and what comes after it, from the end of its line on.
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
    Some((chunk, signature.as_bytes(), &data[length..]))
}
