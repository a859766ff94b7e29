//! A container image that is a function by itself: the name it was asked for by, which image that was, how it is started.

use serde::{Deserialize, Serialize};

/// Longer than a reference can be: 255 of a name, a tag of 128, a digest.
const NAME_MAX: usize = 512;

/// An image of the engine, as functions are made of it. Which one it is does not change when its name is given to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// As it was given: a name with a tag as a rule.
    pub uri: String,
    pub built: Built,
    #[serde(default)]
    pub settings: Settings,
}

/// What the engine knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Built {
    /// The engine's id: a digest of its configuration and its layers, the same on every machine.
    pub id: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// Directories it declares as volumes.
    pub volumes: Vec<String>,
}

/// An image that was asked about by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub built: Built,
    /// `linux/amd64` and the like.
    pub platform: String,
}

/// What a function says instead of the image; what it leaves out is the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

impl Image {
    /// The program and its arguments, which is nothing where the image says nothing.
    pub fn start(&self) -> Vec<String> {
        let entrypoint = self.settings.entrypoint.as_ref();
        let entrypoint = entrypoint.unwrap_or(&self.built.entrypoint);
        entrypoint.iter().chain(self.command()).cloned().collect()
    }

    /// What clients of AWS's Runtime API take for the handler: the first argument of the entry point.
    pub fn handler(&self) -> &str {
        self.command().first().map_or("", String::as_str)
    }

    /// Without what it was called, which may be nothing else any more: the hex digits of its id.
    pub fn digest(&self) -> &str {
        let id = &self.built.id;
        id.split_once(':').map_or(id, |(_, digits)| digits)
    }

    /// The name with the digest in the place of its tag.
    pub fn resolved(&self) -> String {
        let name = self.uri.split('@').next().unwrap_or_default();
        let path = name.rfind('/').map_or(0, |at| at + 1);
        let tag = name[path..].find(':').map(|at| path + at);
        format!("{}@{}", &name[..tag.unwrap_or(name.len())], self.built.id)
    }

    fn command(&self) -> &Vec<String> {
        let given = self.settings.command.as_ref();
        given.unwrap_or(&self.built.command)
    }
}

/// Whether it has the form of a reference: `[host[:port]/]path[:tag][@digest]`, or of an id. It becomes a part of a path to the engine,
/// so nothing in it may mean something there.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:@/".contains(c);
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    text.len() <= NAME_MAX && text.chars().all(plain) && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(uri: &str, settings: Settings) -> Image {
        let text = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let built = Built {
            id: "sha256:0a1b".into(),
            entrypoint: text(&["/entry", "-x"]),
            command: text(&["app.handler", "more"]),
            volumes: Vec::new(),
        };
        let uri = uri.into();
        Image {
            uri,
            built,
            settings,
        }
    }

    #[test]
    fn settings_stand_in_for_what_the_image_says_one_by_one() {
        let own = image("a", Settings::default());
        assert_eq!(own.start(), ["/entry", "-x", "app.handler", "more"]);
        assert_eq!(own.handler(), "app.handler");
        let command = image(
            "a",
            Settings {
                command: Some(vec!["other.go".into()]),
                ..Settings::default()
            },
        );
        assert_eq!(command.start(), ["/entry", "-x", "other.go"]);
        assert_eq!(command.handler(), "other.go");
        let entrypoint = image(
            "a",
            Settings {
                entrypoint: Some(vec!["/run".into()]),
                ..Settings::default()
            },
        );
        assert_eq!(entrypoint.start(), ["/run", "app.handler", "more"]);
        let nothing = Settings {
            entrypoint: Some(Vec::new()),
            command: Some(Vec::new()),
            working_dir: None,
        };
        let nothing = image("a", nothing);
        assert_eq!((nothing.start().len(), nothing.handler()), (0, ""));
    }

    #[test]
    fn a_resolved_name_has_the_digest_for_its_tag() {
        for (uri, resolved) in [
            ("app", "app@sha256:0a1b"),
            ("app:1", "app@sha256:0a1b"),
            ("host:5000/team/app", "host:5000/team/app@sha256:0a1b"),
            ("host:5000/team/app:1", "host:5000/team/app@sha256:0a1b"),
            ("host/app@sha256:99", "host/app@sha256:0a1b"),
        ] {
            assert_eq!(image(uri, Settings::default()).resolved(), resolved);
        }
        assert_eq!(image("app", Settings::default()).digest(), "0a1b");
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for good in [
            "app",
            "app:1",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:v1.2_3-x",
            "localhost:5000/app@sha256:00ff",
            "sha256:00ff",
        ] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(NAME_MAX + 1);
        for bad in [
            "", "/app", "app/", "a//b", "../app", "a/../b", "a/./b", "a b", "a?b", "a#b", "a%2f",
            "-a", ".a", "ä", &long,
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
