//! Functions' code, unpacked: `<state>/code/<sha256>/`, made from the store's package once and linked into every worker that
//! needs it. The store is asked only when the directory is not there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::runtime::package;
use crate::store::{self, Store};
use crate::task;

#[derive(Debug)]
pub struct Codes {
    store: Arc<dyn Store>,
    directory: PathBuf,
    /// Codes known to be there, or being unpacked: whoever comes second waits for the first.
    known: Mutex<HashMap<String, Arc<OnceCell<PathBuf>>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store has no code package {0}")]
    Missing(String),
    #[error("the store cannot be asked for it: {0}")]
    Store(#[from] store::Error),
    #[error("it cannot be unpacked: {0}")]
    Unpack(#[from] package::Error),
}

impl Error {
    pub fn is_full_disk(&self) -> bool {
        match self {
            Error::Missing(_) => false,
            Error::Store(error) => matches!(error, store::Error::DiskFull { .. }),
            Error::Unpack(error) => error.is_full_disk(),
        }
    }
}

impl Codes {
    pub fn new(store: Arc<dyn Store>, directory: PathBuf) -> Self {
        Self {
            store,
            directory,
            known: Mutex::default(),
        }
    }

    /// The directory with the code of this hash. A failure is not remembered.
    pub async fn unpacked(&self, sha256: &str) -> Result<PathBuf, Error> {
        let cell = self
            .known
            .lock()
            .entry(sha256.to_owned())
            .or_default()
            .clone();
        let path = cell.get_or_try_init(|| self.unpack(sha256)).await?;
        Ok(path.clone())
    }

    /// Forgets that a code is there, because it was not: the next who needs it unpacks it again.
    pub fn forget(&self, sha256: &str) {
        self.known.lock().remove(sha256);
    }

    /// Forgets and removes codes nobody has deployed. What a worker has linked stays its own. Blocking.
    pub fn retain(&self, live: impl Fn(&str) -> bool) {
        self.known.lock().retain(|sha256, _| live(sha256));
        let Ok(list) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in list.flatten() {
            // What has another name is being unpacked just now.
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| is_hash(name) && !live(name))
            {
                remove(&entry.path());
            }
        }
    }

    async fn unpack(&self, sha256: &str) -> Result<PathBuf, Error> {
        let directory = self.directory.join(sha256);
        if directory.is_dir() {
            return Ok(directory);
        }
        let zip = self
            .store
            .code(sha256)
            .await?
            .ok_or_else(|| Error::Missing(sha256.to_owned()))?;
        let target = directory.clone();
        task::blocking("unpack code", move || package::unpack(&zip, &target)).await?;
        Ok(directory)
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Renamed first: a directory under its hash is always complete.
fn remove(path: &Path) {
    let aside = path.with_extension("old");
    if let Err(error) = std::fs::rename(path, &aside).and_then(|()| std::fs::remove_dir_all(&aside))
    {
        tracing::debug!(path = %path.display(), %error, "unpacked code cannot be removed");
    }
}
