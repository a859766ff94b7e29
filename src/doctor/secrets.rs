//! What is secret at rest: whether the key file is there, is its owner's alone, and opens what the store has.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{self, Config};
use crate::doctor::{Finding, store};
use crate::domain::fault::with_sources;
use crate::secrets::{Secrets, key_place, variable_place};
use crate::store::Content;

const FILE: &str = "key file";
const OPENS: &str = "secrets";

pub(super) async fn examine(config: &Config, running: bool) -> Vec<Finding> {
    let own = config.state_dir.join("secrets.key");
    let path = config.secrets_file.as_deref().unwrap_or(&own);
    let content = if running && config.store == config::Store::Embedded {
        Err("a server has the store open, and opened the key file when it started".to_owned())
    } else {
        let content = store::content(&config.store, &config.state_dir).await;
        content.map_err(|error| with_sources(&error))
    };
    judge(path, config.secrets_file.is_some(), content.as_ref())
}

/// `named` is a file that has to be there; the state directory's own is made.
fn judge(path: &Path, named: bool, content: Result<&Content, &String>) -> Vec<Finding> {
    let shown = path.display();
    if !path.exists() {
        let lost = content.map_or(0, |content| sealed(content).len());
        let back = "put its copy back: another one opens nothing that was encrypted with it";
        let found = match lost {
            0 if named => format!("{shown} is not there"),
            0 => {
                let found = format!("{shown} is made at the first start");
                return vec![Finding::good(FILE, found)];
            }
            lost => format!("{shown} is gone, and {lost} stored values were encrypted with it"),
        };
        return vec![Finding::bad(FILE, found, back)];
    }
    let secrets = match Secrets::read(path) {
        Ok(secrets) => secrets,
        Err(error) => {
            let mend = "mend the file, or put its copy back";
            return vec![Finding::bad(FILE, with_sources(&error), mend)];
        }
    };
    // It was read just now.
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    let file = match mode & 0o077 {
        0 => Finding::good(FILE, format!("{shown} is its owner's alone")),
        _ => Finding::warning(
            FILE,
            format!("others can read {shown}"),
            format!("chmod 600 {shown}"),
        ),
    };
    vec![file, opens(&secrets, content)]
}

fn opens(secrets: &Secrets, content: Result<&Content, &String>) -> Finding {
    let content = match content {
        Ok(content) => content,
        Err(why) => return Finding::skipped(OPENS, format!("the store was not looked at: {why}")),
    };
    let all = sealed(content);
    let refused = all.iter().filter_map(|(what, place, text)| {
        let why = secrets.unseal(place, text).err()?;
        Some(format!("{what}: {why}"))
    });
    let refused: Vec<_> = refused.collect();
    match refused.first() {
        None => Finding::good(
            OPENS,
            format!("{} stored values can be decrypted", all.len()),
        ),
        Some(first) => Finding::bad(
            OPENS,
            format!(
                "{} of {} stored values cannot be decrypted; {first}",
                refused.len(),
                all.len()
            ),
            "add the key they were encrypted with to the key file, on a line of its own, or set them again",
        ),
    }
}

/// Everything that is encrypted: what it is, the place it is bound to, and the text.
fn sealed(content: &Content) -> Vec<(String, String, &str)> {
    let mut all = Vec::new();
    let current = content.functions.iter().map(|function| (function, None));
    let versions = content.versions.iter();
    let published = versions.map(|version| (&version.function, Some(version.number)));
    for (function, version) in current.chain(published) {
        for (name, value) in &function.environment.0 {
            if let Some(text) = value.sealed() {
                let version = version.map_or(String::new(), |number| format!(", version {number}"));
                let what = format!("{name} of function {}{version}", function.name);
                all.push((what, variable_place(&function.id, name), text));
            }
        }
    }
    for key in &content.keys {
        if let Some(text) = &key.sealed {
            all.push((
                format!("the copy of key {}", key.id),
                key_place(&key.id),
                text,
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;
    use crate::doctor::Verdict;
    use crate::domain::environment::Environment;

    fn verdicts(path: &Path, named: bool, content: &Content) -> Vec<Verdict> {
        let found = judge(path, named, Ok(content));
        found.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_key_file_is_there_private_and_opens_what_is_stored() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secrets.key");
        let mut content = Content::default();
        assert_eq!(verdicts(&path, false, &content), [Verdict::Good]);
        assert_eq!(verdicts(&path, true, &content), [Verdict::Bad]);

        let secrets = Secrets::read_or_make(&path).expect("made");
        let mut function = crate::store::suite::function("f", "none");
        let value = secrets.seal_variable(&function.id, "TOKEN", "hunter2");
        function.environment = Environment([("TOKEN".to_owned(), value)].into());
        let published = crate::store::suite::versions::first(&function).publish;
        content.versions.extend(published);
        content.functions.push(function);
        assert_eq!(verdicts(&path, false, &content), [Verdict::Good; 2]);
        let good = std::fs::read_to_string(&path).expect("read");

        // Lost, and made anew by hand.
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(verdicts(&path, false, &content), [Verdict::Bad]);
        let another = Secrets::read_or_make(&path).expect("made");
        assert_eq!(
            verdicts(&path, false, &content),
            [Verdict::Good, Verdict::Bad]
        );
        let said = format!("{:?}", judge(&path, false, Ok(&content)));
        assert!(said.contains("2 of 2") && said.contains("TOKEN of function f"));
        assert!(!said.contains("hunter2"), "{said}");
        // A key's copy counts as well, and both keys in one file open both.
        let mut key = crate::store::suite::key("k");
        key.sealed = Some(another.seal(&key_place(&key.id), "secret"));
        content.keys.push(key);
        std::fs::write(&path, good + &std::fs::read_to_string(&path).expect("read"))
            .expect("written");
        assert_eq!(verdicts(&path, false, &content), [Verdict::Good; 2]);

        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).expect("set");
        assert_eq!(
            verdicts(&path, false, &content),
            [Verdict::Warning, Verdict::Good]
        );
        let unknown = judge(&path, false, Err(&"it is away".into()));
        assert_eq!(unknown[1].verdict, Verdict::Skipped);
        let mut file = std::fs::OpenOptions::new();
        drop(
            file.write(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)
                .expect("emptied"),
        );
        assert_eq!(verdicts(&path, false, &content), [Verdict::Bad]);
    }
}
