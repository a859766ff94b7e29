//! Functions' code, unpacked: `<state>/code/<sha256>/`, made from the store's package once and linked into every worker that
//! needs it. The store is asked only when the directory is not there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::domain::limits::PACKAGE_FETCHED_MAX;
use crate::runtime::package;
use crate::store::{self, Store};
use crate::task;

const MEBIBYTE: u64 = 1024 * 1024;
/// What is unpacked at once may have so many together, for the whole of each package is in memory meanwhile: four of the largest.
const TURNS_MIB: usize = 4 * PACKAGE_FETCHED_MAX.div_ceil(MEBIBYTE as usize);
/// A package of so many waits for nobody.
const SMALL_MIB: u64 = 4;

#[derive(Debug)]
pub struct Codes {
    store: Arc<dyn Store>,
    directory: PathBuf,
    known: Mutex<HashMap<String, Known>>,
    /// In MiB.
    turns: Arc<Semaphore>,
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
            turns: Arc::new(Semaphore::new(TURNS_MIB)),
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
        let missing = || Error::Missing(sha256.to_owned());
        let size = self.store.code_size(sha256).await?.ok_or_else(missing)?;
        let turn = self.turn(size).await;
        let zip = self.store.code(sha256).await?.ok_or_else(missing)?;
        let target = directory.clone();
        let unpacking = task::blocking("unpack code", move || {
            let unpacked = package::unpack(&zip, &target);
            // Here, for this goes on when nobody waits for it any more.
            drop(zip);
            drop(turn);
            unpacked
        });
        unpacking.await?;
        Ok(directory)
    }

    /// For a package of this size, if it needs one.
    async fn turn(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let share = size.div_ceil(MEBIBYTE).min(TURNS_MIB as u64);
        if share <= SMALL_MIB {
            return None;
        }
        let turn = self.turns.clone().acquire_many_owned(share as u32).await;
        Some(turn.expect("is never closed"))
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::poll;
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

    /// The hash of a package of noise, which is as large as that.
    async fn kept(store: &dyn Store, bytes: usize) -> String {
        let file = SourceFile {
            name: "app.x".into(),
            executable: false,
        };
        let mut state = 1u32;
        let noise = (0..bytes).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            char::from(b' ' + (state % 64) as u8)
        });
        let zip = package::pack_inline(&file, &noise.collect::<String>()).expect("packs");
        let sha256 = hex::encode(Sha256::digest(&zip));
        store.put_code(&sha256, zip.into()).await.expect("is kept");
        sha256
    }

    #[tokio::test]
    async fn small_code_waits_for_no_large_one() {
        let state = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(state.path()).expect("opens");
        let small = kept(&*store, 1024).await;
        let large = kept(&*store, 6 * 1024 * 1024).await;
        let codes = Codes::new(store, state.path().join("code"));
        let all = codes.turns.clone().acquire_many_owned(TURNS_MIB as u32);
        let all = all.await.expect("is open");
        let mut waiting = Box::pin(codes.unpacked(&large));
        assert!(poll!(&mut waiting).is_pending());
        codes.unpacked(&small).await.expect("is unpacked");
        assert!(poll!(&mut waiting).is_pending());
        assert!(!codes.directory.join(&large).exists());
        drop(all);
        waiting.await.expect("is unpacked");
        assert_eq!(codes.turns.available_permits(), TURNS_MIB);
    }

    #[test]
    fn a_turn_lasts_as_long_as_the_unpacking() {
        // Blocking work is done one after the other, so that it can be held up.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let state = tempfile::tempdir().expect("a directory");
            let store = Embedded::open(state.path()).expect("opens");
            let large = kept(&*store, 6 * 1024 * 1024).await;
            let codes = Codes::new(store, state.path().join("code"));
            let mut asking = Box::pin(codes.unpacked(&large));
            assert!(poll!(&mut asking).is_pending(), "it is being read");
            let (began, begins) = tokio::sync::oneshot::channel();
            let (go_on, may_go_on) = mpsc::channel::<()>();
            let mut between = Box::pin(task::blocking("wait", move || {
                began.send(()).ok();
                may_go_on.recv().ok();
            }));
            assert!(poll!(&mut between).is_pending());
            begins.await.expect("begins after the reading");
            assert!(poll!(&mut asking).is_pending(), "it is to be unpacked");
            drop(asking);
            assert!(codes.turns.available_permits() < TURNS_MIB);
            drop(go_on);
            between.await;
            let all = codes.turns.acquire_many(TURNS_MIB as u32).await;
            assert!(all.is_ok() && codes.directory.join(&large).is_dir());
        });
    }
}
