//! What a deploy sends: the runtime, the handler and the fields that change. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cli::deploy::{Args, Optional, Runtime, shown};
use crate::cli::error::Error;
use crate::cli::package::Code;

/// The body of the request, and what the caller should know about how it came to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub body: Value,
    pub notes: Vec<String>,
}

pub(super) fn plan(
    args: &Args,
    name: &str,
    code: &Code,
    runtimes: &[Runtime],
    before: Option<&Value>,
) -> Result<Plan, Error> {
    let mut notes = Vec::new();
    let mut body = Map::new();
    match before {
        None => body.insert("name".into(), name.into()),
        // Made from this revision, or not at all: somebody else may be deploying too.
        Some(before) => body.insert("revision".into(), before["revision"].clone()),
    };
    let source = match code {
        Code::Text { text, .. } => ("code", json!({ "inline": text })),
        Code::Zip(zip) => ("code", json!({ "zip": STANDARD.encode(&zip.bytes) })),
        Code::Image(image) => ("image", image.clone()),
    };
    // An image has its own.
    if !matches!(code, Code::Image(_)) {
        let runtime = runtime(args, code, runtimes, before, &mut notes)?;
        let handler = handler(args, code, runtime, before);
        notes.extend(missing_source(code, runtime, &handler));
        body.insert("language".into(), runtime.id.clone().into());
        body.insert("handler".into(), handler.into());
    }
    body.insert(source.0.into(), source.1);
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(field.into(), value);
        }
    };
    set("memory", args.memory.map(Value::from));
    set("timeout", args.timeout.map(Value::from));
    set("description", args.description.clone().map(Value::from));
    set("network", args.network.clone().map(Value::from));
    let concurrency = args.max_concurrency.clone();
    set(
        "max_concurrency",
        concurrency.map(|Optional(n)| n.map_or(Value::Null, Value::from)),
    );
    let reserved = args.reserved_concurrency.clone();
    set(
        "reserved_concurrency",
        reserved.map(|Optional(n)| n.map_or(Value::Null, Value::from)),
    );
    for (field, number) in [
        ("max_retries", &args.max_retries),
        ("max_event_age", &args.max_event_age),
    ] {
        let number = number.clone();
        set(
            field,
            number.map(|Optional(n)| n.map_or(Value::Null, Value::from)),
        );
    }
    for (field, to) in [
        ("on_success", &args.on_success),
        ("on_failure", &args.on_failure),
    ] {
        let to = to.clone();
        set(
            field,
            to.map(|Optional(to)| to.map_or(Value::Null, Value::from)),
        );
    }
    let route = args.route.clone();
    set(
        "route",
        route.map(|Optional(path)| path.map_or(Value::Null, Value::from)),
    );
    set(
        "environment",
        merged(before, "environment", &args.env, &args.unset_env),
    );
    set("tags", merged(before, "tags", &args.tag, &args.untag));
    Ok(Plan {
        body: Value::Object(body),
        notes,
    })
}

fn runtime<'a>(
    args: &Args,
    code: &Code,
    runtimes: &'a [Runtime],
    before: Option<&Value>,
    notes: &mut Vec<String>,
) -> Result<&'a Runtime, Error> {
    let find = |name: &str| {
        let by_name = |r: &&Runtime| r.id == name || r.names.iter().any(|n| n == name);
        runtimes.iter().find(by_name)
    };
    if let Some(name) = &args.runtime {
        let unknown = || {
            Error::Usage(format!(
                "there is no runtime {name:?}: {}",
                offered(runtimes)
            ))
        };
        return find(name).ok_or_else(unknown);
    }
    // What the function runs on already stays, and so does a name the server knows better than we do.
    let kept = before.and_then(|function| function["language"].as_str());
    if let Some(runtime) = kept.and_then(find) {
        return Ok(runtime);
    }
    let only = |fits: fn(&Runtime, &Code) -> bool| {
        let mut fitting = runtimes.iter().filter(|runtime| fits(runtime, code));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    match only(has_source).or_else(|| only(has_module)) {
        Some(runtime) => {
            notes.push(format!(
                "taken for {} by its files; --runtime says otherwise",
                runtime.id
            ));
            Ok(runtime)
        }
        None => Err(Error::Usage(format!(
            "cannot tell the runtime from {}; name it with --runtime: {}",
            args.path.as_deref().map_or_else(String::new, shown),
            offered(runtimes)
        ))),
    }
}

/// Whether these are files as the runtime's template has them.
fn has_source(runtime: &Runtime, code: &Code) -> bool {
    match (code, &runtime.source_file, &runtime.source_extension) {
        (Code::Text { file, .. }, Some(program), _) => file == program,
        (Code::Zip(zip), Some(program), _) => zip.files.contains(program),
        (Code::Text { file, .. }, None, Some(wanted)) => extension(file) == Some(wanted),
        (Code::Zip(zip), None, Some(extension)) => {
            let (module, _) = split(&runtime.default_handler);
            zip.files.contains(&format!("{module}.{extension}"))
        }
        (Code::Image(_), ..) | (_, None, None) => false,
    }
}

/// Whether a file has at least the template's name: a runtime may take sources with several extensions.
fn has_module(runtime: &Runtime, code: &Code) -> bool {
    let (module, _) = split(&runtime.default_handler);
    match code {
        _ if runtime.source_file.is_some() => false,
        Code::Text { .. } | Code::Image(_) => false,
        Code::Zip(zip) => zip.files.iter().any(|file| split(file).0 == module),
    }
}

fn offered(runtimes: &[Runtime]) -> String {
    let show = |runtime: &Runtime| match runtime.names.first() {
        Some(name) => format!("{name} ({})", runtime.id),
        None => runtime.id.clone(),
    };
    let list: Vec<_> = runtimes.iter().map(show).collect();
    if list.is_empty() {
        return "the server has none".into();
    }
    format!("the server has {}", list.join(", "))
}

fn handler(args: &Args, code: &Code, runtime: &Runtime, before: Option<&Value>) -> String {
    if let Some(handler) = &args.handler {
        return handler.clone();
    }
    let kept = before.filter(|function| function["language"] == *runtime.id);
    if let Some(handler) = kept.and_then(|function| function["handler"].as_str()) {
        return handler.into();
    }
    match code {
        // The file keeps its name: `hello.x` is module `hello`.
        Code::Text { file, .. } if runtime.source_file.is_none() => {
            let (module, _) = split(file);
            let (_, function) = split(&runtime.default_handler);
            format!("{module}.{function}")
        }
        Code::Text { .. } | Code::Zip(_) | Code::Image(_) => runtime.default_handler.clone(),
    }
}

/// A warning when no file has the name the handler speaks of. Only a warning: a module may also be a directory, or be found by
/// rules of its runtime.
fn missing_source(code: &Code, runtime: &Runtime, handler: &str) -> Option<String> {
    let Code::Zip(zip) = code else {
        return None;
    };
    if let Some(program) = &runtime.source_file {
        let there = zip.files.is_empty() || zip.files.contains(program);
        return (!there).then(|| {
            format!(
                "no file in the package is called {program:?}, the program {} starts",
                runtime.id
            )
        });
    }
    let (module, _) = handler.rsplit_once('.')?;
    let as_path = module.replace('.', "/");
    let is_it = |file: &String| {
        let (stem, _) = split(file);
        stem == module || stem == as_path || file.starts_with(&format!("{as_path}/"))
    };
    if zip.files.is_empty() || zip.files.iter().any(is_it) {
        return None;
    }
    Some(format!(
        "no file in the package looks like the module {module:?} of handler {handler:?}; --handler names another"
    ))
}

/// The entries as they are, with some changed and some gone; `None` when nothing was asked.
fn merged(
    before: Option<&Value>,
    field: &str,
    set: &[(String, String)],
    unset: &[String],
) -> Option<Value> {
    if set.is_empty() && unset.is_empty() {
        return None;
    }
    let kept = before.and_then(|function| function[field].as_object());
    let mut entries = kept.cloned().unwrap_or_default();
    entries.retain(|key, _| !unset.contains(key));
    for (key, value) in set {
        entries.insert(key.clone(), value.clone().into());
    }
    Some(Value::Object(entries))
}

fn extension(file: &str) -> Option<&str> {
    file.rsplit_once('.').map(|(_, extension)| extension)
}

/// Around the last dot.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::package::Zip;

    fn runtimes() -> Vec<Runtime> {
        let runtime = |id: &str, names: [&str; 2], handler: &str, extension: &str| Runtime {
            id: id.into(),
            names: names.map(str::to_owned).into(),
            default_handler: handler.into(),
            source_extension: Some(extension.into()),
            source_file: None,
        };
        let program = Runtime {
            id: "own".into(),
            names: vec!["program".into()],
            default_handler: "start".into(),
            source_extension: None,
            source_file: Some("start".into()),
        };
        vec![
            runtime("abc3", ["abc", "a"], "app.handler", "abc"),
            runtime("xyz1.x", ["xyz", "x"], "index.run", "xyz"),
            program,
        ]
    }

    fn zip(files: &[&str]) -> Code {
        Code::Zip(Zip {
            bytes: b"PK".into(),
            files: files.iter().map(|f| (*f).to_owned()).collect(),
        })
    }

    fn text(file: &str) -> Code {
        Code::Text {
            file: file.into(),
            text: "source".into(),
        }
    }

    fn made(args: &Args, code: &Code, before: Option<&Value>) -> Plan {
        plan(args, "f", code, &runtimes(), before).expect("a plan")
    }

    #[test]
    fn a_new_function_gets_the_templates_handler() {
        let args = Args {
            runtime: Some("xyz".into()),
            ..Args::default()
        };
        let plan = made(&args, &zip(&["index.xyz"]), None);
        let want = json!({
            "name": "f", "language": "xyz1.x", "handler": "index.run", "code": {"zip": "UEs="},
        });
        assert_eq!(plan.body, want);
        assert!(plan.notes.is_empty());
    }

    #[test]
    fn the_files_tell_the_runtime_if_they_can() {
        let plan = made(&Args::default(), &text("hello.abc"), None);
        assert_eq!(plan.body["language"], "abc3");
        assert_eq!(plan.body["handler"], "hello.handler");
        assert_eq!(plan.body["code"], json!({"inline": "source"}));
        assert!(plan.notes[0].contains("abc3"));
        let plan = made(&Args::default(), &zip(&["index.xyz"]), None);
        assert_eq!(plan.body["language"], "xyz1.x");
        let plan = made(&Args::default(), &zip(&["index.other", "data"]), None);
        assert_eq!(plan.body["language"], "xyz1.x");
        let plan = made(&Args::default(), &zip(&["app.abc", "index.page"]), None);
        assert_eq!(plan.body["language"], "abc3");
        for code in [zip(&["app.abc", "index.xyz"]), text("hello.txt"), zip(&[])] {
            let refused = super::plan(&Args::default(), "f", &code, &runtimes(), None);
            let text = refused.expect_err("ambiguous").to_string();
            assert!(
                text.contains("--runtime") && text.contains("abc (abc3)"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_program_is_known_by_its_name_and_any_text_can_be_one() {
        for code in [text("start"), zip(&["start", "data"])] {
            let plan = made(&Args::default(), &code, None);
            assert_eq!(plan.body["language"], "own");
            assert_eq!(plan.body["handler"], "start");
        }
        let args = Args {
            runtime: Some("program".into()),
            ..Args::default()
        };
        let plan = made(&args, &text("hello.sh"), None);
        assert_eq!(plan.body["handler"], "start");
        assert!(plan.notes.is_empty());
        let notes = made(&args, &zip(&["hello.sh"]), None).notes;
        assert!(notes[0].contains("\"start\""), "{notes:?}");
    }

    #[test]
    fn an_image_is_asked_for_by_name_and_brings_the_rest_along() {
        let args = Args {
            image: Some("team/app:1".into()),
            command: vec!["app.handler".into()],
            memory: Some(256),
            ..Args::default()
        };
        let image = args.of_image().expect("an image");
        let want = json!({"uri": "team/app:1", "command": ["app.handler"]});
        assert_eq!(image, Code::Image(want.clone()));
        let plan = made(&args, &image, None);
        assert_eq!(
            plan.body,
            json!({"name": "f", "image": want, "memory": 256})
        );
        assert!(plan.notes.is_empty());
    }

    #[test]
    fn an_unknown_runtime_is_told_from_those_there_are() {
        let args = Args {
            runtime: Some("nope".into()),
            ..Args::default()
        };
        let refused = plan(&args, "f", &zip(&["a"]), &runtimes(), None);
        let text = refused.expect_err("unknown").to_string();
        assert!(
            text.contains("nope") && text.contains("xyz (xyz1.x)"),
            "{text}"
        );
    }

    #[test]
    fn an_update_keeps_what_was_not_named() {
        let before = json!({
            "id": "1", "name": "f", "revision": 7, "language": "xyz1.x", "handler": "main.go",
            "environment": {"A": "1", "B": "2"}, "tags": {"t": "1"},
        });
        let plan = made(
            &Args::default(),
            &zip(&["main.xyz", "app.abc"]),
            Some(&before),
        );
        let want = json!({
            "revision": 7, "language": "xyz1.x", "handler": "main.go", "code": {"zip": "UEs="},
        });
        assert_eq!(plan.body, want);
        let args = Args {
            env: vec![("C".into(), "3".into()), ("A".into(), String::new())],
            unset_env: vec!["B".into()],
            untag: vec!["t".into()],
            max_concurrency: Some(Optional(None)),
            reserved_concurrency: Some(Optional(Some(4))),
            max_retries: Some(Optional(Some(0))),
            on_failure: Some(Optional(Some("function:mend".into()))),
            on_success: Some(Optional(None)),
            route: Some(Optional(Some("/f".into()))),
            memory: Some(256),
            ..Args::default()
        };
        let body = made(&args, &zip(&["main.xyz"]), Some(&before)).body;
        assert_eq!(body["environment"], json!({"A": "", "C": "3"}));
        assert_eq!(body["tags"], json!({}));
        assert!(body.get("max_concurrency").is_some_and(Value::is_null));
        assert_eq!(body["reserved_concurrency"], 4);
        assert_eq!(body["max_retries"], 0);
        assert_eq!(body["on_failure"], "function:mend");
        assert_eq!(body.get("on_success"), Some(&Value::Null));
        assert_eq!(body.get("max_event_age"), None);
        assert_eq!(body["route"], "/f");
        assert_eq!(body["memory"], 256);
        assert!(body.get("timeout").is_none());
    }

    #[test]
    fn another_runtime_means_another_handler() {
        let before = json!({"revision": 1, "language": "xyz1.x", "handler": "main.go"});
        let args = Args {
            runtime: Some("abc".into()),
            ..Args::default()
        };
        let body = made(&args, &zip(&["app.abc"]), Some(&before)).body;
        assert_eq!(body["handler"], "app.handler");
    }

    #[test]
    fn a_handler_without_a_file_is_noticed() {
        let args = Args {
            runtime: Some("abc".into()),
            ..Args::default()
        };
        let notes = |files: &[&str]| made(&args, &zip(files), None).notes;
        assert!(notes(&["main.abc"])[0].contains("\"app\""));
        for found in ["app.abc", "app.other", "app/start.abc"] {
            assert!(notes(&[found]).is_empty(), "{found}");
        }
    }
}
