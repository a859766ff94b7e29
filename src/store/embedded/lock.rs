//! The state directory belongs to one process: a locked file says to which. Taken by the embedded store when it is opened, and
//! for a process whose store is elsewhere.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Fault;

/// Takes the state directory for this process. The database has a lock of its own, but that one is given up when the database
/// is opened again after a fault.
pub(super) fn lock(path: &Path) -> Result<File, Fault> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Fault::file("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let by = known.then(|| format!(", pid {}", pid.trim()));
            return Err(Fault::InUse {
                path: path.parent().unwrap_or(path).into(),
                by: by.unwrap_or_default(),
            });
        }
        Err(TryLockError::Error(e)) => return Err(Fault::file("lock", path)(e)),
    }
    // Only so that the message above can name it; a full disk is no reason not to start.
    let noted = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::debug!(%error, "cannot note the pid in the lock file");
    }
    Ok(file)
}
