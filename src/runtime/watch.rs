//! Notices changes below the places functions' code is read from. One inotify instance for all of them; the kernel knows no trees, so every
//! directory in one is watched by itself, and new ones are followed as they appear. Called by whoever keeps functions in step with
//! their directories; knows nothing of packing. `add` and `take` walk directories: blocking.
//!
//! inotify itself and not a crate over it: those ask to be told of every file that is opened, and packing a directory opens all of its files.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::domain::id::FunctionId;
use crate::domain::limits::PACKAGE_ENTRIES_MAX;
use crate::runtime::package::LEFT_OUT;

/// Reads of the kernel's queue in a row. Whoever writes without a pause is not followed for ever.
const READS_MAX: usize = 256;

/// Everything after which a package may have other bytes, and nothing that comes of reading it.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);
const DIRECTORY: AddWatchFlags = AddWatchFlags::IN_ONLYDIR.union(AddWatchFlags::IN_DONT_FOLLOW);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's limit, or our own.
    #[error("there are more directories than can be watched")]
    Limit,
    #[error("{0:?} cannot be watched")]
    Place(PathBuf, #[source] std::io::Error),
}

/// What is at a path now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Without links in it.
    pub real: PathBuf,
    pub is_directory: bool,
    /// Which file it is: another one in its place has another.
    identity: (u64, u64),
}

impl Place {
    /// `None` if nothing that can be read is there.
    pub fn at(path: &Path) -> Option<Self> {
        let real = path.canonicalize().ok()?;
        let found = std::fs::metadata(&real).ok()?;
        Some(Self {
            is_directory: found.is_dir(),
            // A file is replaced by every editor that saves safely; what counts is the directory around it, which is watched.
            identity: match found.is_dir() {
                true => (found.dev(), found.ino()),
                false => {
                    let around = std::fs::metadata(real.parent()?).ok()?;
                    (around.dev(), around.ino())
                }
            },
            real,
        })
    }
}

#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    /// The same, to wait for.
    readable: AsyncFd<OwnedFd>,
    watches: HashMap<WatchDescriptor, Vec<Seat>>,
    /// The most directories watched at a time.
    most: usize,
    /// There is more in the kernel's queue.
    more: bool,
}

/// A directory as one function sees it. Several may look at the same one.
#[derive(Debug)]
struct Seat {
    id: FunctionId,
    directory: PathBuf,
    /// The one file in it that counts.
    only: Option<OsString>,
    /// It is what the function's path leads to.
    is_root: bool,
}

/// What has changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub ids: HashSet<FunctionId>,
    /// Those of which not everything is watched any more.
    pub lost: HashSet<FunctionId>,
}

impl Watcher {
    pub fn open(most: usize) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe; a descriptor that is owned stays open"
        )]
        let readable = AsyncFd::new(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self {
            inotify,
            readable,
            watches: HashMap::new(),
            most,
            more: false,
        })
    }

    /// Watches for a function, whole or not at all.
    pub fn add(&mut self, id: &FunctionId, place: &Place) -> Result<(), Error> {
        let added = match (place.is_directory, place.real.parent()) {
            (false, Some(parent)) => {
                let only = place.real.file_name().map(OsStr::to_owned);
                self.watch(id, parent, only, true)
            }
            _ => self.follow(id, place.real.clone(), true),
        };
        if added.is_err() {
            self.remove(id);
        }
        added
    }

    pub fn remove(&mut self, id: &FunctionId) {
        let inotify = &self.inotify;
        self.watches.retain(|watch, seats| {
            seats.retain(|seat| seat.id != *id);
            if seats.is_empty()
                && let Err(error) = inotify.rm_watch(*watch)
            {
                // The directory went first, and the kernel's word of it is still on its way.
                tracing::debug!(%error, "watch was gone already");
            }
            !seats.is_empty()
        });
    }

    /// How many directories are watched.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Waits until there is something to `take`.
    pub async fn ready(&self) {
        if self.more {
            return;
        }
        match self.readable.readable().await {
            // What comes after this makes it ready again, and everything before it is taken.
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                tracing::error!(%error, "changes of code cannot be waited for");
                std::future::pending().await
            }
        }
    }

    /// Everything that has changed.
    pub fn take(&mut self) -> Changed {
        let mut changed = Changed::default();
        self.more = true;
        for _ in 0..READS_MAX {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.note(event, &mut changed);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    if error != Errno::EAGAIN {
                        tracing::error!(%error, "changes of code cannot be read");
                    }
                    self.more = false;
                    break;
                }
            }
        }
        changed
    }

    fn note(&mut self, event: InotifyEvent, changed: &mut Changed) {
        let is = |mask| event.mask.intersects(mask);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            let all = self.watches.values().flatten();
            changed.lost.extend(all.map(|seat| seat.id.clone()));
            changed.ids.extend(changed.lost.iter().cloned());
            return;
        }
        if is(AddWatchFlags::IN_IGNORED) {
            // Its directory is gone. One that is made in its place may be given the same inode and so look the same.
            for seat in self.watches.remove(&event.wd).into_iter().flatten() {
                if seat.is_root {
                    changed.lost.insert(seat.id.clone());
                }
                changed.ids.insert(seat.id);
            }
            return;
        }
        let Some(seats) = self.watches.get(&event.wd) else {
            return;
        };
        if event.name.as_deref().is_some_and(is_noise) {
            return;
        }
        let mut new = Vec::new();
        for seat in seats {
            if seat.only.is_some() && event.name.is_some() && seat.only != event.name {
                continue;
            }
            changed.ids.insert(seat.id.clone());
            if let Some(name) = &event.name
                && seat.only.is_none()
                && is(AddWatchFlags::IN_ISDIR)
                && is(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)
            {
                new.push((seat.id.clone(), seat.directory.join(name)));
            }
        }
        for (id, directory) in new {
            match self.follow(&id, directory, false) {
                // It is gone again.
                Ok(()) | Err(Error::Place(..)) => {}
                Err(Error::Limit) => {
                    changed.lost.insert(id);
                }
            }
        }
    }

    /// Watches a directory and all in it.
    fn follow(&mut self, id: &FunctionId, root: PathBuf, is_root: bool) -> Result<(), Error> {
        self.watch(id, &root, None, is_root)?;
        let mut listed = vec![root];
        while let Some(directory) = listed.pop() {
            // Watched first and listed then: what is made in between is seen twice and not missed.
            for found in directories_in(&directory) {
                match self.watch(id, &found, None, false) {
                    Ok(()) => listed.push(found),
                    Err(Error::Place(..)) => {}
                    Err(limit) => return Err(limit),
                }
            }
        }
        Ok(())
    }

    fn watch(
        &mut self,
        id: &FunctionId,
        directory: &Path,
        only: Option<OsString>,
        is_root: bool,
    ) -> Result<(), Error> {
        let watch = match self.inotify.add_watch(directory, CHANGES | DIRECTORY) {
            Ok(watch) => watch,
            Err(Errno::ENOSPC) => return Err(Error::Limit),
            Err(error) => return Err(Error::Place(directory.to_owned(), error.into())),
        };
        if self.watches.len() >= self.most && !self.watches.contains_key(&watch) {
            // It cannot have been there before; if it is gone meanwhile, so much the better.
            self.inotify.rm_watch(watch).ok();
            return Err(Error::Limit);
        }
        let seats = self.watches.entry(watch).or_default();
        match seats.iter_mut().find(|seat| seat.id == *id) {
            // The same directory at another place: it was moved.
            Some(seat) => seat.directory = directory.to_owned(),
            None => seats.push(Seat {
                id: id.clone(),
                directory: directory.to_owned(),
                only,
                is_root,
            }),
        }
        Ok(())
    }
}

/// What editors write beside a file while it is open, and tools for themselves.
fn is_noise(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    LEFT_OUT.contains(&name)
        || name.ends_with('~')
        || name.starts_with(".#")
        || [".swp", ".swo", ".swx"].iter().any(|end| name.ends_with(end))
        // An editor's way to find out whether it may write here.
        || name == "4913"
}

fn directories_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let is_watched = |entry: &std::fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_noise(&entry.file_name())
    };
    let entries = entries.filter_map(Result::ok).filter(is_watched);
    entries.map(|entry| entry.path()).collect()
}

/// Two of these differ if something was changed in between, as far as names, sizes and times tell. For where there are no watches.
pub fn fingerprint(place: &Place) -> u64 {
    let mut sum: u64 = 0;
    let mut listed = vec![place.real.clone()];
    let mut entries = 0;
    while let Some(path) = listed.pop() {
        entries += 1;
        // What has more entries than a package is refused anyway.
        if entries > PACKAGE_ENTRIES_MAX {
            break;
        }
        let Ok(found) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        (found.ino(), found.len(), found.mode()).hash(&mut hash);
        (
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        )
            .hash(&mut hash);
        // In whatever order they are listed.
        sum = sum.wrapping_add(hash.finish());
        if found.is_dir()
            && let Ok(inside) = std::fs::read_dir(&path)
        {
            let inside = inside.filter_map(Result::ok);
            let counted = inside.filter(|entry| !is_noise(&entry.file_name()));
            listed.extend(counted.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests;
