//! Language runtimes as Hearth sees them: folders with a manifest, an image and a shim; and functions' code on its way to them.

pub mod code;
pub mod image;
pub mod manifest;
pub mod package;
pub mod style;
pub mod watch;

use std::path::Path;
use std::sync::Arc;

use crate::domain::id::RuntimeId;
use crate::engine::{ImageSpec, context};
use crate::runtime::manifest::Manifest;

/// The runtimes this instance offers, as their folders were at its start.
#[derive(Debug, Default)]
pub struct Catalog {
    manifests: Vec<Arc<Manifest>>,
    images: Vec<ImageSpec>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error("the image of runtime {runtime} cannot be named")]
    Image {
        runtime: RuntimeId,
        #[source]
        source: context::Error,
    },
}

impl Catalog {
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let manifests: Vec<_> = manifest::read_all(folder)?
            .into_iter()
            .map(Arc::new)
            .collect();
        let named = |manifest: &Arc<Manifest>| {
            image::of(manifest).map_err(|source| Error::Image {
                runtime: manifest.id.clone(),
                source,
            })
        };
        let images = manifests.iter().map(named).collect::<Result<_, _>>()?;
        Ok(Self { manifests, images })
    }

    /// By id or short name.
    pub fn find(&self, name: &str) -> Option<&Arc<Manifest>> {
        self.manifests.iter().find(|m| m.answers_to(name))
    }

    /// The one that functions run in that are images.
    pub fn of_images(&self) -> Option<&Arc<Manifest>> {
        self.manifests.iter().find(|m| m.image_shim.is_some())
    }

    pub fn all(&self) -> &[Arc<Manifest>] {
        &self.manifests
    }

    pub fn image(&self, runtime: &RuntimeId) -> Option<&ImageSpec> {
        let place = self.manifests.iter().position(|m| &m.id == runtime)?;
        self.images.get(place)
    }
}
