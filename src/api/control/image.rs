//! Images that functions are made of: read from a body, looked for in the engine. What is kept of one is a package like any other, so that
//! stores and versions need not know of it.

use serde_json::{Map, Value};

use crate::api::control::change::{cut, must_be, text};
use crate::api::control::code::{self, Incoming};
use crate::api::control::deploy::Deploy;
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::domain::image::{Image, Settings, is_name};
use crate::task;

/// The field of a body it comes in.
pub const FIELD: &str = "image";
/// As many as AWS takes, of a command's words and of a directory's characters.
pub const WORDS_MAX: usize = 1500;
pub const WORKING_DIR_MAX: usize = 1000;

/// An image that was asked for, and how it shall be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub uri: String,
    /// Which one it was, where its name may stand for another by now.
    pub id: Option<String>,
    pub settings: Settings,
}

/// A name, or an object as a function's document has it.
pub fn read(value: &Value) -> Result<Wish, String> {
    let mut given = match value {
        Value::String(uri) => Map::from_iter([("uri".to_owned(), Value::from(uri.as_str()))]),
        Value::Object(given) => given.clone(),
        other => return Err(must_be("a name or an object", other)),
    };
    let mut taken = |field: &str| given.remove(field);
    let uri = name("uri", &taken("uri").ok_or("uri is required")?)?;
    let wish = Wish {
        uri,
        id: taken("id").map(|value| name("id", &value)).transpose()?,
        settings: Settings {
            entrypoint: taken("entrypoint").map(words("entrypoint")).transpose()?,
            command: taken("command").map(words("command")).transpose()?,
            working_dir: taken("working_dir").map(directory).transpose()?,
        },
    };
    match given.keys().next() {
        Some(other) => Err(format!("has no field {:?}", cut(other))),
        None => Ok(wish),
    }
}

fn name(field: &str, value: &Value) -> Result<String, String> {
    let uri = text(value).map_err(|why| format!("{field} {why}"))?;
    match is_name(uri) {
        true => Ok(uri.to_owned()),
        false => Err(format!(
            "{field} is not the name of an image: {:?}",
            cut(uri)
        )),
    }
}

fn words(field: &str) -> impl Fn(Value) -> Result<Vec<String>, String> {
    let wanted = format!("a list of at most {WORDS_MAX} texts");
    move |value| {
        let wrong = || format!("{field} {}", must_be(&wanted, &value));
        let list = value.as_array().filter(|list| list.len() <= WORDS_MAX);
        let list = list.ok_or_else(wrong)?.iter();
        let word = |word: &Value| Some(word.as_str().filter(|word| is_word(word))?.to_owned());
        list.map(|value| word(value).ok_or_else(wrong)).collect()
    }
}

fn directory(value: Value) -> Result<String, String> {
    let wanted = format!("an absolute path of at most {WORKING_DIR_MAX} characters");
    let path = value.as_str().filter(|path| is_directory(path));
    let path = path.ok_or_else(|| format!("working_dir {}", must_be(&wanted, &value)))?;
    Ok(path.to_owned())
}

/// Whether it can be an argument of a program.
pub fn is_word(text: &str) -> bool {
    !text.contains('\0')
}

pub fn is_directory(path: &str) -> bool {
    path.starts_with('/') && is_word(path) && path.chars().count() <= WORKING_DIR_MAX
}

impl Deploy {
    /// Gives a draft the image it shall have: which one that is, is settled here and stays so.
    pub(super) async fn resolve(&self, draft: &mut Draft) -> Result<(), Problem> {
        let Some(wish) = draft.image.take() else {
            return Ok(());
        };
        let asked = self.scheduler.image(wish.id.as_ref().unwrap_or(&wish.uri));
        let found = asked.await.map_err(|error| {
            tracing::warn!(
                image = wish.uri,
                error,
                "the engine cannot be asked for an image"
            );
            Problem::EngineUnavailable
        })?;
        let found = found.ok_or_else(|| Problem::NoImage(wish.uri.clone()))?;
        let host = host_platform();
        if found.platform != host {
            let platform = &found.platform;
            return Err(Problem::invalid(
                FIELD,
                format!("is built for {platform}, and this server is {host}"),
            ));
        }
        let image = Image {
            uri: wish.uri,
            built: found.built,
            settings: wish.settings,
        };
        let handler = image.handler().to_owned();
        let places = self.places.clone();
        let incoming = Incoming::Image(image);
        let packed = task::blocking("note image", move || code::pack(incoming, &places)).await;
        let package = packed.map_err(|error| Problem::invalid(FIELD, error.to_string()))?;
        draft.function.handler = handler;
        draft.function.code = package.code.clone();
        draft.package = Some(package);
        Ok(())
    }
}

/// As engines call it.
fn host_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_a_name_or_says_how_it_is_started() {
        let wish = read(&json!("team/app:1")).expect("a name");
        assert_eq!((wish.uri.as_str(), wish.id), ("team/app:1", None));
        assert_eq!(wish.settings, Settings::default());
        let given = json!({
            "uri": "app", "id": "sha256:00ff", "command": ["app.handler"],
            "working_dir": "/srv",
        });
        let wish = read(&given).expect("an object");
        assert_eq!(wish.id.as_deref(), Some("sha256:00ff"));
        assert_eq!(wish.settings.entrypoint, None);
        assert_eq!(wish.settings.command, Some(vec!["app.handler".to_owned()]));
        assert_eq!(wish.settings.working_dir.as_deref(), Some("/srv"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, text) in [
            (json!(7), "a name or an object"),
            (json!({}), "uri is required"),
            (json!("../x"), "uri is not the name"),
            (json!({"uri": "a", "id": "?"}), "id is not the name"),
            (
                json!({"uri": "a", "command": "x"}),
                "command must be a list",
            ),
            (
                json!({"uri": "a", "entrypoint": [1]}),
                "entrypoint must be a list",
            ),
            (
                json!({"uri": "a", "entrypoint": ["\u{0}"]}),
                "entrypoint must be a list",
            ),
            (
                json!({"uri": "a", "working_dir": "srv"}),
                "working_dir must be an absolute path",
            ),
            (json!({"uri": "a", "id": null}), "id must be a text"),
            (json!({"uri": "a", "tag": "1"}), "has no field \"tag\""),
        ] {
            let why = read(&given).expect_err("refused");
            assert!(why.contains(text), "{given}: {why}");
        }
    }
}
