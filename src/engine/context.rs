//! What of a runtime's folder goes into its image: the list of files, in one order, and the archive the engine builds from.
//! One list serves the archive and the digest in the image's tag, so the tag changes exactly when the image would.
//! Called by `engine::docker` and `runtime::image`. Blocking.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A runtime's image is small; anything larger is a mistake in the folder.
const CONTEXT_MAX: u64 = 256 * 1024 * 1024;
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 32;

/// In the folder, but for people, tests and Hearth itself: a change there is not another image.
const NOT_IN_THE_IMAGE: [&str; 4] = ["runtime.toml", "README.md", "template", "contract"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} cannot go into an image: {what}")]
    Refused { path: PathBuf, what: &'static str },
}

/// One file of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the folder, with `/` between the parts.
    pub name: String,
    pub executable: bool,
    pub content: Vec<u8>,
}

/// Every file that goes into the image, sorted by name.
pub fn files(folder: &Path) -> Result<Vec<File>, Error> {
    let mut walk = Walk {
        found: Vec::new(),
        bytes: 0,
    };
    walk.directory(folder, "", 0)?;
    walk.found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(walk.found)
}

/// The same files as a tar archive: same folder, same bytes, whoever checked it out and whenever.
pub fn archive(folder: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: folder.into(),
        source,
    };
    let mut builder = tar::Builder::new(Vec::new());
    for file in files(folder)? {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(file.content.len() as u64);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder
            .append_data(&mut header, &file.name, file.content.as_slice())
            .map_err(failed)?;
    }
    builder.into_inner().map_err(failed)
}

struct Walk {
    found: Vec<File>,
    bytes: u64,
}

impl Walk {
    fn directory(&mut self, path: &Path, prefix: &str, depth: usize) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
        };
        if depth > DEPTH_MAX {
            return Err(refused(path, "it is nested too deeply"));
        }
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(refused(&path, "its name is not UTF-8"));
            };
            let left_out = name.starts_with('.')
                || name == "__pycache__"
                || (depth == 0 && NOT_IN_THE_IMAGE.contains(&name.as_str()));
            if left_out {
                continue;
            }
            let name = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                self.directory(&path, &format!("{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.file(&path, name)?;
            } else {
                return Err(refused(&path, "it is neither a file nor a directory"));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        let mut content = Vec::new();
        // One byte more than there is room for tells "too large" from "just fits".
        let room = CONTEXT_MAX - self.bytes;
        let read = file
            .take(room + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if read as u64 > room || self.found.len() == FILES_MAX {
            return Err(refused(path, "the folder is too large"));
        }
        self.bytes += read as u64;
        self.found.push(File {
            name,
            executable: mode & 0o111 != 0,
            content,
        });
        Ok(())
    }
}

fn refused(path: &Path, what: &'static str) -> Error {
    Error::Refused {
        path: path.into(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["shim/inner", "template", "contract", "shim/__pycache__"] {
            std::fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        for (name, text) in [
            ("Dockerfile", "FROM x"),
            ("shim/start", "go"),
            ("shim/inner/deep", "d"),
            (
                "shim/README.md",
                "kept: only the one at the top is for people",
            ),
            ("shim/__pycache__/x", "left out"),
            ("runtime.toml", "left out"),
            ("README.md", "left out"),
            ("template/app", "left out"),
            ("contract/case", "left out"),
            (".hidden", "left out"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_list_is_what_the_image_is_made_of_in_one_order() {
        let dir = folder();
        let names: Vec<String> = files(dir.path())
            .unwrap()
            .into_iter()
            .map(|f| f.name)
            .collect();
        assert_eq!(
            names,
            [
                "Dockerfile",
                "shim/README.md",
                "shim/inner/deep",
                "shim/start"
            ]
        );
    }

    #[test]
    fn the_archive_depends_on_content_and_the_executable_bit_alone() {
        let dir = folder();
        let start = dir.path().join("shim/start");
        let before = archive(dir.path()).unwrap();
        let file = std::fs::File::options().write(true).open(&start).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        std::fs::set_permissions(&start, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(before, archive(dir.path()).unwrap());

        std::fs::set_permissions(&start, PermissionsExt::from_mode(0o700)).unwrap();
        let executable = archive(dir.path()).unwrap();
        assert_ne!(before, executable);

        let mut reader = tar::Archive::new(executable.as_slice());
        let modes: Vec<(String, u32)> = reader
            .entries()
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                let name = e.path().unwrap().to_string_lossy().into_owned();
                (name, e.header().mode().unwrap())
            })
            .collect();
        assert!(modes.contains(&("shim/start".to_owned(), 0o755)));
        assert!(modes.contains(&("Dockerfile".to_owned(), 0o644)));
    }

    #[test]
    fn a_link_is_refused_by_name() {
        let dir = folder();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("shim/link")).unwrap();
        let error = archive(dir.path()).unwrap_err().to_string();
        assert!(error.contains("shim/link"), "{error}");
    }
}
