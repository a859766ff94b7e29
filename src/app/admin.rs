//! The key an instance makes for itself at its first start, and keeps for its owner in a file of the state directory. Made sure of by
//! the composition root, before anybody asks for anything.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::app::write_private;
use crate::clock;
use crate::domain::key::{self, KeyRecord, Wish};
use crate::secrets::{Secrets, key_place};
use crate::store::Store;

/// This instance's admin key: made at its first start, kept for its owner in a file, and in the store as a hash under the instance's
/// own id. So every node of a shared store has one, each opens all nodes, and a node whose file was lost replaces its key and adds none.
pub(crate) struct AdminKey {
    path: PathBuf,
    id: String,
    secret: String,
    secrets: Arc<Secrets>,
    /// It was made by this process, so if the store does not have it, nobody took it away.
    new: bool,
}

impl AdminKey {
    pub(crate) fn of(path: PathBuf, instance: &str, secrets: Arc<Secrets>) -> anyhow::Result<Self> {
        let mut admin = Self {
            path,
            id: format!("admin-{instance}"),
            secret: String::new(),
            secrets,
            new: false,
        };
        match std::fs::read_to_string(&admin.path) {
            Ok(text) if !text.trim().is_empty() => admin.secret = text.trim().to_owned(),
            _ => admin.make()?,
        }
        Ok(admin)
    }

    fn make(&mut self) -> anyhow::Result<()> {
        self.secret = key::with_id(&self.id);
        self.new = true;
        write_private(&self.path, &self.secret, 0o600)?;
        tracing::info!(path = %self.path.display(), "admin key made");
        Ok(())
    }

    pub(crate) fn record(&self) -> KeyRecord {
        let place = key_place(&self.id);
        KeyRecord {
            sealed: Some(self.secrets.seal(&place, &self.secret)),
            ..Wish::admin().record(self.id.clone(), &self.secret, clock::wall())
        }
    }

    /// Makes sure that the store has it. One that was in the file before and is not in the store was revoked, or
    /// is another store's: then a new one takes its place.
    pub(crate) async fn keep(&mut self, store: &dyn Store) -> anyhow::Result<()> {
        let records = store.keys().await.context("the keys cannot be read")?;
        let hash = hex::encode(key::hash(&self.secret));
        let record = match records.into_iter().find(|known| known.sha256 == hash) {
            Some(known) if known.sealed.is_some() => return Ok(()),
            // Versions before this one kept no encrypted copy.
            Some(known) => KeyRecord {
                sealed: Some(self.secrets.seal(&key_place(&known.id), &self.secret)),
                ..known
            },
            None if self.new => self.record(),
            None => {
                self.make()?;
                self.record()
            }
        };
        let kept = store.put_key(record).await;
        kept.context("the admin key cannot be stored")
    }
}
