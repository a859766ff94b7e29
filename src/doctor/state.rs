//! The state directory: whether it can be written, whether its filesystem has what workers and code need, and how much room
//! there is.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;

use crate::doctor::Finding;

const MIB: u64 = 1024 * 1024;
/// Below the first nothing works for long, below the second it is time to look.
const ROOM: (u64, u64) = (256 * MIB, 2_048 * MIB);
const FILES: u64 = 20_000;

pub(super) fn writable(state_dir: &Path, failure: Option<&std::io::Error>) -> Finding {
    let about = "state directory";
    let shown = state_dir.display();
    match failure {
        None if state_dir.exists() => Finding::good(about, format!("{shown} can be written")),
        None => Finding::good(about, format!("{shown} is not there yet and can be made")),
        Some(error) => Finding::bad(
            about,
            format!("{shown} cannot be written by this user: {error}"),
            "run as the user the server runs as (sudo), or choose another with --state-dir",
        ),
    }
}

/// `place` is a directory where workers' directories will be.
pub(super) fn examine(place: &Path) -> Vec<Finding> {
    vec![filesystem(place), room("disk space, state", place, ROOM)]
}

fn filesystem(place: &Path) -> Finding {
    let about = "filesystem";
    let file = place.join("file");
    let tries: [(&str, &dyn Fn() -> std::io::Result<()>); 4] = [
        ("files", &|| std::fs::write(&file, "x")),
        ("hard links", &|| {
            std::fs::hard_link(&file, place.join("link"))
        }),
        ("named pipes", &|| {
            Ok(nix::unistd::mkfifo(&place.join("pipe"), Mode::S_IRWXU)?)
        }),
        // Through the open directory, as workers' are: a socket's address is too short for a deep path.
        ("sockets", &|| {
            let open = std::fs::File::open(place)?;
            let short = format!("/proc/self/fd/{}/s", open.as_raw_fd());
            UnixListener::bind(short).map(drop)
        }),
    ];
    for (what, attempt) in tries {
        if let Err(error) = attempt() {
            return Finding::bad(
                about,
                format!("the state directory's filesystem has no {what}: {error}"),
                "put the state directory on a local filesystem (ext4, xfs, btrfs, tmpfs) with --state-dir",
            );
        }
    }
    Finding::good(about, "has hard links, named pipes and sockets")
}

/// How much room the filesystem of `path` has; `enough` is where it is bad and where it is a warning.
pub(super) fn room(about: &str, path: &Path, enough: (u64, u64)) -> Finding {
    match statvfs(path) {
        Ok(found) => {
            let bytes = found.blocks_available() * found.fragment_size();
            // Some filesystems make files as they need them and count none.
            let files = (found.files() > 0).then(|| found.files_available());
            judge_room(about, path.into(), bytes, files, enough)
        }
        Err(error) => Finding::skipped(
            about,
            format!("{} cannot be looked at: {error}", path.display()),
        ),
    }
}

fn judge_room(
    about: &str,
    path: PathBuf,
    bytes: u64,
    files: Option<u64>,
    (bad, warning): (u64, u64),
) -> Finding {
    // The scratch directory is nobody's business.
    let shown = path
        .ancestors()
        .find(|p| !p.to_string_lossy().contains(".hearth-doctor-"));
    let shown = shown.unwrap_or(&path).display().to_string();
    let found = format!("{} MiB free at {shown}", bytes / MIB);
    let mend = format!("make room: df -h {shown}");
    if bytes < bad {
        return Finding::bad(about, found, mend);
    }
    if bytes < warning {
        return Finding::warning(about, found, mend);
    }
    if let Some(files) = files.filter(|files| *files < FILES) {
        let found = format!("only {files} more files can be made at {shown}");
        return Finding::warning(about, found, format!("remove files: df -i {shown}"));
    }
    Finding::good(about, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_local_filesystem_has_all_that_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let finding = filesystem(dir.path());
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
        // Everything is there already now, and a second look says what cannot be made.
        assert_eq!(filesystem(dir.path()).verdict, Verdict::Bad);
        assert_eq!(filesystem(Path::new("/proc")).verdict, Verdict::Bad);
    }

    #[test]
    fn room_is_judged_by_bytes_and_by_files() {
        let judge =
            |mib: u64, files| judge_room("disk", "/x".into(), mib * MIB, files, ROOM).verdict;
        assert_eq!(judge(100, None), Verdict::Bad);
        assert_eq!(judge(1_000, None), Verdict::Warning);
        assert_eq!(judge(10_000, None), Verdict::Good);
        assert_eq!(judge(10_000, Some(10)), Verdict::Warning);
        assert_eq!(
            room("disk", Path::new("/no/such/place"), ROOM).verdict,
            Verdict::Skipped
        );
    }

    #[test]
    fn a_directory_nobody_may_write_is_bad() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let finding = writable(Path::new("/state"), Some(&refused));
        assert_eq!(finding.verdict, Verdict::Bad);
        assert!(finding.mend.expect("a way").contains("--state-dir"));
    }
}
