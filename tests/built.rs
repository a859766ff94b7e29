//! What a runtime's folder needs before its image can be built: a `build.sh`, where it has one, was run. `make` does it before the
//! tests; this is for whoever starts them alone.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use hearth::runtime::manifest::Manifest;

/// One after the other: two at once would build the same.
static BUILDING: Mutex<()> = Mutex::new(());

pub(crate) fn built(runtime: &Manifest) -> Result<()> {
    let script = runtime.folder.join("build.sh");
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
