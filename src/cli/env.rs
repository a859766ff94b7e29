//! `hearth env`: what a shell needs to speak to the running instance, for this CLI and for AWS's tools.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::Error;
use crate::cli::instance::{self, Instance};
use crate::cli::output::Output;
use crate::domain::key;

/// A server on this machine that takes longer is none to work with.
const PROBE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
sh, bash, zsh:  eval \"$(hearth env)\"
fish:           hearth env --shell fish | source")]
pub struct Args {
    /// Whose syntax to print
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// sh, bash, zsh and their kin
    Sh,
    Fish,
}

pub async fn run(args: Args, global: &Global, output: &mut Output) -> Result<(), Error> {
    let (instance, key) = running(global).await?;
    let mut settings = settings(&instance, &key).to_vec();
    if let Some(ca) = &global.ca {
        let path = ca.display().to_string();
        settings.push(("HEARTH_CA", path.clone()));
        settings.push(("AWS_CA_BUNDLE", path));
    }
    if output.json {
        let object: Map<String, Value> = settings
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        return Ok(output.document(&object)?);
    }
    for (name, value) in settings {
        output.line(&match args.shell {
            Shell::Sh => format!("export {name}={}", quote(&value, r"'\''")),
            Shell::Fish => format!(
                "set -gx {name} {}",
                quote(&value.replace('\\', r"\\"), r"\'")
            ),
        })?;
    }
    Ok(())
}

/// Address and key of the instance of the state directory. An address or key in the environment does not count while that can be
/// read: it is there because this command was run before, perhaps for an instance that is gone by now.
async fn running(global: &Global) -> Result<(Instance, String), Error> {
    let state_dir = global.state_dir();
    let instance = instance::read(state_dir)?;
    if !Client::trusting(&instance.url, None, global.ca.as_deref())?
        .answers(PROBE)
        .await
    {
        return Err(Error::Instance(instance::Error::Gone {
            path: state_dir.join("instance.json"),
            pid: instance.pid,
            url: instance.url,
        }));
    }
    let given = global.key.clone();
    let key = instance::read_key(state_dir).or_else(|unread| given.ok_or(unread))?;
    Ok((instance, key))
}

fn settings(instance: &Instance, key: &str) -> [(&'static str, String); 7] {
    let (url, region) = (instance.url.as_str(), instance.region.as_str());
    [
        ("HEARTH_URL", url.into()),
        ("HEARTH_KEY", key.into()),
        // Of this service alone: AWS_ENDPOINT_URL would turn the shell's other AWS services here too.
        ("AWS_ENDPOINT_URL_LAMBDA", url.into()),
        ("AWS_ACCESS_KEY_ID", key::access_key_id(key)),
        ("AWS_SECRET_ACCESS_KEY", key.into()),
        ("AWS_REGION", region.into()),
        ("AWS_DEFAULT_REGION", region.into()),
    ]
}

/// In single quotes; a quote inside becomes `inner`.
fn quote(value: &str, inner: &str) -> String {
    format!("'{}'", value.replace('\'', inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::captured;
    use crate::cli::scripted::{self, Server};

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let nasty = r#"a'b"c $HOME `id` \ d"#;
        let script = format!("printf %s {}", quote(nasty, r"'\''"));
        let out = std::process::Command::new("sh")
            .args(["-c", &script])
            .output();
        let out = out.expect("sh runs").stdout;
        assert_eq!(String::from_utf8(out).expect("text"), nasty);
    }

    #[test]
    fn every_setting_is_there_once_and_none_is_empty() {
        let instance = serde_json::json!({"url": "http://127.0.0.1:1", "pid": 1});
        let instance = serde_json::from_value(instance).expect("is read");
        let settings = settings(&instance, "secret");
        let names: std::collections::HashSet<_> = settings.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), settings.len());
        assert!(settings.iter().all(|(_, value)| !value.is_empty()));
    }

    fn state(url: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let instance = serde_json::json!({"url": url, "pid": 1, "started_at": "2026-01-31T12:00:00Z", "region": "eu-west-1"});
        std::fs::write(dir.path().join("instance.json"), instance.to_string()).expect("written");
        std::fs::write(dir.path().join("admin.key"), "stored\n").expect("written");
        dir
    }

    async fn printed(shell: Shell, state: &tempfile::TempDir, json: bool) -> Result<String, Error> {
        let global = Global {
            state_dir: Some(state.path().into()),
            // As they are in a shell that has settings of another instance.
            url: Some("http://127.0.0.1:1".into()),
            key: Some("old".into()),
            ..Global::default()
        };
        let (mut output, out, _) = captured::output(json);
        run(Args { shell }, &global, &mut output).await?;
        Ok(out.text())
    }

    #[tokio::test]
    async fn settings_are_those_of_the_instance_that_runs() {
        let server = Server::start(|_, _| scripted::reply(200, &[], "ok")).await;
        let state = state(&server.url);
        let sh = printed(Shell::Sh, &state, false).await.expect("printed");
        assert!(sh.starts_with(&format!(
            "export HEARTH_URL='{}'\nexport HEARTH_KEY='stored'\n",
            server.url
        )));
        let fish = printed(Shell::Fish, &state, false).await.expect("printed");
        assert!(
            fish.contains("set -gx AWS_DEFAULT_REGION 'eu-west-1'\n"),
            "{fish}"
        );
        let json = printed(Shell::Sh, &state, true).await.expect("printed");
        let object: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(object["AWS_SECRET_ACCESS_KEY"], "stored");
    }

    #[tokio::test]
    async fn an_instance_that_is_gone_is_not_taken_for_one_that_runs() {
        let state = state("http://127.0.0.1:1");
        let error = printed(Shell::Sh, &state, false).await.expect_err("gone");
        assert!(
            matches!(error, Error::Instance(instance::Error::Gone { .. })),
            "{error:?}"
        );
        std::fs::remove_file(state.path().join("instance.json")).expect("removed");
        let error = printed(Shell::Sh, &state, false)
            .await
            .expect_err("never there");
        assert!(
            matches!(error, Error::Instance(instance::Error::NotRunning(_))),
            "{error:?}"
        );
    }
}
