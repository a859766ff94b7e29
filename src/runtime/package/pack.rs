//! Makes packages of code that does not come as one: inline text, and a file or directory on the server. The same code makes
//! the same bytes, whenever and from wherever it is packed. Blocking.

use std::io::{Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::domain::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_PACKED_MAX, PACKAGE_UNPACKED_MAX};
use crate::runtime::package::Error;
use crate::runtime::package::entry::{self, Reason};

/// Made by tools for themselves, and different each time they run.
const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];

/// A package of one file.
pub fn pack_inline(file_name: &str, text: &str) -> Result<Vec<u8>, Error> {
    let mut package = Package::new();
    let name = checked_name(file_name.as_bytes())?;
    package.file(&name, false, &mut text.as_bytes(), Path::new(file_name))?;
    package.finish()
}

/// A package of what is at `path`, which must be below one of `roots`: a directory with everything in it, a file alone, or a
/// zip as it is.
pub fn pack_path(path: &Path, roots: &[PathBuf]) -> Result<Vec<u8>, Error> {
    if !path.is_absolute() {
        return Err(refused(path, "is not an absolute path"));
    }
    let real = path.canonicalize().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            refused(path, "does not exist on the server")
        }
        _ => failed("resolve", path)(source),
    })?;
    // A root that is not there allows nothing.
    let allowed = roots
        .iter()
        .filter_map(|root| root.canonicalize().ok())
        .any(|root| real.starts_with(root));
    if !allowed {
        return Err(refused(
            path,
            "is outside the directories code may be read from",
        ));
    }
    let kind = std::fs::metadata(&real).map_err(failed("read", &real))?;
    if kind.is_dir() {
        return pack_directory(&real);
    }
    if !kind.is_file() {
        return Err(refused(path, "is neither a file nor a directory"));
    }
    if real
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("zip"))
    {
        return read_zip(&real, kind.len());
    }
    let mut package = Package::new();
    let name = real.file_name().map_or(&b""[..], |name| name.as_bytes());
    package.file_at(&checked_name(name)?, &real)?;
    package.finish()
}

fn read_zip(path: &Path, size: u64) -> Result<Vec<u8>, Error> {
    let limit = PACKAGE_PACKED_MAX as u64;
    let too_large = |size| Error::TooLarge { size, limit };
    if size > limit {
        return Err(too_large(size));
    }
    let mut zip = Vec::new();
    // Read to the limit and not to the size: it may be growing.
    open(path)?
        .take(limit + 1)
        .read_to_end(&mut zip)
        .map_err(failed("read", path))?;
    if zip.len() as u64 > limit {
        return Err(too_large(zip.len() as u64));
    }
    Ok(zip)
}

fn pack_directory(root: &Path) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    // A list and not recursion: how deep the tree is, is up to whoever made it.
    let mut directories = vec![(root.to_owned(), String::new())];
    while let Some((directory, prefix)) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let entry = entry.map_err(failed("list", &directory))?;
            let path = entry.path();
            let Ok(part) = entry.file_name().into_string() else {
                return Err(refused(&path, "has a name that is not UTF-8"));
            };
            if LEFT_OUT.contains(&part.as_str()) {
                continue;
            }
            let name = checked_name(format!("{prefix}{part}").as_bytes())?;
            let kind = entry.file_type().map_err(failed("read", &path))?;
            if found.len() == PACKAGE_ENTRIES_MAX {
                return Err(Error::TooManyEntries {
                    limit: PACKAGE_ENTRIES_MAX,
                });
            }
            if kind.is_dir() {
                directories.push((path.clone(), format!("{name}/")));
            } else if !kind.is_file() && !kind.is_symlink() {
                return Err(refused(&path, "is a device, pipe or socket"));
            }
            found.push((name, path, kind));
        }
    }
    // In the order of the names, and not in that of the file system.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut package = Package::new();
    for (name, path, kind) in found {
        if kind.is_dir() {
            package.directory(&name, &path)?;
        } else if kind.is_symlink() {
            package.link(&name, &link_within(root, &name, &path)?, &path)?;
        } else {
            package.file_at(&name, &path)?;
        }
    }
    package.finish()
}

/// The target of a link, as it is written where that will do, else as the shortest way there.
fn link_within(root: &Path, name: &str, path: &Path) -> Result<String, Error> {
    let out = || refused(path, "is a link that leads out of the code or nowhere");
    let written = std::fs::read_link(path).map_err(failed("read", path))?;
    let real = path.canonicalize().map_err(|_nowhere| out())?;
    let inside = real.strip_prefix(root).map_err(|_outside| out())?;
    if inside
        .iter()
        .any(|part| LEFT_OUT.iter().any(|left_out| part == *left_out))
    {
        return Err(refused(path, "is a link to something that is left out"));
    }
    if let Ok(target) = entry::link_target(name, written.as_os_str().as_bytes()) {
        return Ok(target.to_owned());
    }
    let mut target = "../".repeat(name.matches('/').count());
    target.push_str(inside.to_str().ok_or_else(out)?);
    if target.is_empty() {
        target.push('.');
    }
    Ok(target)
}

struct Package {
    writer: ZipWriter<Cursor<Vec<u8>>>,
    unpacked: u64,
    files: usize,
}

impl Package {
    fn new() -> Self {
        Self {
            writer: ZipWriter::new(Cursor::new(Vec::new())),
            unpacked: 0,
            files: 0,
        }
    }

    fn file_at(&mut self, name: &str, path: &Path) -> Result<(), Error> {
        let mut file = open(path)?;
        let kind = file.metadata().map_err(failed("read", path))?;
        if !kind.is_file() {
            return Err(refused(path, "changed while it was read"));
        }
        let executable = kind.permissions().mode() & 0o111 != 0;
        self.file(name, executable, &mut file, path)
    }

    fn file(
        &mut self,
        name: &str,
        executable: bool,
        content: &mut impl Read,
        path: &Path,
    ) -> Result<(), Error> {
        self.writer
            .start_file(name, options(if executable { 0o755 } else { 0o644 }))
            .map_err(cannot_pack(path))?;
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", path)(error)),
            };
            self.unpacked += read as u64;
            if self.unpacked > PACKAGE_UNPACKED_MAX {
                return Err(Error::Entry {
                    name: name.to_owned(),
                    reason: Reason::TooLarge {
                        limit: PACKAGE_UNPACKED_MAX,
                    },
                });
            }
            self.writer
                .write_all(&buffer[..read])
                .map_err(failed("pack", path))?;
        }
        self.files += 1;
        Ok(())
    }

    fn directory(&mut self, name: &str, path: &Path) -> Result<(), Error> {
        self.writer
            .add_directory(name, options(0o755))
            .map_err(cannot_pack(path))
    }

    fn link(&mut self, name: &str, target: &str, path: &Path) -> Result<(), Error> {
        self.writer
            .add_symlink(name, target, options(0o777))
            .map_err(cannot_pack(path))
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        if self.files == 0 {
            return Err(Error::Empty);
        }
        let zip = self
            .writer
            .finish()
            .map_err(cannot_pack(Path::new("")))?
            .into_inner();
        if zip.len() > PACKAGE_PACKED_MAX {
            return Err(Error::TooLarge {
                size: zip.len() as u64,
                limit: PACKAGE_PACKED_MAX as u64,
            });
        }
        Ok(zip)
    }
}

/// Everything the format would otherwise take from the clock and the machine is fixed.
fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .system(System::Unix)
        .unix_permissions(mode)
}

fn checked_name(raw: &[u8]) -> Result<String, Error> {
    let refused = |reason| Error::Entry {
        name: String::from_utf8_lossy(raw).into_owned(),
        reason,
    };
    entry::name(raw)
        .map_err(refused)?
        .ok_or_else(|| refused(Reason::NoName))
}

/// Does not follow a link that was put in the file's place, and does not wait for the other end of a pipe.
fn open(path: &Path) -> Result<std::fs::File, Error> {
    std::fs::File::options()
        .read(true)
        .custom_flags((nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(failed("open", path))
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Path {
        path: path.to_owned(),
        reason,
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn cannot_pack(path: &Path) -> impl Fn(zip::result::ZipError) -> Error {
    move |error| failed("pack", path)(std::io::Error::other(error))
}
