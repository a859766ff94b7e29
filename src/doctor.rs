//! Looks at everything Hearth needs from the machine, as `hearth serve` with the same configuration would find it, and says how to
//! mend what is wrong. Changes nothing: what it makes to try something out is gone when it is done. Called by `hearth doctor`,
//! and by a running Hearth when somebody asks it over the API. Like `app`, this looks at every part.

mod certificate;
mod engine;
mod host;
mod secrets;
mod state;
mod store;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::task;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Works, but could be better, or will not for long.
    Warning,
    /// Hearth cannot work like this.
    Bad,
    /// Could not be looked at, because something before it is bad.
    Skipped,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad => "failed",
            Verdict::Skipped => "skipped",
        }
    }
}

/// What was looked at and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub about: String,
    pub verdict: Verdict,
    pub found: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Finding {
    fn good(about: &str, found: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            verdict: Verdict::Good,
            found: found.into(),
            mend: None,
        }
    }

    fn warning(about: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            mend: Some(mend.into()),
            ..Self::good(about, found)
        }
    }

    fn bad(about: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Bad,
            mend: Some(mend.into()),
            ..Self::good(about, found)
        }
    }

    fn skipped(about: &str, why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Skipped,
            ..Self::good(about, why)
        }
    }
}

/// Looks at everything. `running` is the address of the Hearth that runs on the state directory, if one does.
pub async fn examine(config: &Config, running: Option<&str>) -> Vec<Finding> {
    // Where workers' directories will be, or would be if the state directory were there.
    let place = Scratch::new(existing(&config.state_dir));
    let mut findings = vec![host::instance(&config.state_dir, running)];
    let engine = engine::examine(config, place.as_ref().ok().map(Scratch::path));
    findings.extend(Box::pin(engine).await);
    findings.extend(Box::pin(store::examine(&config.store)).await);
    findings.extend(Box::pin(secrets::examine(config, running.is_some())).await);
    findings.extend(certificate::examine(config.server.tls.as_ref()));
    findings.push(state::writable(&config.state_dir, place.as_ref().err()));
    let (config, running) = (config.clone(), running.map(str::to_owned));
    let rest = task::blocking("doctor", move || {
        let mut rest = Vec::new();
        if let Ok(place) = &place {
            rest.extend(state::examine(place.path()));
        }
        rest.extend(host::examine(&config, running.as_deref()));
        rest
    });
    findings.extend(rest.await);
    findings
}

/// The path itself, or the nearest directory above it that exists.
fn existing(path: &Path) -> &Path {
    let mut above = path.ancestors();
    above
        .find(|path| !path.as_os_str().is_empty() && path.exists())
        .unwrap_or(Path::new("."))
}

/// A directory of our own, removed with everything in it.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(parent: &Path) -> std::io::Result<Self> {
        let name = format!(".hearth-doctor-{}", uuid::Uuid::new_v4().simple());
        // The engine is asked about it, and knows absolute paths only.
        let path = parent.canonicalize()?.join(name);
        std::fs::create_dir(&path)?;
        Ok(Self { path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "scratch directory left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("not/there");
        assert_eq!(existing(&missing), dir.path());
        let scratch = Scratch::new(existing(&missing)).expect("made");
        std::fs::write(scratch.path().join("file"), "x").expect("written");
        drop(scratch);
        let left = std::fs::read_dir(dir.path()).expect("read").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_relative_path_is_looked_for_here() {
        assert_eq!(
            existing(Path::new("no-such-directory/state")),
            Path::new(".")
        );
    }
}
