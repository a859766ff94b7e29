//! From files to the code package: a directory becomes a zip, the same files always the same bytes; a single source file goes as
//! text; a zip goes as it is. Knows nothing of runtimes or the server.

use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::domain::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_PACKED_MAX, PACKAGE_UNPACKED_MAX};

/// Patterns of files that stay at home, as in `.gitignore`.
pub const IGNORE_FILE: &str = ".hearthignore";
/// Never part of a function, wherever they are.
const SKIPPED: [&str; 6] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".DS_Store",
    IGNORE_FILE,
];

/// Code, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// One source file.
    Text {
        file: String,
        text: String,
    },
    Zip(Zip),
    /// An image on the server, as the server is asked for it.
    Image(Value),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zip {
    pub bytes: Vec<u8>,
    /// Paths of the files in it; empty when it was made by somebody else.
    pub files: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is nothing at {0}")]
    Absent(PathBuf),
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the directory")]
    Walk(#[from] ignore::Error),
    #[error("{0} has no file to deploy")]
    Empty(PathBuf),
    #[error("{0} is neither a file nor a directory")]
    Special(PathBuf),
    #[error("{0} ends in .zip but is none")]
    NotZip(PathBuf),
    #[error("the name of {0} is not UTF-8")]
    Name(PathBuf),
    #[error("{path} has more than {PACKAGE_ENTRIES_MAX} files; leave some out with {IGNORE_FILE}")]
    TooMany { path: PathBuf },
    #[error(
        "{path} has {} MiB or more; leave files out with {IGNORE_FILE}",
        PACKAGE_UNPACKED_MAX / (1024 * 1024)
    )]
    TooLarge { path: PathBuf },
    #[error(
        "packed, {path} has {size} bytes and a package may have {PACKAGE_PACKED_MAX}; leave files out with {IGNORE_FILE}"
    )]
    TooLargePacked { path: PathBuf, size: usize },
    #[error("cannot write the zip")]
    Zip(#[from] zip::result::ZipError),
    #[error("cannot write the zip")]
    Write(#[from] std::io::Error),
}

/// Reads what is at `path` into a package.
pub fn read(path: &Path) -> Result<Code, Error> {
    let kind = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Absent(path.into()),
        _ => Error::Read {
            path: path.into(),
            source,
        },
    })?;
    let code = if kind.is_dir() {
        Code::Zip(pack(path)?)
    } else if kind.is_file() {
        single(path)?
    } else {
        return Err(Error::Special(path.into()));
    };
    match &code {
        Code::Zip(Zip { bytes, .. }) if bytes.len() > PACKAGE_PACKED_MAX => {
            Err(Error::TooLargePacked {
                path: path.into(),
                size: bytes.len(),
            })
        }
        _ => Ok(code),
    }
}

fn single(path: &Path) -> Result<Code, Error> {
    let bytes = contents(path)?;
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("zip"))
    {
        if !bytes.starts_with(b"PK") {
            return Err(Error::NotZip(path.into()));
        }
        let files = Vec::new();
        return Ok(Code::Zip(Zip { bytes, files }));
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let file = name.ok_or_else(|| Error::Name(path.into()))?.to_owned();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Code::Text { file, text }),
        // A program, not a source file.
        Err(binary) => {
            let mut zip = Writer::new(path);
            zip.add(file, mode(path)?, binary.as_bytes())?;
            Ok(Code::Zip(zip.finish()?))
        }
    }
}

fn pack(root: &Path) -> Result<Zip, Error> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        // A link's target is what the function expects to find; a loop of links is an error of the walk.
        .follow_links(true)
        .sort_by_file_name(|a, b| a.cmp(b))
        .filter_entry(|entry| !is_skipped(entry))
        .build();
    let mut zip = Writer::new(root);
    for entry in walk {
        let entry = entry?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let inner = path.strip_prefix(root).unwrap_or(path).to_str();
        let name = inner.ok_or_else(|| Error::Name(path.into()))?.to_owned();
        zip.add(name, mode(path)?, &contents(path)?)?;
    }
    zip.finish()
}

fn is_skipped(entry: &DirEntry) -> bool {
    entry.depth() > 0 && SKIPPED.iter().any(|name| entry.file_name() == *name)
}

fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })
}

/// Readable by everybody, because a worker's user is nobody in particular; executable if it is here.
fn mode(path: &Path) -> Result<u32, Error> {
    let read = std::fs::metadata(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    });
    let executable = read?.permissions().mode() & 0o111 != 0;
    Ok(if executable { 0o755 } else { 0o644 })
}

/// Writes a zip that depends on names, modes and contents only, within the limits of a package.
struct Writer<'a> {
    root: &'a Path,
    zip: ZipWriter<Cursor<Vec<u8>>>,
    files: Vec<String>,
    size: u64,
}

impl<'a> Writer<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            zip: ZipWriter::new(Cursor::default()),
            files: Vec::new(),
            size: 0,
        }
    }

    fn add(&mut self, name: String, mode: u32, contents: &[u8]) -> Result<(), Error> {
        let path = || self.root.to_owned();
        self.size += contents.len() as u64;
        if self.size >= PACKAGE_UNPACKED_MAX {
            return Err(Error::TooLarge { path: path() });
        }
        if self.files.len() >= PACKAGE_ENTRIES_MAX {
            return Err(Error::TooMany { path: path() });
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        self.zip.start_file(&*name, options)?;
        self.zip.write_all(contents)?;
        self.files.push(name);
        Ok(())
    }

    fn finish(self) -> Result<Zip, Error> {
        if self.files.is_empty() {
            return Err(Error::Empty(self.root.into()));
        }
        Ok(Zip {
            bytes: self.zip.finish()?.into_inner(),
            files: self.files,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        dir
    }

    fn zip(path: &Path) -> Zip {
        match read(path).expect("packed") {
            Code::Zip(zip) => zip,
            _ => unreachable!("a zip was expected"),
        }
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let files = [("b/c.txt", "c"), ("a.txt", "a")];
        let (one, two) = (tree(&files), tree(&files));
        // The order of creation and the time differ; neither is in the zip.
        std::fs::remove_file(two.path().join("a.txt")).expect("removed");
        std::fs::write(two.path().join("a.txt"), "a").expect("written");
        let later =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000);
        let file = std::fs::File::open(two.path().join("b/c.txt")).expect("opened");
        file.set_modified(later).expect("set");
        assert_eq!(zip(one.path()), zip(two.path()));
        assert_eq!(zip(one.path()).files, ["a.txt", "b/c.txt"]);
        std::fs::write(two.path().join("a.txt"), "b").expect("written");
        assert_ne!(zip(one.path()).bytes, zip(two.path()).bytes);
    }

    #[test]
    fn what_is_no_code_stays_at_home() {
        let dir = tree(&[
            (".git/config", ""),
            ("__pycache__/x", ""),
            ("lib/__pycache__/y", ""),
            (".hearthignore", "*.log\n/build/\n!keep.log\n"),
            ("a.log", ""),
            ("keep.log", ""),
            ("build/out", ""),
            ("lib/build/in", ""),
            (".env", "kept: hidden files may matter"),
            (".gitignore", "main.x\n"),
            ("main.x", ""),
        ]);
        let want = [".env", ".gitignore", "keep.log", "lib/build/in", "main.x"];
        assert_eq!(zip(dir.path()).files, want);
    }

    #[test]
    fn contents_and_the_executable_bit_arrive() {
        let dir = tree(&[("run", "#!/bin/sh\n"), ("data", "x")]);
        let run = dir.path().join("run");
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).expect("set");
        symlink("data", dir.path().join("link")).expect("linked");
        let bytes = zip(dir.path()).bytes;
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
        let mut entry = |name: &str| {
            let file = archive.by_name(name).expect("there");
            let mode = file.unix_mode().expect("a mode");
            (mode & 0o777, std::io::read_to_string(file).expect("text"))
        };
        assert_eq!(entry("run"), (0o755, "#!/bin/sh\n".into()));
        assert_eq!(entry("data"), (0o644, "x".into()));
        assert_eq!(entry("link"), (0o644, "x".into()));
    }

    #[test]
    fn a_file_goes_as_text_and_a_program_as_a_zip() {
        let dir = tree(&[("hello.src", "text")]);
        let code = read(&dir.path().join("hello.src")).expect("read");
        let want = Code::Text {
            file: "hello.src".into(),
            text: "text".into(),
        };
        assert_eq!(code, want);
        let program = dir.path().join("bootstrap");
        std::fs::write(&program, [0x7f, b'E', b'L', b'F', 0xff]).expect("written");
        assert_eq!(zip(&program).files, ["bootstrap"]);
    }

    #[test]
    fn a_zip_goes_as_it_is_and_must_be_one() {
        let dir = tree(&[("a", "a"), ("fake.zip", "hello")]);
        let real = dir.path().join("real.zip");
        let bytes = zip(dir.path()).bytes;
        std::fs::write(&real, &bytes).expect("written");
        assert_eq!(zip(&real).bytes, bytes);
        let fake = read(&dir.path().join("fake.zip"));
        assert!(matches!(fake, Err(Error::NotZip(_))));
    }

    #[test]
    fn nothing_to_deploy_is_an_error_and_so_is_a_loop() {
        let dir = tree(&[(".git/x", "")]);
        assert!(matches!(read(dir.path()), Err(Error::Empty(_))));
        assert!(matches!(
            read(&dir.path().join("no")),
            Err(Error::Absent(_))
        ));
        symlink(".", dir.path().join("self")).expect("linked");
        assert!(matches!(read(dir.path()), Err(Error::Walk(_))));
    }
}
