//! A Docker engine of a test's own, to be killed and started again: nobody else's containers are in it. It has the image of some
//! runtimes, taken from the engine everybody uses.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hearth::engine::Engine;
use hearth::runtime::image;
use hearth::runtime::manifest::Manifest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::containers;
use crate::engine::everybodys;
use crate::wait::{PATIENCE, blocking};

#[derive(Debug)]
pub(crate) struct Dockerd {
    directory: TempDir,
    child: Option<Child>,
}

impl Dockerd {
    /// Starts one that has the images of these runtimes.
    pub(crate) async fn start(runtimes: &[Manifest]) -> Self {
        // Beside the usual place: what is under a temporary directory may be in memory, and no place for layers.
        let directory = tempfile::Builder::new()
            .prefix("hearth-engine-test-")
            .tempdir_in("/var/lib");
        let mut engine = Self {
            directory: directory.expect("tests that start an engine run as root"),
            child: None,
        };
        engine.again();
        let (shared, mut tags) = (everybodys(engine.directory.path()), Vec::new());
        for runtime in runtimes {
            let image = image::of(runtime).unwrap();
            shared.ensure_image(&image).await.expect("the image");
            tags.push(image.tag);
        }
        let load = format!(
            "docker save {} | docker --host unix://{} load",
            tags.join(" "),
            engine.socket().display()
        );
        let loaded = Command::new("timeout")
            .args(["120", "bash", "-o", "pipefail", "-c", &load])
            .output();
        let loaded = loaded.unwrap();
        assert!(loaded.status.success(), "{loaded:?}");
        engine
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Starts it on what it has, and waits until it answers.
    pub(crate) fn again(&mut self) {
        let root = self.directory.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(root.join("log"));
        let log = log.unwrap();
        // One that was killed leaves it.
        drop(std::fs::remove_file(root.join("pid")));
        // In a network of its own: without a bridge it removes the one there is, which is another engine's.
        let child = Command::new("unshare")
            .args(["--net", "dockerd"])
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
            .args(["--shutdown-timeout=2", "--log-level=warn"])
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("exec"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("unshare and dockerd are installed"));
        let answers = blocking(PATIENCE, || {
            containers::docker_at(Some(&self.socket()), &["info"]).ok()
        });
        let log = || std::fs::read_to_string(root.join("log")).unwrap_or_default();
        assert!(answers.is_some(), "no engine:\n{}", log());
    }

    /// Ends it, in one way or the other, and waits until it has.
    pub(crate) fn end(&mut self, how: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, how).expect("it runs");
        let ended = blocking(Duration::from_secs(60), || child.try_wait().unwrap());
        if ended.is_none() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // One that was killed before may have left containers running: it ends them when it starts.
        if self.child.is_none() && !std::thread::panicking() {
            self.again();
        }
        self.end(Signal::SIGTERM);
        // What held the containers of one that was killed may outlive them; it names this directory and no other's.
        let root = self.directory.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && String::from_utf8_lossy(&command).contains(&root)
            {
                // One that has just ended is none.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        // It binds its directories to themselves and leaves them so.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut below: Vec<_> = points.filter(|point| point.starts_with(&root)).collect();
        below.sort_unstable();
        for point in below.into_iter().rev() {
            drop(Command::new("umount").args(["--lazy", point]).status());
        }
    }
}
