//! Packages on disk: unpacked once per content into a directory of its own, then hard-linked into each worker's task
//! directory, or for layers, one over the other, into its directory for those. What is here never changes after it has its name, so any number of workers may share it. Blocking.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::runtime::package::{Error, Sink, walk};

/// The ending of a directory that is not complete yet.
const PARTIAL: &str = ".partial";

/// Unpacks a package to `target`, whose name is its content's hash: if it is there, it is complete. Any number of callers may
/// do this at once; one of them wins and all succeed.
pub fn unpack(zip: &[u8], target: &Path) -> Result<(), Error> {
    if target.is_dir() {
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed("create", parent))?;
    let partial = Partial {
        path: parent.join(format!("{}{PARTIAL}", Uuid::new_v4().simple())),
    };
    make_directory(&partial.path)?;
    let mut disk = Disk {
        root: &partial.path,
        current: None,
    };
    walk(zip, &mut disk)?;
    match std::fs::rename(&partial.path, target) {
        Ok(()) => Ok(()),
        // Somebody else was first; ours is removed by `Partial`.
        Err(_) if target.is_dir() => Ok(()),
        Err(source) => Err(failed("rename", target)(source)),
    }
}

/// Removes what unpackings left that were cut short. Only for the start, when none is under way.
pub fn clear_partial(root: &Path) -> Result<usize, Error> {
    let list = match std::fs::read_dir(root) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("list", root)(error)),
    };
    let mut removed = 0;
    for entry in list {
        let entry = entry.map_err(failed("list", root))?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes the code at `code` appear in `task`, an empty directory: directories are made, everything else is a hard link. On the
/// way of a call that waits for a stem worker, so it opens no file and reads no content unless it must copy.
pub fn link_into(code: &Path, task: &Path) -> Result<(), Error> {
    let mut directories = vec![(code.to_owned(), task.to_owned())];
    while let Some((from, to)) = directories.pop() {
        for entry in std::fs::read_dir(&from).map_err(failed("list", &from))? {
            let entry = entry.map_err(failed("list", &from))?;
            let source = entry.path();
            let target = to.join(entry.file_name());
            let kind = entry.file_type().map_err(failed("read", &source))?;
            if kind.is_dir() {
                make_directory(&target)?;
                directories.push((source, target));
            } else {
                link_or_copy(&source, &target, kind.is_symlink())?;
            }
        }
    }
    Ok(())
}

/// Makes a layer appear in `opt` over what is there, the same way: of two directories with one name the contents come together, of
/// anything else the later one stays. A link in `opt` that an earlier layer brought is replaced and never followed, wherever it leads.
pub fn lay_over(layer: &Path, opt: &Path) -> Result<(), Error> {
    let mut directories = vec![(layer.to_owned(), opt.to_owned())];
    while let Some((from, to)) = directories.pop() {
        for entry in std::fs::read_dir(&from).map_err(failed("list", &from))? {
            let entry = entry.map_err(failed("list", &from))?;
            let source = entry.path();
            let target = to.join(entry.file_name());
            let kind = entry.file_type().map_err(failed("read", &source))?;
            if kind.is_dir() {
                let there = target.symlink_metadata().ok();
                if !there.as_ref().is_some_and(|there| there.is_dir()) {
                    if there.is_some() {
                        clear(&target)?;
                    }
                    make_directory(&target)?;
                }
                directories.push((source, target));
                continue;
            }
            match link_or_copy(&source, &target, kind.is_symlink()) {
                Err(Error::Io { source: why, .. }) if why.kind() == ErrorKind::AlreadyExists => {
                    clear(&target)?;
                    link_or_copy(&source, &target, kind.is_symlink())?;
                }
                linked => linked?,
            }
        }
    }
    Ok(())
}

/// Removes what an earlier layer brought.
fn clear(target: &Path) -> Result<(), Error> {
    let kind = target.symlink_metadata().map_err(failed("read", target))?;
    let removed = match kind.is_dir() {
        true => std::fs::remove_dir_all(target),
        false => std::fs::remove_file(target),
    };
    removed.map_err(failed("remove", target))
}

fn link_or_copy(source: &Path, target: &Path, is_link: bool) -> Result<(), Error> {
    use nix::errno::Errno;
    let error = match std::fs::hard_link(source, target) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // Another file system, more links than this one allows, or none at all.
    let copy = matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EXDEV | Errno::EMLINK | Errno::EPERM | Errno::EOPNOTSUPP)
    );
    if !copy {
        return Err(failed("link", target)(error));
    }
    if is_link {
        let to = std::fs::read_link(source).map_err(failed("read", source))?;
        std::os::unix::fs::symlink(to, target).map_err(failed("link", target))
    } else {
        std::fs::copy(source, target)
            .map(|_bytes| ())
            .map_err(failed("copy", target))
    }
}

/// A directory that is removed unless it was renamed in time.
struct Partial {
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove partial code");
            }
            _ => {}
        }
    }
}

struct Disk<'a> {
    root: &'a Path,
    current: Option<(File, PathBuf)>,
}

impl Sink for Disk<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        make_directory(&self.root.join(name))
    }

    fn link(&mut self, name: &str, target: &str) -> Result<(), Error> {
        let path = self.root.join(name);
        std::os::unix::fs::symlink(target, &path).map_err(failed("link", &path))
    }

    fn file(&mut self, name: &str, executable: bool) -> Result<(), Error> {
        let path = self.root.join(name);
        let mode = if executable { 0o755 } else { 0o644 };
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(failed("create", &path))?;
        // Whatever the umask is: it is read by another user.
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(failed("set permissions of", &path))?;
        self.current = Some((file, path));
        Ok(())
    }

    fn content(&mut self, piece: &[u8]) -> Result<(), Error> {
        let (file, path) = self
            .current
            .as_mut()
            .expect("content comes after the file it belongs to");
        file.write_all(piece).map_err(failed("write", path))
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .map_err(failed("create", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
        .map_err(failed("set permissions of", path))
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
