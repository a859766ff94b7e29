//! What a runtime's folder needs before its image can be built, or its cases be played: a `build.sh`, where it has one, was run. `make`
//! does it for the image before the tests; this is for the cases, and for whoever starts the tests alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use hearth::runtime::manifest::Manifest;

/// One after the other: two at once would build the same.
static BUILDING: Mutex<()> = Mutex::new(());

pub(crate) fn built(runtime: &Manifest) -> Result<()> {
    build(&runtime.folder)
}

/// Runs the folder's `build.sh`, which is quick where nothing changed.
pub(crate) fn build(folder: &Path) -> Result<()> {
    let script = folder.join("build.sh");
    if !script.is_file() {
        return Ok(());
    }
    let _one = BUILDING.lock().expect("nobody panics while building");
    let run = Command::new("timeout")
        .arg("900")
        .arg(&script)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", script.display()))?;
    ensure!(
        run.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}
