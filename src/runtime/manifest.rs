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
    source_extension: Option<String>,
    source_file: Option<String>,
    stem_memory_mb: u32,
    base_image: String,
    bare_command: Vec<String>,
    image_shim: Option<PathBuf>,
    #[serde(default)]
    aws: Aws,
}

/// What AWS's clients see of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// Names of AWS's runtimes that this one stands for, the nearest first.
    pub names: Vec<String>,
    /// Names that AWS had once and takes no more.
    pub retired: Vec<String>,
    /// What the list of frames is called in an error's body; unset: `stackTrace`, and only where there is one.
    pub error_stack: Option<String>,
    /// Whether an error's body has the request's id.
    pub error_request_id: bool,
}

/// Where code goes that is given inline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Handler `app.handler` means `app.<extension>`.
    Module { extension: String },
    /// A program of this name, whatever the handler: what that means is the program's business.
    Program { file: String },
}

/// A file of inline code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    pub name: String,
    pub executable: bool,
}

#[derive(Debug, Clone)]
pub struct Manifest {
    pub id: RuntimeId,
    /// Short names `language` may use instead of the id; the first is the one shown.
    pub names: Vec<String>,
    pub description: String,
    /// The handler of the template, and the default when code is given inline.
    pub default_handler: String,
    /// `source_extension` or `source_file`: where inline code is written to.
    pub source: Source,
    /// What a stem worker is limited to and counted as, before it has a function's own limit.
    pub stem_memory: Mebibytes,
    /// The Dockerfile's base; must be present, or be pulled, before the image can be built.
    pub base_image: String,
    /// Starts the shim without a container, with the folder as working directory.
    pub bare_command: Vec<String>,
    /// A program that can be started in any image, and serves what the image starts: functions that are images run in this runtime.
    pub image_shim: Option<PathBuf>,
    pub aws: Aws,
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
    let mut stood_for = std::collections::HashSet::new();
    for manifest in &found {
        if let Some(name) = manifest
            .aws
            .names
            .iter()
            .find(|name| !stood_for.insert((*name).clone()))
        {
            let path = manifest.folder.join("runtime.toml");
            let what = format!("AWS's runtime {name:?} is stood for twice");
            return Err(Error::Invalid { path, what });
        }
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
    let source = match (file.source_extension, file.source_file) {
        (Some(extension), None) => Source::Module { extension },
        (None, Some(file)) => Source::Program { file },
        _ => {
            return Err(invalid(
                "either source_extension or source_file must be set",
            ));
        }
    };
    if matches!(source, Source::Module { .. }) && !file.default_handler.contains('.') {
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
        source,
        stem_memory: Mebibytes(file.stem_memory_mb),
        base_image: file.base_image,
        bare_command: file.bare_command,
        image_shim: file.image_shim.map(|shim| folder.join(shim)),
        aws: file.aws,
        folder,
    })
}

impl Manifest {
    pub fn answers_to(&self, name: &str) -> bool {
        self.id.as_str() == name || self.names.iter().any(|n| n == name)
    }

    /// The template's source: the program, or the module of the default handler, by whatever extension the language also allows.
    pub fn template(&self) -> Option<PathBuf> {
        let folder = self.folder.join("template");
        if let Source::Program { file } = &self.source {
            return Some(folder.join(file)).filter(|path| path.is_file());
        }
        let (module, _) = self.default_handler.rsplit_once('.')?;
        let list = std::fs::read_dir(folder).ok()?;
        let mut paths = list.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| path.is_file() && path.file_stem().is_some_and(|stem| stem == module))
    }

    /// The file inline code goes to. `None` where the handler must be `module.function` and is not, or names a module that is
    /// not one plain file name: no handler can write outside the package.
    pub fn source_file(&self, handler: &str) -> Option<SourceFile> {
        let extension = match &self.source {
            Source::Module { extension } => extension,
            Source::Program { file } => {
                return Some(SourceFile {
                    name: file.clone(),
                    executable: true,
                });
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let (module, function) = handler.rsplit_once('.')?;
        let good = !module.is_empty() && !function.is_empty() && module.chars().all(plain);
        good.then(|| SourceFile {
            name: format!("{module}.{extension}"),
            executable: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(lines: &str) -> Result<Manifest, Error> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lang1");
        std::fs::create_dir(&folder).unwrap();
        let text = format!(
            "id = \"lang1\"\nnames = []\ndescription = \"a language\"\nstem_memory_mb = 128\n\
             base_image = \"base\"\nbare_command = [\"./start\"]\n{lines}\n"
        );
        std::fs::write(folder.join("runtime.toml"), text).unwrap();
        read_all(root.path()).map(|mut all| all.remove(0))
    }

    #[test]
    fn inline_code_is_a_module_or_a_program() {
        let modules = "default_handler = \"app.handler\"\nsource_extension = \"x\"";
        let modules = manifest(modules).unwrap();
        let file = |name: &str, executable| {
            let name = name.into();
            Some(SourceFile { name, executable })
        };
        assert_eq!(modules.source_file("app.go"), file("app.x", false));
        for handler in ["app", ".go", "app.", "a/b.go", "../b.go", "a.b.go", "ä.go"] {
            assert_eq!(modules.source_file(handler), None, "{handler}");
        }
        let program = manifest("default_handler = \"start\"\nsource_file = \"start\"").unwrap();
        for handler in ["start", "app.go", "../../b"] {
            assert_eq!(program.source_file(handler), file("start", true));
        }
    }

    #[test]
    fn a_manifest_that_says_too_little_or_too_much_is_refused() {
        for lines in [
            "default_handler = \"app.handler\"",
            "default_handler = \"app.handler\"\nsource_extension = \"x\"\nsource_file = \"y\"",
            "default_handler = \"app\"\nsource_extension = \"x\"",
            "default_handler = \"app\"\nsource_file = \"y\"\nmore = 1",
        ] {
            assert!(manifest(lines).is_err(), "{lines}");
        }
    }
}
