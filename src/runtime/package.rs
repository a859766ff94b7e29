//! Code packages: a zip, checked entry by entry before it is taken, unpacked once per content, and linked into each worker's
//! task directory. Every way in ends in the same zip: text given inline and a path on the server are packed first, always to
//! the same bytes, so that the same code has the same hash.
//!
//! A package comes from outside. Nothing in it is believed: sizes are counted while inflating, names are refused and not
//! repaired, and what is refused is named. Blocking; called by the control side when code comes in and by the pool when a
//! worker is specialised. Knows nothing of functions.

pub mod entry;
pub mod outline;
pub mod pack;
pub mod unpack;

use std::io::{Cursor, Read};
use std::path::PathBuf;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::domain::fault::Blame;
use crate::domain::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_FETCHED_MAX, PACKAGE_UNPACKED_MAX};
use crate::runtime::package::entry::{Kind, Reason, Tree};
use crate::runtime::package::outline::{outline, overlapping, span};

pub use crate::runtime::package::pack::{LEFT_OUT, Places, pack_inline, pack_path};
pub use crate::runtime::package::unpack::{clear_partial, lay_over, link_into, unpack};

/// How often a package may hold itself, once it is larger than `RATIO_FREE`. Code and its data stay below 20.
const RATIO_MAX: u64 = 200;
const RATIO_FREE: u64 = 16 * 1024 * 1024;
/// A link's target is read whole, so it has a bound; whatever is over it is over `entry`'s bound for paths as well.
const LINK_MAX: u64 = 4096;
const CHUNK: usize = 64 * 1024;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_LINK: u32 = 0o120_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIRECTORY: u32 = 0o040_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the package is not a zip archive that can be read: {0}")]
    NotZip(String),
    #[error("the package has {size} bytes, over the limit of {limit}")]
    TooLarge { size: u64, limit: u64 },
    #[error("the package has more than {limit} files and directories")]
    TooManyEntries { limit: usize },
    #[error("the package holds no file")]
    Empty,
    #[error("entry {name:?} of the package {reason}")]
    Entry { name: String, reason: Reason },
    #[error("{path:?} {reason}")]
    Path { path: PathBuf, reason: &'static str },
    #[error("{path:?} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("cannot {operation} {path:?}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl Error {
    /// Whose fault it is: bad code is the client's, a disk that is full is not.
    pub fn blame(&self) -> Blame {
        match self {
            Error::Io { .. } => Blame::Platform,
            _ => Blame::Client,
        }
    }
}

/// What is in a package that was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Files, links and directories, named or implied.
    pub entries: usize,
    /// What its files hold together, in bytes.
    pub unpacked_size: u64,
}

/// Checks a package by reading all of it, and writes nothing.
pub fn inspect(zip: &[u8]) -> Result<Summary, Error> {
    struct Nowhere;
    impl Sink for Nowhere {
        fn directory(&mut self, _: &str) -> Result<(), Error> {
            Ok(())
        }
        fn link(&mut self, _: &str, _: &str) -> Result<(), Error> {
            Ok(())
        }
        fn file(&mut self, _: &str, _: bool) -> Result<(), Error> {
            Ok(())
        }
        fn content(&mut self, _: &[u8]) -> Result<(), Error> {
            Ok(())
        }
    }
    walk(zip, &mut Nowhere)
}

/// Refuses a package that is larger than its way in allows.
pub fn within(zip: &[u8], limit: usize) -> Result<(), Error> {
    match zip.len() > limit {
        true => Err(Error::TooLarge {
            size: zip.len() as u64,
            limit: limit as u64,
        }),
        false => Ok(()),
    }
}

/// Where a package's entries go, in the order of the archive. A name comes after the directories above it.
trait Sink {
    fn directory(&mut self, name: &str) -> Result<(), Error>;
    fn link(&mut self, name: &str, target: &str) -> Result<(), Error>;
    /// Starts a file; its content follows in pieces.
    fn file(&mut self, name: &str, executable: bool) -> Result<(), Error>;
    fn content(&mut self, piece: &[u8]) -> Result<(), Error>;
}

/// Reads a package, checks everything there is to check and hands its entries to `sink`. The only reader of packages, so that
/// what was found good and what is written cannot differ.
fn walk(zip: &[u8], sink: &mut impl Sink) -> Result<Summary, Error> {
    within(zip, PACKAGE_FETCHED_MAX)?;
    let outline = outline(zip).map_err(|why| Error::NotZip(why.into()))?;
    // Before the reader makes something of each of them.
    if outline.entries > PACKAGE_ENTRIES_MAX as u64 {
        return Err(Error::TooManyEntries {
            limit: PACKAGE_ENTRIES_MAX,
        });
    }
    let mut archive =
        ZipArchive::new(Cursor::new(zip)).map_err(|error| Error::NotZip(error.to_string()))?;
    // The reader keeps the last of several entries with one name, and others keep the first.
    if archive.has_duplicate_names() {
        return Err(Error::Entry {
            name: first_duplicate(zip, archive.central_directory_start()),
            reason: Reason::Duplicate,
        });
    }

    let read = (archive.len() as u64, archive.central_directory_start());
    if archive.offset() != 0 || read != (outline.entries, outline.directory) {
        return Err(Error::NotZip("it can be read in two ways".into()));
    }
    let mut spans = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let Ok(data) = archive.by_index_data(index) else {
            continue;
        };
        let raw = data.name_raw();
        let span = span(zip, data.header_start(), data.compressed_size(), raw);
        let span = span.map_err(|reason| Error::Entry {
            name: String::from_utf8_lossy(raw).into_owned(),
            reason,
        })?;
        spans.push((span, index));
    }
    if let Some(index) = overlapping(&spans, outline.directory) {
        let name = archive.by_index_data(index);
        let name = name.map(|data| String::from_utf8_lossy(data.name_raw()).into_owned());
        return Err(Error::Entry {
            name: name.unwrap_or_default(),
            reason: Reason::Overlap,
        });
    }

    let mut tree = Tree::default();
    let mut budget = Budget {
        packed: zip.len() as u64,
        unpacked: 0,
    };
    let mut files = 0;
    for index in 0..archive.len() {
        let raw = archive
            .by_index_data(index)
            .map(|data| data.name_raw().to_vec())
            .unwrap_or_default();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let refused = |reason| Error::Entry {
            name: shown.clone(),
            reason,
        };
        let name = entry::name(&raw).map_err(refused)?;
        let mut reader = match archive.by_index(index) {
            Ok(reader) => reader,
            Err(ZipError::UnsupportedArchive(text)) if text == ZipError::PASSWORD_REQUIRED => {
                return Err(refused(Reason::Encrypted));
            }
            Err(error) => return Err(refused(Reason::Unreadable(error.to_string()))),
        };
        if reader.encrypted() {
            return Err(refused(Reason::Encrypted));
        }
        let method = reader.compression();
        if !matches!(
            method,
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            return Err(refused(Reason::Method(method.to_string())));
        }
        let mode = reader.unix_mode().unwrap_or(0);
        let is_directory = reader.is_dir() || mode & TYPE_MASK == TYPE_DIRECTORY;
        let kind = match mode & TYPE_MASK {
            _ if is_directory => Kind::Directory,
            TYPE_LINK => Kind::Link,
            TYPE_FILE | 0 => Kind::File,
            _ => return Err(refused(Reason::Special)),
        };
        // "./" and the like name the package itself.
        let Some(name) = name else {
            if kind == Kind::Directory {
                continue;
            }
            return Err(refused(Reason::NoName));
        };
        let new_directories = tree.add(&name, kind).map_err(refused)?;
        if tree.entries() > PACKAGE_ENTRIES_MAX {
            return Err(Error::TooManyEntries {
                limit: PACKAGE_ENTRIES_MAX,
            });
        }
        for directory in new_directories {
            sink.directory(directory)?;
        }
        match kind {
            Kind::Directory => {}
            Kind::Link => {
                let mut target = Vec::new();
                budget
                    .read(&mut (&mut reader).take(LINK_MAX), |piece| {
                        target.extend_from_slice(piece);
                        Ok(())
                    })
                    .map_err(|stop| stop.named(&shown))?;
                let target = entry::link_target(&name, &target).map_err(refused)?;
                sink.link(&name, target)?;
            }
            Kind::File => {
                files += 1;
                sink.file(&name, mode & 0o111 != 0)?;
                let (before, said) = (budget.unpacked, reader.size());
                budget
                    .read(&mut reader, |piece| sink.content(piece))
                    .map_err(|stop| stop.named(&shown))?;
                let held = budget.unpacked - before;
                if held != said {
                    return Err(refused(Reason::OtherSize { said, held }));
                }
            }
        }
    }
    if files == 0 {
        return Err(Error::Empty);
    }
    Ok(Summary {
        entries: tree.entries(),
        unpacked_size: budget.unpacked,
    })
}

/// What has come out of the package so far, against what went in. The headers' own word on sizes is not used.
struct Budget {
    packed: u64,
    unpacked: u64,
}

/// Why reading an entry's content stopped.
enum Stop {
    Refused(Reason),
    Failed(Error),
}

impl Stop {
    fn named(self, name: &str) -> Error {
        match self {
            Stop::Refused(reason) => Error::Entry {
                name: name.to_owned(),
                reason,
            },
            Stop::Failed(error) => error,
        }
    }
}

impl Budget {
    fn read(
        &mut self,
        reader: &mut impl Read,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Stop> {
        let mut buffer = [0; CHUNK];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Refused(Reason::Unreadable(error.to_string()))),
            };
            self.unpacked += read as u64;
            if self.unpacked >= PACKAGE_UNPACKED_MAX {
                return Err(Stop::Refused(Reason::TooLarge {
                    limit: PACKAGE_UNPACKED_MAX,
                }));
            }
            if self.unpacked > RATIO_FREE && self.unpacked / RATIO_MAX > self.packed {
                return Err(Stop::Refused(Reason::Bomb { ratio: RATIO_MAX }));
            }
            take(&buffer[..read]).map_err(Stop::Failed)?;
        }
    }
}

/// The name that the central directory holds twice. The reader only says that there is one.
fn first_duplicate(zip: &[u8], directory: u64) -> String {
    const HEADER: usize = 46;
    let mut seen = std::collections::HashSet::new();
    let mut at = usize::try_from(directory).unwrap_or(usize::MAX);
    while let Some(header) = zip.get(at..).and_then(|rest| rest.get(..HEADER)) {
        let length =
            |offset: usize| usize::from(u16::from_le_bytes([header[offset], header[offset + 1]]));
        let (name, extra, comment) = (length(28), length(30), length(32));
        let Some(raw) = zip.get(at + HEADER..at + HEADER + name) else {
            break;
        };
        if !seen.insert(raw) {
            return String::from_utf8_lossy(raw).into_owned();
        }
        at += HEADER + name + extra + comment;
    }
    String::new()
}

#[cfg(test)]
mod tests;
