//! Functions' code, unpacked: `<state>/code/<sha256>/`, made from the store's package once and linked into every worker that
//! needs it. The store is asked only when the directory is not there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::runtime::package;
use crate::store::{self, Store};
use crate::task;

/// So many are unpacked at once, for the whole of each is in memory meanwhile.
const AT_ONCE: usize = 4;

#[derive(Debug)]
pub struct Codes {
    store: Arc<dyn Store>,
    directory: PathBuf,
    known: Mutex<HashMap<String, Known>>,
    turns: Semaphore,
}

/// A code that is there, or is being unpacked.
#[derive(Debug, Default)]
struct Known {
    /// Whoever comes second waits for the first.
    path: Arc<OnceCell<PathBuf>>,
    /// Somebody was told of it since codes were looked through last, and may not have linked it yet.
    asked_for: bool,
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
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The directory with the code of this hash. A failure is not remembered.
    pub async fn unpacked(&self, sha256: &str) -> Result<PathBuf, Error> {
        let path = {
            let mut known = self.known.lock();
            let code = known.entry(sha256.to_owned()).or_default();
            code.asked_for = true;
            code.path.clone()
        };
        let path = path.get_or_try_init(|| self.unpack(sha256)).await?;
        Ok(path.clone())
    }

    /// Forgets that a code is there, because it was not: the next who needs it unpacks it again.
    pub fn forget(&self, sha256: &str) {
        self.known.lock().remove(sha256);
    }

    /// Forgets and removes codes that nobody has deployed, nor asked for since the last time. What a worker has linked stays its own.
    /// Blocking.
    pub fn retain(&self, live: impl Fn(&str) -> bool) {
        self.known.lock().retain(|sha256, code| {
            let asked_for = std::mem::take(&mut code.asked_for);
            asked_for || live(sha256)
        });
        let Ok(list) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in list.flatten() {
            // What has another name is being unpacked just now.
            if let Some(name) = entry.file_name().to_str()
                && is_hash(name)
                && !live(name)
            {
                self.remove_unless_known(name);
            }
        }
    }

    fn remove_unless_known(&self, sha256: &str) {
        let path = self.directory.join(sha256);
        // A directory under its hash is always complete.
        let aside = path.with_extension("old");
        let renamed = {
            // Whoever asks from now on finds none, and waits for no more than this.
            let known = self.known.lock();
            if known.contains_key(sha256) {
                return;
            }
            std::fs::rename(&path, &aside)
        };
        if let Err(error) = renamed.and_then(|()| std::fs::remove_dir_all(&aside)) {
            tracing::debug!(path = %path.display(), %error, "unpacked code cannot be removed");
        }
    }

    async fn unpack(&self, sha256: &str) -> Result<PathBuf, Error> {
        let directory = self.directory.join(sha256);
        if directory.is_dir() {
            return Ok(directory);
        }
        let _turn = self.turns.acquire().await.expect("is never closed");
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

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::runtime::manifest::SourceFile;
    use crate::store::embedded::Embedded;

    #[tokio::test]
    async fn code_that_somebody_is_about_to_link_stays() {
        let state = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(state.path()).expect("opens");
        let file = SourceFile {
            name: "app.x".into(),
            executable: false,
        };
        let zip = package::pack_inline(&file, "pass").expect("packs");
        let sha256 = hex::encode(Sha256::digest(&zip));
        store.put_code(&sha256, zip.into()).await.expect("is kept");
        let codes = Codes::new(store, state.path().join("code"));
        let nobody = |_: &str| false;
        // Its function is deployed just now, and was not yet when codes were looked through.
        let path = codes.unpacked(&sha256).await.expect("is there");
        codes.retain(nobody);
        assert!(path.is_dir());
        // Asked for or not, what is live stays.
        codes.retain(|known| known == sha256);
        assert!(path.is_dir());
        codes.retain(nobody);
        assert!(!path.exists());
        let again = codes.unpacked(&sha256).await.expect("is made anew");
        assert!(again.join("app.x").is_file());
        // What an earlier run left is nobody's.
        let next_run = Codes::new(codes.store.clone(), codes.directory.clone());
        next_run.retain(nobody);
        assert!(!again.exists());
    }
}
