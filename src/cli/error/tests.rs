//! Error texts, as they are printed. These are what people read and what programs parse.

use insta::assert_snapshot;

use super::*;
use crate::api::error::Problem;
use crate::cli::output::captured;
use crate::config::raw::{Fault, Origin};

fn printed(error: &Error) -> String {
    let (mut output, out, err) = captured::output(false);
    report(error, &mut output).expect("printed");
    assert_eq!(out.text(), "", "errors are talk");
    err.text()
}

fn refused(body: serde_json::Value, status: u16) -> Error {
    let mut refusal: Refusal = serde_json::from_value(body).expect("a refusal");
    refusal.status = status;
    Error::Client(client::Error::Refused(Box::new(refusal)))
}

fn function_error() -> Error {
    let body = json!({
        "code": "function_error", "message": "'name'", "blame": "function", "retry": "unsafe",
        "type": "KeyError", "stack": ["  File app, line 3, in handler"],
        "log_tail": "looking up name\ngiving up\n", "request_id": "r-1",
    });
    refused(body, 502)
}

#[test]
fn a_function_error_tells_type_message_stack_and_log() {
    assert_snapshot!(printed(&function_error()), @r"
    error: KeyError: 'name'
        File app, line 3, in handler
    last lines of its log:
      looking up name
      giving up
    request r-1
    ");
    assert_eq!(function_error().exit_code(), 1);
    let printed_too = json!({
        "message": "'name'", "blame": "function", "type": "KeyError",
        "stack": ["  File app, line 3\n    return name\n"],
        "log_tail": "[ERROR] KeyError: 'name'\n  File app, line 3\n    return name\n",
    });
    assert_snapshot!(printed(&refused(printed_too, 502)), @r"
    error: KeyError: 'name'
    last lines of its log:
      [ERROR] KeyError: 'name'
        File app, line 3
          return name
    ");
}

#[test]
fn a_refusal_names_each_field_but_says_nothing_twice() {
    let two = json!({
        "code": "invalid_request", "message": "timeout must be a number (and 1 more: see faults)",
        "faults": [
            {"field": "timeout", "message": "must be a number"},
            {"field": "memory", "message": "must be from 128 to 10240"},
        ],
    });
    assert_snapshot!(printed(&refused(two, 400)), @r"
    error: timeout must be a number (and 1 more: see faults)
      timeout: must be a number
      memory: must be from 128 to 10240
    ");
    let one = json!({
        "code": "invalid_request", "message": "timeout must be a number", "blame": "client", "request_id": "r-1",
        "faults": [{"field": "timeout", "message": "must be a number"}],
    });
    assert_snapshot!(printed(&refused(one, 400)), @"error: timeout must be a number");
}

#[test]
fn hints_say_what_to_do() {
    let hint =
        |code: &str, status: u16| refused(json!({"code": code, "message": "no"}), status).hint();
    assert!(
        hint("unauthorized", 401)
            .expect("a hint")
            .contains("hearth env")
    );
    assert!(
        hint("not_found", 404)
            .expect("a hint")
            .contains("hearth list")
    );
    assert!(hint("timeout", 504).expect("a hint").contains("--timeout"));
    assert!(
        hint("out_of_memory", 502)
            .expect("a hint")
            .contains("--memory")
    );
    assert!(
        hint("start_failed", 503)
            .expect("a hint")
            .contains("hearth doctor")
    );
    assert_eq!(hint("function_error", 502), None);
    assert!(
        hint("stale_revision", 409)
            .expect("a hint")
            .contains("deploy again")
    );
    let port = Error::Serve(anyhow::anyhow!("cannot listen"));
    assert!(port.hint().expect("a hint").contains("hearth doctor"));
    let throttled = |reason: &str| {
        let body =
            json!({"code": "throttled", "message": "no", "reason": reason, "retry_after": 1});
        refused(body, 429).hint().expect("a hint")
    };
    assert!(throttled("function_concurrency").contains("--max-concurrency"));
    assert!(throttled("account_concurrency").contains("limits.concurrency"));
    assert!(throttled("line_full").contains("in 1 s"));
    let safe = json!({"code": "busy", "message": "no", "retry": "safe"});
    assert!(
        refused(safe, 503)
            .hint()
            .expect("a hint")
            .contains("safe to try again")
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_says_how_to_start_it() {
    let client = client::Client::new("http://127.0.0.1:1", None).expect("a client");
    let error = client
        .get::<Value>("/")
        .await
        .expect_err("port 1 is nobody's");
    assert_snapshot!(printed(&error.into()), @r"
    error: cannot reach Hearth at http://127.0.0.1:1: Connection refused (os error 111)
    hint: is it running? start it with 'make up' or 'hearth serve', or name another address with --url or HEARTH_URL
    ");
}

fn config_faults() -> Error {
    Error::Config(Faults(vec![
        Fault::of("server.listen", &Origin::Flag, "\"here\" is not an address"),
        Fault {
            key: None,
            origin: Origin::Environment("HEARTH_SERVER_LISTN".into()),
            what: "sets no key".into(),
        },
    ]))
}

#[test]
fn configuration_faults_are_a_list_and_exit_2() {
    assert_snapshot!(printed(&config_faults()), @r#"
    error: the configuration has faults
      server.listen (command line): "here" is not an address
      environment variable HEARTH_SERVER_LISTN: sets no key
    "#);
    assert_eq!(config_faults().exit_code(), 2);
}

#[test]
fn a_program_gets_the_same_as_one_document() {
    let document = |error: &Error| {
        let (mut output, _, err) = captured::output(true);
        report(error, &mut output).expect("printed");
        serde_json::from_str::<Value>(&err.text()).expect("one JSON document")
    };
    let error = &document(&function_error())["error"];
    assert_eq!(error["code"], "function_error");
    assert_eq!(error["type"], "KeyError");
    assert_eq!(error["message"], "'name'");
    let error = &document(&config_faults())["error"];
    assert_eq!(error["code"], "configuration");
    assert_eq!(error["faults"][0]["field"], "server.listen");
    let gone = Error::Instance(instance::Error::NotRunning("/state".into()));
    let error = &document(&gone)["error"];
    assert_eq!(error["code"], "no_instance");
    assert!(error["hint"].as_str().expect("a hint").contains("make up"));
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let error = Error::Output(std::io::ErrorKind::BrokenPipe.into());
    assert_eq!(error.exit_code(), 0);
    assert_eq!(printed(&error), "");
    let full = Error::Output(std::io::ErrorKind::StorageFull.into());
    assert_eq!(full.exit_code(), 1);
    assert!(printed(&full).starts_with("error: cannot write the output: "));
}

#[test]
fn what_is_missing_is_to_be_found_in_its_own_list() {
    let hint = |problem: Problem| {
        let body = json!({"code": problem.code(), "message": problem.to_string()});
        refused(body, 404).hint()
    };
    assert_eq!(hint(Problem::NoPath("/function/".into())), None);
    let hint = |problem| hint(problem).expect("a hint");
    let (function, name) = ("shop".to_owned(), || "shop".to_owned());
    let qualifier = || "live".to_owned();
    assert!(hint(Problem::NoFunction(name())).starts_with("'hearth list'"));
    let version = hint(Problem::NoVersion {
        function: name(),
        qualifier: qualifier(),
    });
    assert!(version.contains("'hearth version list shop'"), "{version}");
    assert!(version.contains("'hearth alias list shop'"), "{version}");
    let alias = hint(Problem::NoAlias {
        function: name(),
        alias: qualifier(),
    });
    assert!(alias.starts_with("'hearth alias list shop'"), "{alias}");
    let url = hint(Problem::NoUrl {
        function,
        qualifier: qualifier(),
    });
    assert!(url.starts_with("'hearth url list shop'"), "{url}");
    for (problem, command) in [
        (Problem::NoLayer("numpy:3".into()), "'hearth layer list'"),
        (Problem::NoKey("k".into()), "'hearth key list'"),
        (
            Problem::NoDeadLetter("\" has no URL".into()),
            "'hearth dead-letters list'",
        ),
        (
            Problem::NoInvocation("i".into()),
            "'hearth invocations list NAME'",
        ),
    ] {
        let hint = hint(problem);
        assert!(hint.starts_with(command), "{hint}");
    }
}
