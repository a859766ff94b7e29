//! What must not be readable at rest: the values of functions' environments, and the keys that signatures of AWS clients are checked
//! with. Encrypted with XChaCha20-Poly1305 under a key of a file that belongs to the server's user alone. Every value is bound to its
//! place, the function and the name, so that a value copied into another's record does not open there.
//!
//! The file holds keys, one a line. The first encrypts, all of them decrypt: to rotate, put a new one first; what is written from
//! then on uses it. Nodes that share a store need the same file. Nonces are random, and long enough that they never meet.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::domain::environment::{Environment, Value, Variables};
use crate::domain::id::FunctionId;

/// How a value encrypted this way begins.
const FORM: &str = "x1";
const NONCE_BYTES: usize = 24;
/// More keys than anybody rotates through.
const KEYS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the key file {path} cannot be {action}")]
    File {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} of the key file {path} is not a key: 64 hexadecimal digits")]
    NoKey { path: PathBuf, line: usize },
    #[error("the key file {0} has no key in it")]
    Empty(PathBuf),
}

/// Why a value cannot be read. Says nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it was encrypted with the key {key}, which is not in {file}")]
    OtherKey { key: String, file: PathBuf },
    #[error("it is damaged, or was moved here from another place")]
    Damaged,
}

pub struct Secrets {
    file: PathBuf,
    /// By what names them in a value: the beginning of their hash.
    keys: Vec<(String, XChaCha20Poly1305)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.keys.iter().map(|(name, _)| name).collect();
        f.debug_struct("Secrets").field("keys", &names).finish()
    }
}

impl Secrets {
    /// The keys of a file that has to be there.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |action| {
            move |source| Error::File {
                path: path.into(),
                action,
                source,
            }
        };
        let text = std::fs::read_to_string(path).map_err(failed("read"))?;
        let mode = std::fs::metadata(path)
            .map_err(failed("read"))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let mode = format!("{:o}", mode & 0o777);
            tracing::warn!(path = %path.display(), mode, "others can read the key file: chmod 600");
        }
        Self::parse(&text, path)
    }

    /// The same, of a file that is made if it is not there.
    pub fn read_or_make(path: &Path) -> Result<Self, Error> {
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(path);
        let written = made.and_then(|mut file| {
            let key = hex::encode(rand::random::<[u8; 32]>());
            writeln!(
                file,
                "# Encrypts what Hearth keeps secret. Without it that is lost: keep a copy.\n{key}"
            )?;
            file.sync_all()
        });
        match written {
            Ok(()) => tracing::info!(path = %path.display(), "key file made"),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(Error::File {
                    path: path.into(),
                    action: "made",
                    source,
                });
            }
        }
        Self::read(path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut key = [0; 32];
            if hex::decode_to_slice(line, &mut key).is_err() || keys.len() == KEYS_MAX {
                // Not what it is: it may be a key with one digit too few.
                let (path, line) = (path.into(), at + 1);
                return Err(Error::NoKey { path, line });
            }
            let name = hex::encode(&Sha256::digest(key)[..4]);
            keys.push((name, XChaCha20Poly1305::new(&key.into())));
        }
        match keys.is_empty() {
            true => Err(Error::Empty(path.into())),
            false => Ok(Self {
                file: path.into(),
                keys,
            }),
        }
    }

    /// Encrypts a text for its place.
    pub fn seal(&self, place: &str, text: &str) -> String {
        let (name, cipher) = &self.keys[0];
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: text.as_bytes(),
            aad: place.as_bytes(),
        };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("only texts of many gigabytes cannot be encrypted");
        let bytes = [&nonce[..], &sealed].concat();
        format!("{FORM}:{name}:{}", STANDARD_NO_PAD.encode(bytes))
    }

    /// The text that was encrypted for this place.
    pub fn unseal(&self, place: &str, sealed: &str) -> Result<String, Unreadable> {
        let mut parts = sealed.splitn(3, ':');
        let (Some(FORM), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Unreadable::Damaged);
        };
        let Some((_, cipher)) = self.keys.iter().find(|(known, _)| known == name) else {
            return Err(Unreadable::OtherKey {
                key: name.chars().take(16).collect(),
                file: self.file.clone(),
            });
        };
        let open = || {
            let bytes = STANDARD_NO_PAD.decode(text).ok()?;
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
            let payload = Payload {
                msg: sealed,
                aad: place.as_bytes(),
            };
            let text = cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
            String::from_utf8(text).ok()
        };
        open().ok_or(Unreadable::Damaged)
    }

    /// A variable of a function.
    pub fn seal_variable(&self, function: &FunctionId, name: &str, text: &str) -> Value {
        let sealed = self.seal(&variable_place(function, name), text);
        Value::Sealed { sealed }
    }

    pub fn unseal_variable(
        &self,
        function: &FunctionId,
        name: &str,
        value: &Value,
    ) -> Result<String, Unreadable> {
        match value {
            Value::Sealed { sealed } => self.unseal(&variable_place(function, name), sealed),
            Value::Plain(text) => Ok(text.clone()),
        }
    }

    /// A function's environment in the clear, or the first name that cannot be read.
    pub fn open(
        &self,
        function: &FunctionId,
        environment: &Environment,
    ) -> Result<Variables, (String, Unreadable)> {
        let open = |(name, value): (&String, &Value)| {
            let text = self.unseal_variable(function, name, value);
            let text = text.map_err(|why| (name.clone(), why))?;
            Ok((name.clone(), text))
        };
        let variables: Result<_, _> = environment.0.iter().map(open).collect();
        variables.map(Variables)
    }

    /// The value as it should be written now: one in the clear is encrypted, one under an old key is moved to the first.
    pub fn renewed(&self, function: &FunctionId, name: &str, value: &Value) -> Value {
        if let Value::Sealed { sealed } = value
            && sealed.split(':').nth(1) == Some(&self.keys[0].0)
        {
            return value.clone();
        }
        match self.unseal_variable(function, name, value) {
            Ok(text) => self.seal_variable(function, name, &text),
            // It may be read elsewhere.
            Err(_) => value.clone(),
        }
    }
}

/// Where a function's variable belongs. Ids and names have no slash in them.
pub fn variable_place(function: &FunctionId, name: &str) -> String {
    format!("environment/{function}/{name}")
}

/// Where a key's own encrypted copy belongs.
pub fn key_place(id: &str) -> String {
    format!("key/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(keys: &[[u8; 32]]) -> Secrets {
        let lines: Vec<_> = keys.iter().map(hex::encode).collect();
        Secrets::parse(&lines.join("\n"), Path::new("keys")).expect("keys")
    }

    #[test]
    fn a_value_opens_in_its_place_alone() {
        let secrets = secrets(&[[1; 32]]);
        let (f, g) = (FunctionId::generate(), FunctionId::generate());
        for text in ["", "hunter2", "größe\n", &"x".repeat(4096)] {
            let value = secrets.seal_variable(&f, "A", text);
            assert_eq!(
                secrets.unseal_variable(&f, "A", &value).as_deref(),
                Ok(text)
            );
            for (function, name) in [(&g, "A"), (&f, "B"), (&f, "a"), (&f, "")] {
                let moved = secrets.unseal_variable(function, name, &value);
                assert_eq!(moved, Err(Unreadable::Damaged), "{name}");
            }
            assert!(text.is_empty() || !value.as_stored().contains(text));
            assert_ne!(value, secrets.seal_variable(&f, "A", text), "another nonce");
        }
    }

    #[test]
    fn what_was_changed_does_not_open_and_nothing_panics() {
        let secrets = secrets(&[[1; 32]]);
        let sealed = secrets.seal("here", "hunter2");
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(secrets.unseal("here", &changed).is_err(), "{changed}");
            assert!(secrets.unseal("here", &sealed[..at]).is_err());
        }
        for wrong in ["", "x1", "x1::", "x1:é:", "x2:00:AAAA", "hunter2"] {
            assert!(secrets.unseal("here", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_rotated_and_a_lost_one_is_named() {
        let f = FunctionId::generate();
        let (old, both, new) = (
            secrets(&[[1; 32]]),
            secrets(&[[2; 32], [1; 32]]),
            secrets(&[[2; 32]]),
        );
        let value = old.seal_variable(&f, "A", "hunter2");
        assert_eq!(
            both.unseal_variable(&f, "A", &value).as_deref(),
            Ok("hunter2")
        );
        let moved = both.renewed(&f, "A", &value);
        assert_eq!(
            new.unseal_variable(&f, "A", &moved).as_deref(),
            Ok("hunter2")
        );
        assert_eq!(both.renewed(&f, "A", &moved), moved, "nothing to do");
        assert_eq!(
            new.renewed(&f, "A", &value),
            value,
            "kept for who can read it"
        );
        let environment = Environment([("A".to_owned(), value)].into());
        let (name, why) = new.open(&f, &environment).expect_err("another key");
        let key = old.keys[0].0.clone();
        let file = PathBuf::from("keys");
        assert_eq!(
            (name.as_str(), why),
            ("A", Unreadable::OtherKey { key, file })
        );
        let plain = both.renewed(&f, "A", &Value::Plain("hunter2".into()));
        assert!(matches!(plain, Value::Sealed { .. }));
        assert!(!format!("{old:?}").contains("0101"), "{old:?}");
    }

    #[test]
    fn a_file_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secrets.key");
        assert!(matches!(Secrets::read(&path), Err(Error::File { .. })));
        let sealed = Secrets::read_or_make(&path)
            .expect("made")
            .seal("here", "x");
        let again = Secrets::read_or_make(&path).expect("read");
        assert_eq!(again.unseal("here", &sealed).as_deref(), Ok("x"));
        let mode = std::fs::metadata(&path)
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "# nothing\n\n").expect("written");
        assert!(matches!(Secrets::read(&path), Err(Error::Empty(_))));
        let half = "ab".repeat(31);
        std::fs::write(&path, format!("# a key\n{half}\n")).expect("written");
        let error = Secrets::read(&path).expect_err("too short").to_string();
        assert!(
            error.contains("line 2") && !error.contains("abab"),
            "{error}"
        );
    }
}
