//! The runtimes there are, found as the server finds them: by their folders.

use std::path::{Path, PathBuf};

use hearth::runtime::manifest::{self, Manifest};

use crate::built;

/// With everything in it built.
pub(crate) fn folder() -> PathBuf {
    all();
    place()
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes")
}

/// Every runtime of the repository.
pub(crate) fn all() -> Vec<Manifest> {
    let all = manifest::read_all(&place()).expect("the repository's runtimes can be read");
    assert!(!all.is_empty(), "no runtime in {}", place().display());
    for runtime in &all {
        built::built(runtime).unwrap();
    }
    all
}

/// The template's source file and its text.
pub(crate) fn template(runtime: &Manifest) -> (PathBuf, String) {
    let path = runtime.template().expect("every runtime has a template");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}
