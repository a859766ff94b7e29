//! Which server a command speaks to and with which key: what the flags say, else what the instance on this machine wrote into its
//! state directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use http::Uri;
use serde::Deserialize;

use crate::cli::args::Global;

/// Where a server listens that was told nothing.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// `instance.json`: the server writes it once it listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    pub url: String,
    pub pid: u32,
    #[serde(default)]
    pub started_at: String,
    /// What AWS's clients sign for. Older servers did not say.
    #[serde(default = "region")]
    pub region: String,
}

fn region() -> String {
    "us-east-1".into()
}

/// A server and the key for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    pub key: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Hearth runs on the state directory {0}")]
    NotRunning(PathBuf),
    #[error("{path} says Hearth runs as process {pid} at {url}, but nothing answers there")]
    Gone {
        path: PathBuf,
        pid: u32,
        url: String,
    },
    #[error("cannot read {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not what a server writes")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{0} holds no key")]
    EmptyKey(PathBuf),
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        let start = "start it with 'make up' or 'hearth serve'; if it keeps its state elsewhere, say where with \
                     --state-dir or HEARTH_STATE_DIR";
        match self {
            Error::NotRunning(_) | Error::Gone { .. } => Some(start.into()),
            Error::Unreadable { source, .. } if source.kind() == ErrorKind::PermissionDenied => Some(
                "it belongs to the user the server runs as: use sudo, or give a key with --key or HEARTH_KEY"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// The instance that keeps its state there, if it said so.
pub fn read(state_dir: &Path) -> Result<Instance, Error> {
    let path = state_dir.join("instance.json");
    let text = read_file(&path, || Error::NotRunning(state_dir.into()))?;
    let instance: Instance =
        serde_json::from_str(&text).map_err(|source| Error::Malformed { path, source })?;
    Ok(Instance {
        url: reachable(&instance.url),
        ..instance
    })
}

/// A server that listens on every address says so; a client needs one.
fn reachable(url: &str) -> String {
    let any = [("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")];
    any.iter()
        .fold(url.to_owned(), |url, (any, own)| url.replacen(any, own, 1))
}

/// The admin key of the instance that keeps its state there.
pub fn read_key(state_dir: &Path) -> Result<String, Error> {
    let path = state_dir.join("admin.key");
    let text = read_file(&path, || Error::NotRunning(state_dir.into()))?;
    match text.trim() {
        "" => Err(Error::EmptyKey(path)),
        key => Ok(key.to_owned()),
    }
}

fn read_file(path: &Path, absent: impl Fn() -> Error) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => absent(),
        _ => Error::Unreadable {
            path: path.into(),
            source,
        },
    })
}

/// The server to speak to. Files that are not there or not ours to read are no error: the server will ask for a key if it wants
/// one, and what it says then is the better message.
pub fn target(global: &Global) -> Target {
    let instance = read(global.state_dir()).ok();
    let stored = || read_key(global.state_dir()).ok();
    choose(global, instance.as_ref(), stored)
}

fn choose(
    global: &Global,
    instance: Option<&Instance>,
    stored: impl FnOnce() -> Option<String>,
) -> Target {
    let local = instance.map(|i| i.url.as_str());
    let url = global.url.as_deref().or(local).unwrap_or(DEFAULT_URL);
    let mut key = global.key.clone().filter(|key| !key.is_empty());
    // The key in a file is that of the instance on this machine. It is not sent anywhere else.
    if key.is_none() && (Some(url) == local || is_loopback(url)) {
        key = stored();
    }
    Target {
        url: url.to_owned(),
        key,
    }
}

fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(url: &str) -> Instance {
        Instance {
            url: url.into(),
            pid: 1,
            started_at: String::new(),
            region: region(),
        }
    }

    fn stored() -> Option<String> {
        Some("stored".into())
    }

    #[test]
    fn flags_win_over_the_instance_and_the_instance_over_the_default() {
        let told = Global {
            url: Some("http://10.0.0.1:1".into()),
            key: Some("told".into()),
            ..Global::default()
        };
        let here = instance("http://127.0.0.1:9000");
        let target = choose(&told, Some(&here), stored);
        assert_eq!(target.url, "http://10.0.0.1:1");
        assert_eq!(target.key.as_deref(), Some("told"));
        let target = choose(&Global::default(), Some(&here), stored);
        assert_eq!(target.url, here.url);
        assert_eq!(target.key.as_deref(), Some("stored"));
        let target = choose(&Global::default(), None, stored);
        assert_eq!(target.url, DEFAULT_URL);
    }

    #[test]
    fn the_stored_key_is_sent_to_the_machine_it_belongs_to_only() {
        let at = |url: &str| Global {
            url: Some(url.into()),
            ..Global::default()
        };
        for url in [
            "http://10.0.0.1:8080",
            "http://127.0.0.1.example.com",
            "http://example.com",
        ] {
            assert_eq!(choose(&at(url), None, stored).key, None, "{url}");
        }
        for url in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert_eq!(choose(&at(url), None, stored).key, stored(), "{url}");
        }
        let here = instance("http://10.0.0.2:8080");
        assert_eq!(choose(&at(&here.url), Some(&here), stored).key, stored());
    }

    #[test]
    fn an_instance_on_every_address_is_reached_on_this_machine() {
        assert_eq!(reachable("http://0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(reachable("http://[::]:80"), "http://[::1]:80");
        assert_eq!(reachable("http://10.0.0.0:80"), "http://10.0.0.0:80");
    }

    #[test]
    fn what_is_missing_is_told_from_what_is_broken() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(read(dir.path()), Err(Error::NotRunning(_))));
        std::fs::write(dir.path().join("instance.json"), "{").expect("written");
        assert!(matches!(read(dir.path()), Err(Error::Malformed { .. })));
        std::fs::write(dir.path().join("admin.key"), "\n").expect("written");
        assert!(matches!(read_key(dir.path()), Err(Error::EmptyKey(_))));
    }
}
