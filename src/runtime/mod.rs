//! Language runtimes as Hearth sees them: folders with a manifest, an image and a shim.

pub mod image;
pub mod manifest;
pub mod package;

use std::path::Path;

use crate::runtime::manifest::Manifest;

/// The runtimes this instance offers.
#[derive(Debug, Default)]
pub struct Catalog {
    manifests: Vec<std::sync::Arc<Manifest>>,
}

impl Catalog {
    pub fn read(folder: &Path) -> Result<Self, manifest::Error> {
        let manifests = manifest::read_all(folder)?
            .into_iter()
            .map(std::sync::Arc::new)
            .collect();
        Ok(Self { manifests })
    }

    /// By id or short name.
    pub fn find(&self, name: &str) -> Option<&std::sync::Arc<Manifest>> {
        self.manifests.iter().find(|m| m.answers_to(name))
    }

    pub fn all(&self) -> &[std::sync::Arc<Manifest>] {
        &self.manifests
    }
}
