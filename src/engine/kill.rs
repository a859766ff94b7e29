//! Ends a container's processes without the engine, which may be slow, wedged or gone: what runs for nobody must not run on
//! because of that. The engine only clears away afterwards.
//!
//! The container's first process is killed; the kernel takes everything else in its process namespace with it, and reports
//! that one's end only after theirs. A process id may have been reused since it was learnt: so a handle of the process is
//! taken first, and then its control group is read, which must carry the container's id. Whoever has the id by then, the signal
//! goes to the handle's process or to nobody.
//!
//! Works where `cgroup` does: beside the engine, in the host's process namespace. Called by the pool for workers that are cancelled
//! or cannot be trusted; knows nothing of what ran in them.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::engine::ContainerId;
use crate::engine::cgroup::{self, Group, Mount, Version};
use crate::task;

/// A killed process ends within this unless the kernel itself is stuck over it; then the engine may try.
const GONE_WITHIN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("process {0} cannot be held on to")]
    Handle(i32, #[source] io::Error),
    #[error("process {pid} is not of the container")]
    Foreign {
        pid: i32,
        #[source]
        source: cgroup::Error,
    },
    #[error("process {0} cannot be killed")]
    Signal(i32, #[source] io::Error),
    #[error("process {0} was killed and has not ended since")]
    Stuck(i32),
}

/// Why a process does nothing although nobody told it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standstill {
    /// By a signal.
    Stopped,
    /// By its control group: the container is paused.
    Frozen,
}

impl Standstill {
    pub const fn as_str(self) -> &'static str {
        match self {
            Standstill::Stopped => "stopped",
            Standstill::Frozen => "frozen",
        }
    }
}

/// The first process of the container that `pid` runs in, in this process's numbering. Asked once, before the container runs
/// anything that is not trusted.
pub fn first_process(pid: i32, container: &ContainerId) -> Option<i32> {
    let proc = Path::new("/proc");
    let group = cgroup::group_of(proc, pid, "memory", container).ok()?;
    if is_first(proc, pid) {
        return Some(pid);
    }
    let members = std::fs::read_to_string(group.directory.join("cgroup.procs")).ok()?;
    let mut members = members.lines().filter_map(|line| line.parse().ok());
    members.find(|pid| is_first(proc, *pid))
}

/// Kills everything in the container whose first process is `first`, and waits until it is gone.
pub async fn kill(first: i32, container: &ContainerId) -> Result<(), Error> {
    let Some(pid) = Some(first).filter(|id| *id > 0).and_then(Pid::from_raw) else {
        return Err(Error::Handle(first, io::ErrorKind::InvalidInput.into()));
    };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        // It has ended, and everything in its namespace before it.
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(Error::Handle(first, error.into())),
    };
    let freezer = cgroup::group_of(Path::new("/proc"), first, FREEZER, container)
        .map_err(|source| Error::Foreign { pid: first, source })?;
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(Error::Signal(first, error.into())),
    }
    if let Err(error) = let_die(&freezer) {
        tracing::debug!(%container, %error, "a killed container's group cannot be written");
    }
    // A handle becomes readable when its process has ended.
    let ended = task::blocking("await a killed process", move || {
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&GONE_WITHIN)))
    });
    match ended.await {
        Ok(0) => Err(Error::Stuck(first)),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Handle(first, error.into())),
    }
}

/// Waits until a container's first process has ended by itself, but no longer than `within`. Whoever has its id by now, nothing is done
/// to it.
pub async fn ended(first: i32, within: Duration) {
    let pid = Some(first).filter(|id| *id > 0).and_then(Pid::from_raw);
    let handle = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let Some(Ok(handle)) = handle else { return };
    let within = Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or_default(),
        tv_nsec: i64::from(within.subsec_nanos()),
    };
    let ended = task::blocking("await a process that ends", move || {
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&within)))
    });
    if let Err(error) = ended.await {
        tracing::debug!(first, %error, "a process cannot be waited for");
    }
}

/// Looks at containers that somebody may have made to stand still.
#[derive(Debug)]
pub struct Lookout(Vec<Mount>);

impl Lookout {
    /// For as many as are looked at in one go.
    pub fn new() -> Option<Self> {
        cgroup::mounted(Path::new("/proc")).ok().map(Self)
    }

    /// Whether the container was made to stand still, and how.
    pub fn standstill(&self, first: i32, container: &ContainerId) -> Option<Standstill> {
        let (Self(mounts), proc) = (self, Path::new("/proc"));
        let freezer = cgroup::group_among(proc, mounts, first, FREEZER, container).ok()?;
        if is_frozen(&freezer) {
            return Some(Standstill::Frozen);
        }
        let stat = std::fs::read_to_string(proc.join(first.to_string()).join("stat")).ok()?;
        is_stopped(&stat).then_some(Standstill::Stopped)
    }
}

const FREEZER: &str = "freezer";

/// What is frozen on version 1 ends only once it is thawed; it runs nothing of its own in between. Version 2 lets it end, and
/// can kill a whole group, which also takes what somebody moved into it from outside the namespace.
fn let_die(freezer: &Group) -> io::Result<()> {
    let (file, value) = match freezer.version {
        Version::One if is_frozen(freezer) => ("freezer.state", "THAWED"),
        Version::One => return Ok(()),
        Version::Two => ("cgroup.kill", "1"),
    };
    // Never created: a group that is gone must not become a directory of files.
    let opened = std::fs::File::options()
        .write(true)
        .open(freezer.directory.join(file));
    match opened {
        Ok(mut file) => io::Write::write_all(&mut file, value.as_bytes()),
        // The group has gone with its processes, or the kernel is too old to kill groups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_frozen(freezer: &Group) -> bool {
    let read = |file| std::fs::read_to_string(freezer.directory.join(file)).unwrap_or_default();
    match freezer.version {
        Version::One => matches!(read("freezer.state").trim(), "FROZEN" | "FREEZING"),
        Version::Two => read("cgroup.events").lines().any(|line| line == "frozen 1"),
    }
}

/// Whether it is the first of a process namespace below the one `proc` shows.
fn is_first(proc: &Path, pid: i32) -> bool {
    let status = std::fs::read_to_string(proc.join(pid.to_string()).join("status"));
    let status = status.unwrap_or_default();
    // Its id in each namespace, from the outermost to its own.
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| {
        let mut ids = ids.split_whitespace().rev();
        ids.next() == Some("1") && ids.next().is_some()
    })
}

/// The third field: the second is the program's name, in which anything may stand.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c";

    #[test]
    fn the_first_process_is_one_of_a_namespace_below() {
        let proc = tempfile::tempdir().unwrap();
        let cases = [
            ("Name:\tsh\nNSpid:\t4242\t1\n", true),
            ("NSpid:\t4242\t17\t1\n", true),
            ("NSpid:\t4242\t17\n", false),
            // The machine's own first process is no container's.
            ("NSpid:\t1\n", false),
            ("Name:\tNSpid:\n", false),
        ];
        for (status, first) in cases {
            let directory = proc.path().join("7");
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("status"), status).unwrap();
            assert_eq!(is_first(proc.path(), 7), first, "{status:?}");
        }
        assert!(!is_first(proc.path(), 8));
    }

    #[test]
    fn a_name_does_not_make_a_process_stopped() {
        assert!(is_stopped("7 (runtime) T 1 7 7 0"));
        assert!(is_stopped("7 (a) R (b) t 1 7 7 0"));
        assert!(!is_stopped("7 (a) T (b) S 1 7 7 0"));
        assert!(!is_stopped(""));
    }

    #[test]
    fn groups_are_thawed_or_killed_and_never_made() {
        let root = tempfile::tempdir().unwrap();
        let group = |version, name: &str| Group {
            version,
            directory: root.path().join(name),
        };
        let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
        for directory in ["one", "running", "two"] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("one/freezer.state"), "FROZEN\n").unwrap();
        std::fs::write(root.path().join("running/freezer.state"), "THAWED\n").unwrap();
        std::fs::write(root.path().join("two/cgroup.kill"), "").unwrap();
        std::fs::write(
            root.path().join("two/cgroup.events"),
            "populated 1\nfrozen 1\n",
        )
        .unwrap();

        let one = group(Version::One, "one");
        assert!(is_frozen(&one) && is_frozen(&group(Version::Two, "two")));
        let_die(&one).unwrap();
        assert!(read("one/freezer.state").starts_with("THAWED"));
        let running = group(Version::One, "running");
        assert!(!is_frozen(&running));
        let_die(&running).unwrap();
        let_die(&group(Version::Two, "two")).unwrap();
        assert_eq!(read("two/cgroup.kill"), "1");
        for version in [Version::One, Version::Two] {
            let gone = group(version, "gone");
            assert!(!is_frozen(&gone));
            let_die(&gone).unwrap();
        }
        assert!(!root.path().join("gone").exists());
    }

    #[tokio::test]
    async fn nobody_is_killed_for_having_an_id() {
        // This very process: it is in no container of that name, whatever its id.
        let own = i32::try_from(std::process::id()).unwrap();
        let container = ContainerId(ID.into());
        assert_eq!(first_process(own, &container), None);
        let refused = kill(own, &container).await;
        assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
        assert!(kill(0, &container).await.is_err());
        assert!(kill(-1, &container).await.is_err());
        // Beyond the largest id there is.
        assert!(kill(1 << 30, &container).await.is_ok());
        let lookout = Lookout::new().expect("mounts");
        assert_eq!(lookout.standstill(own, &container), None);
    }

    #[tokio::test]
    async fn an_end_is_waited_for_and_not_made() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        ended(pid, Duration::from_millis(20)).await;
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        // Far longer than a test may take.
        ended(pid, Duration::from_secs(3600)).await;
        assert!(child.wait().is_ok());
        // There is no such process.
        ended(0, Duration::from_secs(3600)).await;
        ended(1 << 30, Duration::from_secs(3600)).await;
    }
}
