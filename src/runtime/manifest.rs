//! What a runtime is, as its folder says: reads `runtimes/<id>/runtime.toml`. Adding a language is adding a folder; nothing in
//! here, or anywhere under `src/`, knows which languages there are.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::id::RuntimeId;
use crate::domain::limits::Mebibytes;

/// `runtime.toml`, word for word.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    names: Vec<String>,
    description: String,
    default_handler: String,
    source_extension: String,
    stem_memory_mb: u32,
    base_image: String,
    bare_command: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Manifest {
    pub id: RuntimeId,
    /// Short names `language` may use instead of the id; the first is the one shown.
    pub names: Vec<String>,
    pub description: String,
    /// The handler of the template, and the default when code is given inline.
    pub default_handler: String,
    /// Extension of the file inline code is written to: handler `app.handler` means `app.<extension>`.
    pub source_extension: String,
    /// What a stem worker is limited to and counted as, before it has a function's own limit.
    pub stem_memory: Mebibytes,
    /// The Dockerfile's base; must be present, or be pulled, before the image can be built.
    pub base_image: String,
    /// Starts the shim without a container, with the folder as working directory.
    pub bare_command: Vec<String>,
    /// The folder itself.
    pub folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a runtime manifest")]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
}

/// All runtimes of a `runtimes/` folder, by id. Folders that start with `_` or have no manifest are not runtimes.
pub fn read_all(root: &Path) -> Result<Vec<Manifest>, Error> {
    let list = std::fs::read_dir(root).map_err(|source| Error::Read {
        path: root.into(),
        source,
    })?;
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.map_err(|source| Error::Read {
            path: root.into(),
            source,
        })?;
        let hidden = entry.file_name().to_string_lossy().starts_with(['_', '.']);
        let path = entry.path().join("runtime.toml");
        if !hidden && path.is_file() {
            found.push(read(&path)?);
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let mut seen = std::collections::HashSet::new();
    for manifest in &found {
        for name in manifest
            .names
            .iter()
            .map(String::as_str)
            .chain([manifest.id.as_str()])
        {
            if !seen.insert(name.to_owned()) {
                let path = manifest.folder.join("runtime.toml");
                return Err(Error::Invalid {
                    path,
                    what: format!("the name {name:?} is taken by another runtime"),
                });
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Manifest, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|source| Error::Parse {
        path: path.into(),
        source,
    })?;
    let folder = path.parent().expect("a file has a folder").to_owned();
    let invalid = |what: &str| Error::Invalid {
        path: path.into(),
        what: what.into(),
    };
    if folder.file_name().and_then(|n| n.to_str()) != Some(file.id.as_str()) {
        return Err(invalid("id must be the folder's name"));
    }
    if file.default_handler.rsplit_once('.').is_none() {
        return Err(invalid("default_handler must be module.function"));
    }
    if file.bare_command.is_empty() {
        return Err(invalid("bare_command must name a program"));
    }
    Ok(Manifest {
        id: RuntimeId::new(&file.id),
        names: file.names,
        description: file.description,
        default_handler: file.default_handler,
        source_extension: file.source_extension,
        stem_memory: Mebibytes(file.stem_memory_mb),
        base_image: file.base_image,
        bare_command: file.bare_command,
        folder,
    })
}

impl Manifest {
    pub fn answers_to(&self, name: &str) -> bool {
        self.id.as_str() == name || self.names.iter().any(|n| n == name)
    }

    /// The template's source: the module of the default handler, by whatever extension the language also allows.
    pub fn template(&self) -> Option<PathBuf> {
        let (module, _) = self.default_handler.rsplit_once('.')?;
        let list = std::fs::read_dir(self.folder.join("template")).ok()?;
        let mut paths = list.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| path.is_file() && path.file_stem().is_some_and(|stem| stem == module))
    }

    /// The file inline code goes to, for a handler `module.function`.
    pub fn source_file(&self, handler: &str) -> Option<String> {
        let (module, _) = handler.rsplit_once('.')?;
        Some(format!("{module}.{}", self.source_extension))
    }
}
