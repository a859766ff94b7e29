//! Code packages as files named by their SHA-256, `packages/<sha256>.zip`. A file appears whole or not at all: it is written
//! under another name, synced, renamed, and the directory is synced. Only the store's writer thread renames and removes;
//! staging and reading happen on any thread where blocking is allowed. It does not know who needs a package.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::embedded::{Fault, sync_dir};

const STAGED: &str = ".staged-";

#[derive(Debug)]
pub(super) struct Packages {
    dir: PathBuf,
}

impl Packages {
    pub(super) fn open(dir: &Path) -> Result<Self, Fault> {
        let mut builder = std::fs::DirBuilder::new();
        // Code is the users' own business.
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(Fault::file("create", dir))?;
        Ok(Self { dir: dir.into() })
    }

    /// Whether there are any that are whole.
    pub(super) fn are_some(&self) -> Result<bool, Fault> {
        let list = std::fs::read_dir(&self.dir).map_err(Fault::file("list", &self.dir))?;
        for entry in list {
            let entry = entry.map_err(Fault::file("list", &self.dir))?;
            if package(&entry.file_name()).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what a crash left behind: half-written files, and packages that are not `kept`.
    pub(super) fn collect(&self, kept: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let list = std::fs::read_dir(&self.dir).map_err(Fault::file("list", &self.dir))?;
        for entry in list {
            let entry = entry.map_err(Fault::file("list", &self.dir))?;
            let name = entry.file_name();
            let staged = name.to_str().is_some_and(|name| name.starts_with(STAGED));
            // Anything else is not ours.
            if staged || package(&name).is_some_and(|sha256| !kept(sha256)) {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Writes the bytes where `Staged::keep` can put them in place at once.
    pub(super) fn stage(&self, sha256: &str, zip: &[u8]) -> Result<Staged, Fault> {
        let path = self.path(sha256)?;
        if hex::encode(Sha256::digest(zip)) != sha256 {
            return Err(Fault::Damaged(sha256.into()));
        }
        // From here on it is removed again if anything fails or nobody waits for it any more.
        let staged = Staged {
            sha256: sha256.into(),
            from: self
                .dir
                .join(format!("{STAGED}{}", Uuid::new_v4().simple())),
            to: path,
        };
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&staged.from)?;
            file.write_all(zip)?;
            file.sync_all()
        };
        write().map_err(Fault::file("write", &staged.from))?;
        Ok(staged)
    }

    pub(super) fn has(&self, sha256: &str) -> bool {
        self.path(sha256).is_ok_and(|path| path.is_file())
    }

    pub(super) fn size(&self, sha256: &str) -> Result<Option<u64>, Fault> {
        let Ok(path) = self.path(sha256) else {
            return Ok(None);
        };
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::file("read", &path)(e)),
        }
    }

    /// The package, if it is there and is what it was.
    pub(super) fn read(&self, sha256: &str) -> Result<Option<Bytes>, Fault> {
        let Ok(path) = self.path(sha256) else {
            return Ok(None);
        };
        match std::fs::read(&path) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == sha256 => Ok(Some(bytes.into())),
            Ok(_) => Err(Fault::Damaged(sha256.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::file("read", &path)(e)),
        }
    }

    /// Makes renames outlive a crash of the machine.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        sync_dir(&self.dir)
    }

    pub(super) fn remove(&self, sha256: &str) {
        if let Ok(path) = self.path(sha256) {
            remove(&path);
        }
    }

    /// Only a hash becomes a path: nothing in it can point elsewhere.
    fn path(&self, sha256: &str) -> Result<PathBuf, Fault> {
        match is_hash(sha256) {
            true => Ok(self.dir.join(format!("{sha256}.zip"))),
            false => Err(Fault::NoHash(sha256.into())),
        }
    }
}

/// A package that is written but not yet in its place. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged {
    sha256: String,
    from: PathBuf,
    to: PathBuf,
}

impl Staged {
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Puts it in its place, over the same bytes if they are there already.
    pub(super) fn keep(self) -> Result<(), Fault> {
        std::fs::rename(&self.from, &self.to).map_err(Fault::file("write", &self.to))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After `keep` there is nothing under this name.
        remove(&self.from);
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of the package in a file of this name.
fn package(name: &OsStr) -> Option<&str> {
    let sha256 = name.to_str()?.strip_suffix(".zip")?;
    is_hash(sha256).then_some(sha256)
}

/// A file that cannot be removed costs space, nothing else; the next opening tries again.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a code package");
        }
        _ => {}
    }
}
