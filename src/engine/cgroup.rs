//! Changes a container's limits by writing its control group, in a tenth of a millisecond, where the engine's own way takes
//! twenty: this is what keeps the engine out of a call that specialises a stem worker. Knows cgroup v1, v2 and hybrids of them.
//!
//! Works where Hearth runs beside the engine, as root and in the host's process namespace. Everywhere else every step fails
//! with a typed error, and the caller falls back to `Engine::limit`. A process id may have been reused by the time it is
//! looked up, so only a group that carries the container's own id in its path is ever written.
//!
//! Called when a worker is specialised; knows nothing of engines beyond how they name groups.

use std::path::{Component, Path, PathBuf};

use crate::engine::spec;
use crate::engine::{ContainerId, Limits};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("process {pid} has no {controller} control group of container {container} here")]
    NotFound {
        pid: i32,
        controller: &'static str,
        container: ContainerId,
    },
    #[error("cannot write {value:?} to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} says {found:?}, which is no number")]
    NotANumber { path: PathBuf, found: String },
    #[error("{path} was set to {wanted:?} and says {found:?}")]
    NotApplied {
        path: PathBuf,
        wanted: String,
        found: String,
    },
}

/// The control group of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    memory: Group,
    cpu: Group,
}

/// The container's group in the hierarchy of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Finds the container's group and sets the limits.
pub fn apply(pid: i32, container: &ContainerId, limits: &Limits) -> Result<(), Error> {
    Cgroup::of(pid, container)?.apply(limits)
}

/// One line of `mountinfo` that mounts a hierarchy.
#[derive(Debug)]
pub(super) struct Mount {
    /// The part of the hierarchy that is mounted.
    root: String,
    point: PathBuf,
    version: Version,
    options: String,
}

impl Cgroup {
    /// The group of the container that `pid`, as this process sees it, runs in.
    pub fn of(pid: i32, container: &ContainerId) -> Result<Self, Error> {
        Self::find(Path::new("/proc"), pid, container)
    }

    fn find(proc: &Path, pid: i32, container: &ContainerId) -> Result<Self, Error> {
        Ok(Self {
            memory: group_of(proc, pid, "memory", container)?,
            cpu: group_of(proc, pid, "cpu", container)?,
        })
    }

    /// Sets the limits and reads them back. Blocking, but the kernel answers from memory; lowering the memory below what is in
    /// use makes it reclaim first.
    pub fn apply(&self, limits: &Limits) -> Result<(), Error> {
        let memory = limits.memory.bytes();
        match self.memory.version {
            Version::One => self.memory.set_memory_v1(memory)?,
            Version::Two => {
                // Not there on a kernel without swap.
                self.memory.set_if_there("memory.swap.max", "0")?;
                self.memory.set("memory.max", &memory.to_string())?;
            }
        }
        let quota = spec::cpu_quota_micros(limits);
        let period = spec::CPU_PERIOD_MICROS;
        match self.cpu.version {
            Version::One => {
                self.cpu.set("cpu.cfs_period_us", &period.to_string())?;
                self.cpu.set("cpu.cfs_quota_us", &quota.to_string())?;
                self.cpu.set("cpu.shares", &limits.cpu_shares.to_string())
            }
            Version::Two => {
                self.cpu.set("cpu.max", &format!("{quota} {period}"))?;
                self.cpu
                    .set("cpu.weight", &weight(limits.cpu_shares).to_string())
            }
        }
    }

    /// The most that its processes took at a time since it was made. Blocking, but the kernel answers from memory.
    pub fn memory_peak(&self) -> Result<u64, Error> {
        let file = match self.memory.version {
            Version::One => "memory.max_usage_in_bytes",
            // Not there on kernels before 5.19.
            Version::Two => "memory.peak",
        };
        let path = self.memory.directory.join(file);
        let text = read(&path)?;
        let bytes = text.trim().parse();
        bytes.map_err(|_error| Error::NotANumber { path, found: text })
    }

    /// Whether systemd owns the group. It knows only what the engine told it and puts that back whenever it is reloaded, so
    /// the engine has to be told as well, if not in the way of a call.
    pub fn is_systemd_unit(&self) -> bool {
        let unit = |group: &Group| group.directory.extension().is_some_and(|e| e == "scope");
        unit(&self.memory) || unit(&self.cpu)
    }
}

impl Group {
    /// Version 1 limits memory and memory with swap apart, and refuses a moment in which the first is above the second.
    fn set_memory_v1(&self, memory: u64) -> Result<(), Error> {
        const MEMORY: &str = "memory.limit_in_bytes";
        // Not there on a kernel that does not account for swap.
        const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
        let now = read(&self.directory.join(MEMORY))?;
        let grows = now.trim().parse::<u64>().is_ok_and(|now| memory > now);
        let value = memory.to_string();
        if grows {
            self.set_if_there(WITH_SWAP, &value)?;
            self.set(MEMORY, &value)
        } else {
            self.set(MEMORY, &value)?;
            self.set_if_there(WITH_SWAP, &value)
        }
    }

    fn set_if_there(&self, file: &str, value: &str) -> Result<(), Error> {
        if self.directory.join(file).exists() {
            self.set(file, value)
        } else {
            Ok(())
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), Error> {
        let path = self.directory.join(file);
        let write = || {
            use std::io::Write;
            // Opened without O_CREAT: a group that is gone must not become a directory of files.
            let mut file = std::fs::File::options().write(true).open(&path)?;
            file.write_all(value.as_bytes())
        };
        write().map_err(|source| Error::Write {
            path: path.clone(),
            value: value.to_owned(),
            source,
        })?;
        let found = read(&path)?;
        if found.trim() == value {
            Ok(())
        } else {
            Err(Error::NotApplied {
                path,
                wanted: value.to_owned(),
                found: found.trim().to_owned(),
            })
        }
    }
}

/// Version 2's weight for version 1's shares, by the formula container runtimes use: 2..262144 becomes 1..10000.
fn weight(shares: u32) -> u64 {
    let shares = u64::from(shares.clamp(2, 262_144));
    1 + (shares - 2) * 9_999 / 262_142
}

/// The group of one controller that `pid` runs in, if it is the container's.
pub(super) fn group_of(
    proc: &Path,
    pid: i32,
    controller: &'static str,
    container: &ContainerId,
) -> Result<Group, Error> {
    group_among(proc, &mounted(proc)?, pid, controller, container)
}

/// Where the groups are. With many containers it takes long to find: each has mounts of its own.
pub(super) fn mounted(proc: &Path) -> Result<Vec<Mount>, Error> {
    Ok(mounts(&read(&proc.join("self/mountinfo"))?))
}

/// The same for who knows where the groups are.
pub(super) fn group_among(
    proc: &Path,
    mounts: &[Mount],
    pid: i32,
    controller: &'static str,
    container: &ContainerId,
) -> Result<Group, Error> {
    let memberships = read(&proc.join(pid.to_string()).join("cgroup"))?;
    group(&memberships, mounts, controller, container).ok_or_else(|| Error::NotFound {
        pid,
        controller,
        container: container.clone(),
    })
}

/// Finds the group of one controller. A hybrid has some controllers on version 1 and may have others on version 2.
fn group(
    memberships: &str,
    mounts: &[Mount],
    controller: &str,
    container: &ContainerId,
) -> Option<Group> {
    // hierarchy:controllers:path, where version 2 has no controllers
    let lines = memberships.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let (mut one, mut two) = (None, None);
    for (controllers, path) in lines {
        if controllers.is_empty() {
            two = Some(path);
        } else if controllers.split(',').any(|c| c == controller) {
            one = Some(path);
        }
    }
    let (version, path) = match (one, two) {
        (Some(path), _) => (Version::One, path),
        (None, Some(path)) => (Version::Two, path),
        (None, None) => return None,
    };
    let path = own_group(path, container)?;
    let directory = mounts
        .iter()
        .filter(|mount| {
            mount.version == version
                && (version == Version::Two || mount.options.split(',').any(|o| o == controller))
        })
        .find_map(|mount| {
            let below = Path::new(&path).strip_prefix(&mount.root).ok()?;
            Some(mount.point.join(below))
        })?;
    Some(Group { version, directory })
}

/// The path up to the part that names the container: a process may sit in a group of its own making below.
fn own_group(path: &str, container: &ContainerId) -> Option<PathBuf> {
    // An empty id would be part of every name.
    if container.0.len() < 12 {
        return None;
    }
    let mut own = PathBuf::new();
    for part in Path::new(path).components() {
        own.push(part);
        match part {
            Component::ParentDir => return None,
            Component::Normal(name) if name.to_str()?.contains(&*container.0) => return Some(own),
            _ => {}
        }
    }
    None
}

fn mounts(mountinfo: &str) -> Vec<Mount> {
    // id parent major:minor root point options [fields…] - type source super-options
    let line = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let version = match file_system.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some(Mount {
            root: unescaped(root),
            point: unescaped(point).into(),
            version,
            options: file_system.nth(1).unwrap_or_default().to_owned(),
        })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// `mountinfo` writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::Mebibytes;

    const ID: &str = "4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c2b6d9a0e4f1c";

    fn id() -> ContainerId {
        ContainerId(ID.into())
    }

    const LIMITS: Limits = Limits {
        memory: Mebibytes(512),
        cpu_cores: 0.5,
        cpu_shares: 296,
    };

    /// A machine in a directory: `/proc` as given, and groups with files in them.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(cgroup: &str, mountinfo: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let proc = root.path().join("proc");
            for directory in ["7", "self"] {
                std::fs::create_dir_all(proc.join(directory)).unwrap();
            }
            std::fs::write(proc.join("7/cgroup"), cgroup.replace("ID", ID)).unwrap();
            let here = root.path().to_str().unwrap();
            std::fs::write(proc.join("self/mountinfo"), mountinfo.replace("HERE", here)).unwrap();
            Machine(root)
        }

        fn group(&self, path: &str, files: &[(&str, &str)]) -> PathBuf {
            let directory = self.0.path().join(path.replace("ID", ID));
            std::fs::create_dir_all(&directory).unwrap();
            for (name, content) in files {
                std::fs::write(directory.join(name), content).unwrap();
            }
            directory
        }

        fn find(&self) -> Result<Cgroup, Error> {
            Cgroup::find(&self.0.path().join("proc"), 7, &id())
        }
    }

    const V2_MOUNT: &str = "25 1 0:23 / /proc rw - proc proc rw\n\
        31 25 0:26 / HERE/fs rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    // A plain file is truncated by nobody: the kernel's files have no length, these do. So values here never get shorter.
    const V2_FILES: [(&str, &str); 4] = [
        ("memory.max", "134217728"),
        ("memory.swap.max", "0"),
        ("cpu.max", "7236 100000"),
        ("cpu.weight", "3"),
    ];

    #[test]
    fn version_two_is_found_and_written() {
        for path in ["system.slice/docker-ID.scope", "docker/ID"] {
            let machine = Machine::new(&format!("0::/{path}\n"), V2_MOUNT);
            let directory = machine.group(&format!("fs/{path}"), &V2_FILES);
            let cgroup = machine.find().unwrap();
            assert_eq!(cgroup.memory.directory, directory);
            assert_eq!(cgroup.is_systemd_unit(), path.ends_with("scope"));
            cgroup.apply(&LIMITS).unwrap();
            let file = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
            assert_eq!(file("memory.max"), "536870912");
            assert_eq!(file("memory.swap.max"), "0");
            assert_eq!(file("cpu.max"), "50000 100000");
            assert_eq!(file("cpu.weight"), "12");
        }
    }

    #[test]
    fn how_much_memory_was_taken_is_read() {
        let two = Machine::new("0::/docker/ID\n", V2_MOUNT);
        let without = two.group("fs/docker/ID", &V2_FILES);
        let cgroup = two.find().unwrap();
        assert!(matches!(cgroup.memory_peak(), Err(Error::Read { .. })));
        let peak = without.join("memory.peak");
        std::fs::write(&peak, "37748736\n").unwrap();
        assert_eq!(cgroup.memory_peak().unwrap(), 36 << 20);
        std::fs::write(&peak, "max\n").unwrap();
        assert!(matches!(
            cgroup.memory_peak(),
            Err(Error::NotANumber { .. })
        ));
        let one = Machine::new(
            "5:cpu,cpuacct:/docker/ID\n4:memory:/docker/ID\n",
            "32 25 0:27 / HERE/memory rw - cgroup cgroup rw,memory\n\
             33 25 0:28 / HERE/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
        );
        one.group("cpu/docker/ID", &[]);
        one.group("memory/docker/ID", &[("memory.max_usage_in_bytes", "1\n")]);
        assert_eq!(one.find().unwrap().memory_peak().unwrap(), 1);
    }

    #[test]
    fn the_containers_group_is_limited_and_not_one_inside_it() {
        let machine = Machine::new("0::/docker/ID/init/deeper\n", V2_MOUNT);
        let directory = machine.group("fs/docker/ID", &V2_FILES);
        assert_eq!(machine.find().unwrap().cpu.directory, directory);
    }

    #[test]
    fn a_hybrid_has_each_controller_where_it_is() {
        let machine = Machine::new(
            "5:cpu,cpuacct:/docker/ID\n4:name=systemd:/docker/ID\n0::/docker/ID\n",
            "31 25 0:26 / HERE/two\\040words rw - cgroup2 cgroup2 rw\n\
             32 25 0:27 / HERE/cpuset rw - cgroup cgroup rw,cpuset\n\
             33 25 0:28 /docker HERE/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
        );
        let memory = machine.group("two words/docker/ID", &[("memory.max", "134217728")]);
        let cpu = machine.group(
            "cpu/ID",
            &[
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "-1"),
                ("cpu.shares", "74"),
            ],
        );
        let cgroup = machine.find().unwrap();
        assert_eq!(cgroup.memory.directory, memory);
        assert_eq!(cgroup.memory.version, Version::Two);
        assert_eq!(cgroup.cpu.directory, cpu);
        assert_eq!(cgroup.cpu.version, Version::One);
        // No swap file here: the kernel has none.
        cgroup.apply(&LIMITS).unwrap();
        let quota = std::fs::read_to_string(cpu.join("cpu.cfs_quota_us")).unwrap();
        assert_eq!(quota, "50000");
    }

    #[test]
    fn nothing_but_the_containers_own_group_is_ever_found() {
        let other = ID.replace('4', "5");
        for membership in [
            "0::/\n".to_owned(),
            "0::/user.slice\n".to_owned(),
            format!("0::/docker/{other}\n"),
            // A namespace of its own: the path says nothing about where that is from here.
            "0::/../../docker/ID\n".to_owned(),
            "1:name=systemd:/docker/ID\n".to_owned(),
            "nonsense\n".to_owned(),
            String::new(),
        ] {
            let machine = Machine::new(&membership, V2_MOUNT);
            assert!(
                matches!(machine.find(), Err(Error::NotFound { .. })),
                "{membership}"
            );
        }
        // Mounted, but not that part of it.
        let machine = Machine::new(
            "0::/docker/ID\n",
            "31 25 0:26 /elsewhere HERE/fs rw - cgroup2 cgroup2 rw\n",
        );
        assert!(matches!(machine.find(), Err(Error::NotFound { .. })));
        assert!(own_group("/docker/x", &ContainerId("".into())).is_none());

        let machine = Machine::new("0::/docker/ID\n", V2_MOUNT);
        let gone = Cgroup::find(&machine.0.path().join("proc"), 8, &id());
        assert!(matches!(gone, Err(Error::Read { .. })));
    }

    #[test]
    fn a_limit_that_does_not_hold_is_an_error() {
        let machine = Machine::new("0::/docker/ID\n", V2_MOUNT);
        let directory = machine.group("fs/docker/ID", &V2_FILES);
        let cgroup = machine.find().unwrap();
        // Reads back as what was written and the rest of what was there: not what was asked for.
        std::fs::write(directory.join("memory.max"), "99999999999999").unwrap();
        let error = cgroup.apply(&LIMITS).unwrap_err();
        assert!(matches!(error, Error::NotApplied { .. }), "{error}");

        std::fs::remove_dir_all(&directory).unwrap();
        let error = cgroup.apply(&LIMITS).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert!(!directory.exists());
    }

    #[test]
    fn shares_become_weights_end_to_end() {
        assert_eq!((weight(0), weight(2)), (1, 1));
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(u32::MAX), 10_000);
    }
}
