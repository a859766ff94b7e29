//! The runtimes there are, found as the server finds them: by their folders.

use std::path::{Path, PathBuf};

use hearth::runtime::manifest::{self, Manifest};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes")
}

/// Every runtime of the repository.
pub(crate) fn all() -> Vec<Manifest> {
    let all = manifest::read_all(&folder()).expect("the repository's runtimes can be read");
    assert!(!all.is_empty(), "no runtime in {}", folder().display());
    all
}

/// The template's source file and its text.
pub(crate) fn template(runtime: &Manifest) -> (PathBuf, String) {
    let name = runtime
        .source_file(&runtime.default_handler)
        .expect("a default handler has a module");
    let found = ["", "m"].into_iter().find_map(|prefix| {
        // A template may use a longer extension for the same module, as `.mjs` for `.js`.
        let (stem, extension) = name.rsplit_once('.')?;
        let path = runtime
            .folder
            .join(format!("template/{stem}.{prefix}{extension}"));
        path.is_file().then_some(path)
    });
    let path = found.unwrap_or_else(|| panic!("{} has no template", runtime.id));
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}
