//! The runtimes' images, built by the docker client as anybody would build them, and the network holder their containers join.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hearth::runtime::manifest::Manifest;

const BUILD_SECONDS: &str = "900";

pub(crate) fn tag(manifest: &Manifest) -> String {
    format!("hearth-contract/{}", manifest.id)
}

/// Fails where no engine answers: a contract that was not checked must not look like one that was kept.
pub(crate) fn require_engine() -> Result<()> {
    let answer = Command::new("timeout")
        .args(["30", "docker", "version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output()
        .context("starting the docker client")?;
    ensure!(
        answer.status.success(),
        "no Docker engine answers: {}",
        String::from_utf8_lossy(&answer.stderr)
    );
    Ok(())
}

pub(crate) fn build(manifest: &Manifest) -> Result<()> {
    let built = Command::new("timeout")
        .args([
            BUILD_SECONDS,
            "docker",
            "build",
            "--quiet",
            "--tag",
            &tag(manifest),
        ])
        .arg("--build-arg")
        .arg(format!("BASE={}", manifest.base_image))
        .arg(&manifest.folder)
        .stdin(Stdio::null())
        .output()
        .context("starting the docker client")?;
    ensure!(
        built.status.success(),
        "the image of {} cannot be built: {}",
        manifest.id,
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(())
}

/// Owns the network (none) that the containers of one runtime join. A container with an endpoint of its own takes more than twice as long
/// to start, and old engines deadlock when such containers come and go in parallel (moby 46661).
pub(crate) struct Holder {
    pub(crate) name: String,
}

/// Far more than the cases take. A holder whose runner was killed ends by itself.
const HOLDER_SECONDS: &str = "3600";

impl Holder {
    pub(crate) fn start(manifest: &Manifest) -> Result<Self> {
        // Docker's names have a dot, too.
        let name = format!("hearth-contract-{}-{}", std::process::id(), manifest.id);
        let started = Command::new("timeout")
            .args(["120", "docker", "run", "--detach", "--rm", "--init"])
            .args(["--name", &name, "--label", "hearth.contract=holder"])
            .args(["--network", "none", "--read-only", "--cap-drop", "ALL"])
            .args(["--entrypoint", "sleep"])
            .args([&tag(manifest), HOLDER_SECONDS])
            .stdin(Stdio::null())
            .output()
            .context("starting the docker client")?;
        ensure!(
            started.status.success(),
            "no network holder for {}: {}",
            manifest.id,
            String::from_utf8_lossy(&started.stderr)
        );
        Ok(Self { name })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        remove_container(&self.name);
    }
}

/// Whatever state it is in.
pub(crate) fn remove_container(name: &str) {
    let removal = Command::new("timeout")
        .args(["60", "docker", "rm", "--force", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if removal.is_err() {
        eprintln!("could not remove the container {name}");
    }
}
