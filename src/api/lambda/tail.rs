//! The end of a call's log, as AWS writes it around what the function printed: when it began and ended, what it took, and how it failed if
//! that is not something the function could have told.

use serde_json::Value;

use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::id::RequestId;
use crate::domain::invocation::{Phases, StartKind};
use crate::domain::limits::Mebibytes;
use crate::runtime::style::Style;
use crate::scheduler::{Called, Target};

/// So much of it an answer carries.
const TAIL: usize = 4 * 1024;
/// Lines that can be in it, even if all are empty.
const LINES: usize = TAIL;

/// How a call failed, in the words that AWS writes to its log; nothing if it did not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// What was printed while the code was loaded, which is why it failed. It comes before the call.
    loading: String,
    /// Whole lines.
    told: String,
    /// The end of the report.
    status: String,
}

impl Ending {
    pub(super) fn of(fault: &Fault, style: &Style, called: &Called) -> Self {
        let loading = match fault {
            Fault::Init(_) | Fault::InitTimeout(_) | Fault::Loading(_) => called.log_tail.clone(),
            _ => String::new(),
        };
        let (told, status) = ending(fault, style, called.request_id);
        Self {
            loading,
            told,
            status,
        }
    }
}

fn ending(fault: &Fault, style: &Style, request_id: RequestId) -> (String, String) {
    let failed = |kind: &str| format!("Status: error\tError Type: {kind}");
    match fault {
        Fault::Loading(fault) => ending(fault, style, request_id),
        Fault::Timeout(after) | Fault::InitTimeout(after) => {
            let (now, seconds) = (clock::wall().strftime("%FT%T.%3fZ"), after.as_secs_f64());
            let told = format!("{now} {request_id} Task timed out after {seconds:.2} seconds\n\n");
            (told, "Status: timeout".to_owned())
        }
        Fault::Exited { .. } | Fault::OutOfMemory { .. } | Fault::Protocol(_) => {
            let text = style.text(fault, request_id).unwrap_or_default();
            let document: Value = serde_json::from_str(&text).unwrap_or_default();
            let word = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
            let kind = word("errorType");
            (format!("{}\n{kind}\n", word("errorMessage")), failed(&kind))
        }
        // Its runtime has printed why.
        Fault::Init(report) => (String::new(), failed(&report.kind)),
        _ => Default::default(),
    }
}

/// Of a call of `target`.
pub(super) fn text(target: &Target, called: &Called, ending: &Ending) -> String {
    let id = called.request_id.to_string();
    let mut text = ending.loading.clone();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!(
        "START RequestId: {id} Version: {}\n",
        target.version
    ));
    text.push_str(&printed(target, &id));
    text.push_str(&ending.told);
    text.push_str(&format!("END RequestId: {id}\n"));
    let memory = (target.function.memory, called.memory);
    let kind = called.start.map(|(kind, _)| kind);
    text.push_str(&report(&id, &called.phases, memory, kind, &ending.status));
    let cut = text.len().saturating_sub(TAIL);
    // Never in the middle of a character.
    let cut = (cut..text.len()).find(|at| text.is_char_boundary(*at));
    text.split_off(cut.unwrap_or_default())
}

/// What the function printed for a call.
fn printed(target: &Target, id: &str) -> String {
    let lines = target.logs().tail(Some(id), LINES);
    let texts = lines.iter().map(|line| format!("{}\n", line.text));
    texts.collect()
}

/// What AWS says of a call when it is over; how much memory it took only where that is known.
fn report(
    id: &str,
    phases: &Phases,
    (memory, used): (Mebibytes, Option<Mebibytes>),
    kind: Option<StartKind>,
    status: &str,
) -> String {
    let memory = memory.0;
    let ms = phases.run.as_secs_f64() * 1000.0;
    let billed = ms.ceil().max(1.0);
    let mut text = format!(
        "REPORT RequestId: {id}\tDuration: {ms:.2} ms\tBilled Duration: {billed:.0} ms\tMemory Size: {memory} MB\t"
    );
    if let Some(Mebibytes(used)) = used {
        text.push_str(&format!("Max Memory Used: {used} MB\t"));
    }
    if kind.is_some_and(|kind| kind != StartKind::Warm) {
        let init = phases.init.as_secs_f64() * 1000.0;
        text.push_str(&format!("Init Duration: {init:.2} ms\t"));
    }
    text.push_str(status);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::fault::Report;

    #[test]
    fn a_report_says_what_a_call_took() {
        let phases = Phases {
            run: Duration::from_micros(3_010),
            init: Duration::from_micros(110_100),
            ..Phases::default()
        };
        let memory = (Mebibytes(128), Some(Mebibytes(36)));
        let begin = "REPORT RequestId: ID\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t";
        let cold = report("ID", &phases, memory, Some(StartKind::Cold), "");
        assert_eq!(cold, format!("{begin}Init Duration: 110.10 ms\t\n"));
        let memory = (Mebibytes(128), None);
        let warm = report("ID", &phases, memory, Some(StartKind::Warm), "");
        assert!(warm.ends_with("Memory Size: 128 MB\t\n"), "{warm}");
        assert!(!warm.contains("Init"), "{warm}");
        let late = report("ID", &phases, memory, None, "Status: timeout");
        assert!(late.ends_with("128 MB\tStatus: timeout\n"), "{late}");
    }

    #[test]
    fn what_the_function_could_not_tell_is_told() {
        let id = RequestId::generate();
        let of = |fault: Fault| ending(&fault, &Style::default(), id);
        let exited = of(Fault::Exited { code: Some(3) });
        let status = "Status: error\tError Type: Runtime.ExitError".to_owned();
        let told = |how: &str| {
            format!("RequestId: {id} Error: Runtime exited with error: {how}\nRuntime.ExitError\n")
        };
        assert_eq!(exited, (told("exit status 3"), status.clone()));
        let loading = Fault::Loading(Box::new(Fault::OutOfMemory {
            limit: Mebibytes(128),
        }));
        assert_eq!(of(loading), (told("signal: killed"), status));
        let (late, status) = of(Fault::Timeout(Duration::from_secs(1)));
        assert_eq!(status, "Status: timeout");
        let end = format!("Z {id} Task timed out after 1.00 seconds\n\n");
        assert!(late.ends_with(&end), "{late}");
        let (told, status) = of(Fault::Init(Report::new("Oops", "no")));
        assert_eq!(
            (told.as_str(), status.as_str()),
            ("", "Status: error\tError Type: Oops")
        );
        assert_eq!(
            of(Fault::Handler(Report::new("Oops", "no"))),
            Default::default()
        );
    }
}
