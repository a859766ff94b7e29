//! Makes packages of code that does not come as one: inline text, and a file or directory on the server. The same code makes
//! the same bytes, whenever and from wherever it is packed. Blocking.

use std::io::{Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::domain::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_PACKED_MAX, PACKAGE_UNPACKED_MAX};
use crate::domain::pattern::Pattern;
use crate::runtime::manifest::SourceFile;
use crate::runtime::package::entry::{self, Reason};
use crate::runtime::package::{Error, within};

/// Made by tools for themselves, and different each time they run.
pub const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];

/// What the kernel makes up: what is in there is of this process or of all, and never code.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where on the server code may be taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Directories; a path must be in one of them.
    pub roots: Vec<PathBuf>,
    /// Hearth's own directory, whatever the roots are: the admin's key and all functions' code are in it.
    pub state: PathBuf,
    /// Names of the images that whoever may write functions may use.
    pub images: Vec<Pattern>,
}

impl Places {
    /// Why a path without links in it may not be read.
    fn refuse(&self, real: &Path) -> Option<&'static str> {
        // A root that is not there allows nothing.
        let below = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
        if !self.roots.iter().any(below) {
            return Some("is outside the directories code may be read from");
        }
        withheld(real, self.own().as_deref())
    }

    fn own(&self) -> Option<PathBuf> {
        self.state.canonicalize().ok()
    }
}

fn withheld(real: &Path, own: Option<&Path>) -> Option<&'static str> {
    if own.is_some_and(|own| real.starts_with(own)) {
        return Some("is Hearth's own and no code");
    }
    let kernels = KERNELS.iter().any(|place| real.starts_with(place));
    kernels.then_some("is made up by the kernel and no code")
}

/// A package of one file.
pub fn pack_inline(file: &SourceFile, text: &str) -> Result<Vec<u8>, Error> {
    let mut package = Package::new();
    let name = checked_name(file.name.as_bytes())?;
    let path = Path::new(&file.name);
    package.file(&name, file.executable, &mut text.as_bytes(), path)?;
    package.finish()
}

/// A package of what is at `path`, if it may be read: a directory with everything in it, a file alone, or a zip as it is.
pub fn pack_path(path: &Path, places: &Places) -> Result<Vec<u8>, Error> {
    if !path.is_absolute() {
        return Err(refused(path, "is not an absolute path"));
    }
    let real = path.canonicalize().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            refused(path, "does not exist on the server")
        }
        _ => failed("resolve", path)(source),
    })?;
    if let Some(reason) = places.refuse(&real) {
        return Err(refused(path, reason));
    }
    let kind = std::fs::metadata(&real).map_err(failed("read", &real))?;
    if kind.is_dir() {
        return pack_directory(&real, places.own().as_deref());
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

fn pack_directory(root: &Path, own: Option<&Path>) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    // A list and not recursion: how deep the tree is, is up to whoever made it.
    let mut directories = vec![(root.to_owned(), String::new())];
    while let Some((directory, prefix)) = directories.pop() {
        if let Some(reason) = withheld(&directory, own) {
            return Err(refused(&directory, reason));
        }
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
            if self.unpacked >= PACKAGE_UNPACKED_MAX {
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
        within(&zip, PACKAGE_PACKED_MAX)?;
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

/// A path that cannot be read was the wrong one to give, unless the machine is at its end.
fn failed(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    use nix::errno::Errno;
    move |source| {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw) {
            None | Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO) => Error::Io {
                operation,
                path,
                source,
            },
            Some(errno) => Error::Unreadable {
                path,
                why: errno.desc().to_lowercase(),
            },
        }
    }
}

fn cannot_pack(path: &Path) -> impl Fn(zip::result::ZipError) -> Error {
    move |error| failed("pack", path)(std::io::Error::other(error))
}
