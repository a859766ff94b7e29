//! `hearth doctor`: prints what the doctor found, and fails if something is bad.

use std::time::Duration;

use serde_json::json;

use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::Error;
use crate::cli::instance;
use crate::cli::output::{Output, Tone};
use crate::cli::serve::Settings;
use crate::config::Config;
use crate::doctor::{self, Finding, Verdict};

const PROBE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(after_help = "Looks at what 'hearth serve' with the same flags would use.")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(args: Args, global: &Global, output: &mut Output) -> Result<(), Error> {
    let config = args.settings.load(global)?.config;
    let running = running(&config, global).await;
    let findings = Box::pin(doctor::examine(&config, running.as_deref())).await;
    show(&findings, output)
}

/// The address of the Hearth that runs on this state directory.
async fn running(config: &Config, global: &Global) -> Option<String> {
    let instance = instance::read(&config.state_dir).ok()?;
    let client = Client::trusting(&instance.url, None, global.ca.as_deref()).ok()?;
    client.answers(PROBE).await.then_some(instance.url)
}

fn show(findings: &[Finding], output: &mut Output) -> Result<(), Error> {
    let bad = findings
        .iter()
        .filter(|f| f.verdict == Verdict::Bad)
        .count();
    if output.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|f| json!({ "about": f.about, "verdict": f.verdict.as_str(), "found": f.found, "mend": f.mend }))
            .collect();
        output.document(&json!({ "ok": bad == 0, "checks": checks }))?;
    } else {
        let width = findings.iter().map(|f| f.about.chars().count()).max();
        for finding in findings {
            print(finding, width.unwrap_or(0), output)?;
        }
    }
    match bad {
        0 => Ok(()),
        1 => Err(Error::Failed("1 check failed".into())),
        bad => Err(Error::Failed(format!("{bad} checks failed"))),
    }
}

fn print(finding: &Finding, width: usize, output: &mut Output) -> Result<(), Error> {
    let (mark, tone) = match finding.verdict {
        Verdict::Good => ("ok     ", Tone::Good),
        Verdict::Warning => ("warning", Tone::Warning),
        Verdict::Bad => ("FAILED ", Tone::Bad),
        Verdict::Skipped => ("skipped", Tone::Faint),
    };
    let mark = output.paint(tone, mark);
    output.line(&format!(
        "{mark}  {:width$}  {}",
        finding.about, finding.found
    ))?;
    if let Some(mend) = &finding.mend {
        output.line(&format!("{:indent$}→ {mend}", "", indent = width + 11))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::output::captured;

    fn findings() -> Vec<Finding> {
        let finding = |about: &str, verdict, mend: Option<&str>| Finding {
            about: about.into(),
            verdict,
            found: "found".into(),
            mend: mend.map(str::to_owned),
        };
        vec![
            finding("port", Verdict::Good, None),
            finding("engine", Verdict::Bad, Some("start it")),
        ]
    }

    #[test]
    fn what_is_bad_fails_and_says_how_to_mend_it() {
        let (mut output, out, _) = captured::output(false);
        let error = show(&findings(), &mut output).expect_err("one is bad");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "1 check failed");
        let want = "ok       port    found\nFAILED   engine  found\n                 → start it\n";
        assert_eq!(out.text(), want);
        show(&findings()[..1], &mut output).expect("nothing is bad");
    }

    #[test]
    fn a_program_gets_every_check() {
        let (mut output, out, _) = captured::output(true);
        assert!(show(&findings(), &mut output).is_err());
        let document: Value = serde_json::from_str(&out.text()).expect("JSON");
        assert_eq!(document["ok"], false);
        assert_eq!(document["checks"][1]["verdict"], "failed");
        assert_eq!(document["checks"][1]["mend"], "start it");
    }
}
