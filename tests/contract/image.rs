//! The runtimes' images, built by the docker client as anybody would build them.

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
