//! What a function's failure looks like to AWS's clients, in an answer or in what a destination is sent: the document that the runtime wrote, or
//! would have written on AWS. Pure.

use serde_json::{Value, json};

use crate::domain::fault::{Fault, Report};
use crate::domain::id::RequestId;
use crate::runtime::manifest::Manifest;

/// What an answer is that nobody takes in whole.
pub const TOO_LARGE: &str = "Function.ResponseSizeTooLarge";

/// How the errors of a runtime look.
#[derive(Debug, Clone, Default)]
pub struct Style {
    stack: Option<String>,
    request_id: bool,
}

impl Style {
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            stack: manifest.aws.error_stack.clone(),
            request_id: manifest.aws.error_request_id,
        }
    }

    /// What the function's own runtime wrote, byte for byte, or else what it would have written. `None` if it was not the function.
    pub fn text(&self, fault: &Fault, request_id: RequestId) -> Option<String> {
        match fault {
            Fault::Handler(Report {
                document: Some(text),
                ..
            })
            | Fault::Init(Report {
                document: Some(text),
                ..
            }) => Some(text.clone()),
            _ => Some(self.body(fault, request_id)?.to_string()),
        }
    }

    fn body(&self, fault: &Fault, request_id: RequestId) -> Option<Value> {
        let told =
            |kind: &str, message: String| json!({"errorType": kind, "errorMessage": message});
        Some(match fault {
            Fault::Handler(report) => self.reported(report, &request_id.to_string()),
            // Loading is nobody's call.
            Fault::Init(report) => self.reported(report, ""),
            Fault::Timeout(after) | Fault::InitTimeout(after) => {
                let seconds = after.as_secs_f64();
                let text = format!(
                    "RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds"
                );
                told("Sandbox.Timedout", text)
            }
            Fault::Exited { code } => {
                let how = match code {
                    None | Some(0) => "Runtime exited without providing a reason".into(),
                    Some(code @ 129..) => {
                        format!("Runtime exited with error: signal: {}", signal(code - 128))
                    }
                    Some(code) => format!("Runtime exited with error: exit status {code}"),
                };
                told(
                    "Runtime.ExitError",
                    format!("RequestId: {request_id} Error: {how}"),
                )
            }
            Fault::OutOfMemory { .. } => {
                let text = format!(
                    "RequestId: {request_id} Error: Runtime exited with error: signal: killed"
                );
                told("Runtime.ExitError", text)
            }
            Fault::Protocol(what) => told(
                "Runtime.Unknown",
                format!("RequestId: {request_id} Error: {what}"),
            ),
            Fault::Loading(fault) => return self.body(fault, request_id),
            _ => return None,
        })
    }

    fn reported(&self, report: &Report, request_id: &str) -> Value {
        let mut body = json!({"errorMessage": report.message, "errorType": report.kind});
        if report.kind == TOO_LARGE {
            // On AWS it is not the runtime that says so.
            return body;
        }
        if self.request_id {
            body["requestId"] = request_id.into();
        }
        match &self.stack {
            Some(name) => body[name] = json!(report.stack),
            None if report.stack.is_empty() => {}
            None => body["stackTrace"] = json!(report.stack),
        }
        body
    }
}

/// As a shell would say it, in the words that runtimes on AWS use.
fn signal(number: i64) -> String {
    let signal = i32::try_from(number).ok();
    let signal = signal.and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
    use nix::sys::signal::Signal;
    match signal {
        Some(Signal::SIGKILL) => "killed".into(),
        Some(Signal::SIGSEGV) => "segmentation fault".into(),
        Some(Signal::SIGABRT) => "aborted".into(),
        Some(Signal::SIGTERM) => "terminated".into(),
        Some(other) => other.as_str().into(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn raised() -> Fault {
        Fault::Handler(Report {
            kind: "Oops".into(),
            message: "no".into(),
            stack: vec!["line 1".into()],
            document: None,
        })
    }

    #[test]
    fn an_error_looks_as_its_runtime_writes_it() {
        let id = RequestId::generate();
        let plain = Style::default()
            .body(&raised(), id)
            .expect("the function's");
        let wanted = json!({"errorMessage": "no", "errorType": "Oops", "stackTrace": ["line 1"]});
        assert_eq!(plain, wanted);
        let style = Style {
            stack: Some("trace".into()),
            request_id: true,
        };
        let own = style.body(&raised(), id).expect("the function's");
        let text = id.to_string();
        let wanted = json!({"errorMessage": "no", "errorType": "Oops", "trace": ["line 1"], "requestId": text});
        assert_eq!(own, wanted);
        let Fault::Handler(report) = raised() else {
            unreachable!("it is one")
        };
        let init = style
            .body(&Fault::Init(report), id)
            .expect("the function's");
        assert_eq!(init["requestId"], "");
        let large = Fault::Handler(Report::new(TOO_LARGE, "large"));
        let wanted = json!({"errorMessage": "large", "errorType": "Function.ResponseSizeTooLarge"});
        assert_eq!(style.body(&large, id), Some(wanted));
    }

    #[test]
    fn what_a_runtime_wrote_goes_out_as_it_is() {
        let written = r#"{"trace": [], "errorType": "Odd"}"#;
        let report = Report {
            document: Some(written.into()),
            ..Report::new("Odd", "")
        };
        let id = RequestId::generate();
        let style = Style {
            request_id: true,
            ..Style::default()
        };
        assert_eq!(
            style.text(&Fault::Handler(report.clone()), id).as_deref(),
            Some(written)
        );
        assert_eq!(
            style.text(&Fault::Init(report), id).as_deref(),
            Some(written)
        );
        assert_eq!(style.text(&Fault::Draining, id), None);
    }

    #[test]
    fn ends_of_functions_are_told_in_awss_words() {
        let id = RequestId::generate();
        for (fault, kind, text) in [
            (
                Fault::Timeout(Duration::from_secs(1)),
                "Sandbox.Timedout",
                "Task timed out after 1.00 seconds",
            ),
            (
                Fault::Exited { code: Some(0) },
                "Runtime.ExitError",
                "Runtime exited without providing a reason",
            ),
            (
                Fault::Exited { code: Some(127) },
                "Runtime.ExitError",
                "Runtime exited with error: exit status 127",
            ),
            (
                Fault::Exited { code: Some(139) },
                "Runtime.ExitError",
                "Runtime exited with error: signal: segmentation fault",
            ),
            (
                Fault::Loading(Box::new(Fault::Exited { code: Some(1) })),
                "Runtime.ExitError",
                "Runtime exited with error: exit status 1",
            ),
        ] {
            let body = Style::default().body(&fault, id).expect("the function's");
            assert_eq!(body["errorType"], kind);
            assert_eq!(
                body["errorMessage"],
                format!("RequestId: {id} Error: {text}")
            );
        }
    }
}
