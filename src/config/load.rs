//! Where the configuration comes from: defaults, then the file, then the environment, then flags; the later wins. Called once at
//! the start, by main through the command line. The only place that reads the environment. What a value means is `check`'s.

use std::path::{Path, PathBuf};

use crate::config::raw::{self, Fault, Faults, Origin, Values};
use crate::config::{Config, check};

/// Variables that start with `HEARTH_` and set no key: where the file is, what the command line needs to reach a server, and
/// what the scripts and the workers' shims use.
pub const RESERVED: &[&str] = &[
    "HEARTH_CONFIG",
    "HEARTH_URL",
    "HEARTH_KEY",
    "HEARTH_CA",
    "HEARTH_CACHE_DIR",
    "HEARTH_ENGINE_DATA",
    "HEARTH_ENGINE_RUN",
    "HEARTH_ENGINE_LOG",
    "HEARTH_SOCKET",
];

/// Everything that can say something, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources<E> {
    /// The file; without one, the file `HEARTH_CONFIG` names, if any.
    pub file: Option<PathBuf>,
    pub environment: E,
    /// `section.key` and value, later ones win.
    pub flags: Vec<(String, String)>,
}

/// The configuration, and what it was made from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub values: Values,
}

/// Reads the configuration of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn from_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Result<Loaded, Faults> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        // Other variables may hold anything; ours may not, and the replacement character is refused when it is looked at.
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    read(Sources {
        file,
        environment,
        flags,
    })
}

/// The configuration these sources make.
pub fn load<E>(sources: Sources<E>) -> Result<Config, Faults>
where
    E: IntoIterator<Item = (String, String)>,
{
    read(sources).map(|loaded| loaded.config)
}

/// As [`load`], and keeps what was written, for [`dump`].
pub fn read<E>(sources: Sources<E>) -> Result<Loaded, Faults>
where
    E: IntoIterator<Item = (String, String)>,
{
    let mut values = Values::defaults();
    let mut faults = Vec::new();
    let mut environment: Vec<_> = sources
        .environment
        .into_iter()
        .filter(|(name, _)| name.starts_with("HEARTH_"))
        .collect();
    // The environment has no order; the list of faults should have one.
    environment.sort();

    let named = || {
        let named = environment.iter().find(|(name, _)| name == "HEARTH_CONFIG");
        named.map(|(_, path)| PathBuf::from(path))
    };
    if let Some(path) = sources.file.or_else(named) {
        lay_file(&mut values, &path, &mut faults);
    }
    for (name, value) in &environment {
        lay_variable(&mut values, name, value, &mut faults);
    }
    for (key, value) in &sources.flags {
        faults.extend(values.set_text(key, value, Origin::Flag).err());
    }
    let config = check::check(&values, faults)?;
    Ok(Loaded { config, values })
}

/// Splits the value of a `--set` flag.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("expected section.key=value".into()),
    }
}

/// The effective configuration as a file that means the same, with the origin of everything that is not the default.
pub fn dump(values: &Values) -> String {
    let mut text = String::new();
    let mut current = "";
    for entry in values.entries() {
        let (section, name) = entry.key.split_once('.').expect("keys are in sections");
        if section != current {
            let gap = if current.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
            current = section;
        }
        text.push_str(&format!("{name} = {}", entry.value));
        if entry.origin != Origin::Default {
            text.push_str(&format!(" # {}", entry.origin));
        }
        text.push('\n');
    }
    text
}

fn lay_file(values: &mut Values, path: &Path, faults: &mut Vec<Fault>) {
    let origin = |line| Origin::File {
        path: path.into(),
        line,
    };
    let whole = |line, what| Fault {
        key: None,
        origin: origin(line),
        what,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => return faults.push(whole(None, format!("cannot be read: {e}"))),
    };
    match raw::leaves(&text) {
        Ok(leaves) => {
            for leaf in leaves {
                let laid = values.set(&leaf.key, leaf.value, origin(Some(leaf.line)));
                faults.extend(laid.err());
            }
        }
        Err(syntax) => faults.extend(syntax.into_iter().map(|s| whole(s.line, s.what))),
    }
}

fn lay_variable(values: &mut Values, name: &str, value: &str, faults: &mut Vec<Fault>) {
    if RESERVED.contains(&name) || injected(name) {
        return;
    }
    let origin = Origin::Environment(name.into());
    let known = values.entries().iter().find(|e| e.variable() == name);
    let Some(key) = known.map(|entry| entry.key.clone()) else {
        let names = values.entries().iter().map(|entry| entry.variable());
        let nearest = raw::did_you_mean(raw::nearest(name, names));
        return faults.push(Fault {
            key: None,
            origin,
            what: format!("sets no key{nearest}"),
        });
    };
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return faults.push(Fault::of(&key, &origin, "is not UTF-8"));
    }
    faults.extend(values.set_text(&key, value, origin).err());
}

/// Container platforms set variables like these for a service that happens to be called `hearth`; nobody wrote them.
fn injected(name: &str) -> bool {
    name == "HEARTH_PORT"
        || name == "HEARTH_NAME"
        || name.starts_with("HEARTH_PORT_")
        || name.starts_with("HEARTH_SERVICE_")
}

#[cfg(test)]
mod tests;
