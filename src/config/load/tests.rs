//! Tests of `load` and, through it, of every check.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Store;

fn sources(
    file: Option<&Path>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Sources<Vec<(String, String)>> {
    let owned = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        pairs.collect()
    };
    Sources {
        file: file.map(Path::to_owned),
        environment: owned(environment),
        flags: owned(flags),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("is written");
    file
}

/// What `--set key=value` alone makes.
fn set(key: &str, value: &str) -> Result<Config, Faults> {
    load(sources(None, &[], &[(key, value)]))
}

fn faults(text: &str) -> Vec<String> {
    let file = file(text);
    let found = load(sources(Some(file.path()), &[], &[])).expect_err("has faults");
    let path = file.path().display().to_string();
    let found = found.0.iter().map(ToString::to_string);
    found.map(|fault| fault.replace(&path, "FILE")).collect()
}

#[test]
fn the_defaults_pass_their_own_checks() {
    let config = load(sources(None, &[], &[])).expect("no faults");
    assert_eq!(
        config.server.listen,
        SocketAddr::from(([127, 0, 0, 1], 8080))
    );
    assert_eq!(config.server.threads, None);
    assert_eq!(config.store, Store::Embedded);
    assert_eq!(config.pool.memory_budget, None);
    assert_eq!(config.pool.keep_alive, Duration::from_secs(600));
    assert_eq!(config.logs.line_bytes, 16 * 1024);
}

#[test]
fn the_shipped_files_are_valid() {
    let defaults = load(sources(None, &[], &[])).expect("no faults");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let load = |name| load(sources(Some(&folder.join(name)), &[], &[])).expect("no faults");
    assert_eq!(load("default.toml"), defaults);
    assert_ne!(load("dev.toml"), defaults);
    assert_ne!(load("bench.toml"), defaults);
}

#[test]
fn the_later_source_wins() {
    let file = file("[server]\nlisten = '127.0.0.1:1'\nthreads = 1\n[engine]\nlanes = 1\n");
    let environment = [
        ("HEARTH_SERVER_LISTEN", "127.0.0.1:2"),
        ("HEARTH_SERVER_THREADS", "2"),
    ];
    let flags = [
        ("server.listen", "127.0.0.1:3"),
        ("server.listen", "127.0.0.1:4"),
    ];
    let config = load(sources(Some(file.path()), &environment, &flags)).expect("no faults");
    assert_eq!(config.server.listen.port(), 4);
    assert_eq!(config.server.threads, Some(2));
    assert_eq!(config.engine.lanes, 1);
}

#[test]
fn the_environment_can_name_the_file_and_a_flag_another() {
    let (named, given) = (file("[engine]\nlanes = 7\n"), file("[engine]\nlanes = 8\n"));
    let environment = [("HEARTH_CONFIG", named.path().to_str().expect("is text"))];
    let lanes = |file| {
        let config = load(sources(file, &environment, &[])).expect("no faults");
        config.engine.lanes
    };
    assert_eq!(lanes(None), 7);
    assert_eq!(lanes(Some(given.path())), 8);
}

#[test]
fn all_faults_come_at_once_and_say_where() {
    let file = file("[server]\nlisten = 'localhost'\nlistn = ''\n[pool]\nstem_min = '3'\n");
    let environment = [("HEARTH_ENGINE_LANES", "0"), ("HEARTH_ENGINE_LANE", "1")];
    let flags = [
        ("limits.max_wait", "soon"),
        ("store.url", "http://127.0.0.1"),
    ];
    let found = load(sources(Some(file.path()), &environment, &flags)).expect_err("has faults");
    let text = found
        .to_string()
        .replace(&file.path().display().to_string(), "FILE");
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.remove(0), "the configuration has faults:");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "  engine.lanes (environment variable HEARTH_ENGINE_LANES): 0 is out of range, expected 1 to 64",
            "  environment variable HEARTH_ENGINE_LANE: sets no key; did you mean HEARTH_ENGINE_LANES?",
            "  limits.max_wait (command line): \"soon\" is no duration, expected one like 250ms, 30s, 10m or 1h",
            "  pool.stem_min (FILE:5): expected a whole number, found string",
            "  server.listen (FILE:2): \"localhost\" is not an address, expected IP:PORT like 127.0.0.1:8080",
            "  server.listn (FILE:3): no such key; did you mean server.listen?",
            "  store.url (command line): http:// is no store, expected \"embedded\", redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://…, redis+unix:///PATH, redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB] or redis+cluster://[USER:PASSWORD@]HOST[:PORT],…",
        ]
    );
}

#[test]
fn what_is_no_key_is_refused() {
    assert_eq!(
        faults("[sever]\nlisten = ''"),
        ["sever.listen (FILE:2): no such key; did you mean server.listen?"]
    );
    assert_eq!(faults("\n[colour]"), ["colour (FILE:2): no such key"]);
    assert_eq!(
        faults("server = 1"),
        ["server (FILE:1): is a section, expected a key in it"]
    );
    assert_eq!(
        faults("server.listen.a = 1"),
        ["server.listen.a (FILE:1): no such key; did you mean server.listen?"]
    );
    assert_eq!(faults("'server.listen' = 1").len(), 1);
    assert_eq!(
        faults("[server]\nlisten = [1]"),
        ["server.listen (FILE:2): expected a string, found array"]
    );
    assert!(
        load(sources(Some(file("[server]").path()), &[], &[])).is_ok(),
        "an empty section is fine"
    );
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let found = faults("[server]\nlisten = \n[pool\n");
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("FILE:2: not TOML: "), "{found:?}");
    let big = faults("[engine]\nlanes = 99999999999999999999");
    assert!(big[0].starts_with("FILE:2: "), "{big:?}");
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let found = load(sources(Some(Path::new("/nowhere/hearth.toml")), &[], &[]));
    let text = found.expect_err("no such file").to_string();
    assert!(
        text.contains("/nowhere/hearth.toml: cannot be read"),
        "{text}"
    );
}

#[test]
fn ranges_hold() {
    for (key, bad) in [
        ("engine.lanes", "65"),
        ("server.max_connections", "-1"),
        ("server.threads", "-1"),
        ("server.header_timeout", "0s"),
        ("server.body_timeout", "-1s"),
        ("pool.keep_alive", "10000h"),
        ("pool.memory_budget_mb", "99999999999"),
        ("limits.concurrency", "0"),
        ("limits.line_depth", "0"),
        ("worker.user", "0"),
        ("worker.group", "4294967295"),
        ("worker.pids", "1"),
        ("worker.tmp_mb", "0"),
        ("worker.cpu_floor_cores", "NaN"),
        ("worker.cpu_floor_cores", "-0.5"),
        ("worker.cpu_floor_cores", "64.5"),
        ("worker.code_path_roots", "/ok,relative"),
        ("worker.code_path_watch", "yes"),
        ("aws.destinations", "queue=function:f"),
        (
            "aws.destinations",
            "arn:aws:sqs:us-east-1:000000000000:q=nowhere",
        ),
        ("aws.destinations", "arn:a=function:f"),
        ("aws.destinations", "arn:aws:sns:us-east-1:1:a=function:f"),
        (
            "aws.destinations",
            "arn:aws:sns:us-east-1:000000000000:=function:f",
        ),
        (
            "aws.destinations",
            "arn:aws:sns:::a=function:f,arn:aws:sns:::a=function:g",
        ),
        (
            "aws.destinations",
            "arn:aws:sns:::a=function:f,arn:aws:sns:::b=function:f",
        ),
        ("aws.destinations", "arn:aws:sns:::a=arn:aws:sqs"),
        // No service has it.
        (
            "aws.destinations",
            "arn:aws:sns:::a=arn:aws:sqs:us-east-1:000000000000:q",
        ),
        ("images.allowed", "team/*,a b"),
        ("log.format", "xml"),
        ("log.level", "loud"),
        ("store.url", "memory"),
        ("engine.socket", "unix:///var/run/docker.sock"),
        ("state.dir", ""),
        ("aws.url_domain", ""),
        ("aws.url_domain", "Example.org"),
        ("aws.url_domain", "example.org:80"),
        ("aws.url_domain", "a..b"),
        ("aws.url_domain", "-a"),
        ("aws.url_form", "both"),
        ("no.such", "1"),
    ] {
        let found = set(key, bad).expect_err(key).0;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key.as_deref(), Some(key));
    }
    for (key, good) in [
        ("worker.cpu_floor_cores", "0"),
        ("worker.cpu_floor_cores", "64"),
        ("worker.code_path_roots", ""),
        (
            "aws.destinations",
            "arn:aws:sqs:us-east-1:000000000000:q=https://example.org/?a=b,arn:aws:sns:::b=function:f:live",
        ),
        ("images.allowed", "team/*,host:5000/app:?"),
        ("pool.cancel_grace", "0ms"),
        ("pool.abandoned_grace", "15m"),
        ("server.drain_grace", "0s"),
        ("pool.memory_budget_mb", "2048"),
        ("aws.url_domain", "functions.example.org"),
        ("aws.url_form", "path"),
    ] {
        assert!(set(key, good).is_ok(), "{key} = {good}");
    }
}

#[test]
fn code_is_watched_on_a_developers_machine_unless_said_otherwise() {
    let watched = |given: &[(&str, &str)]| {
        load(sources(None, &[], given))
            .expect("good")
            .watches_code_paths()
    };
    let (public, shared) = (("server.listen", "0.0.0.0:80"), ("store.url", "redis://h"));
    let switch = |to| ("worker.code_path_watch", to);
    assert!(watched(&[]));
    assert!(!watched(&[public]));
    assert!(!watched(&[shared]));
    assert!(!watched(&[switch("off")]));
    assert!(watched(&[public, shared, switch("on")]));
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let found = set("pool.stem_min", "9").expect_err("more than the maximum");
    assert_eq!(
        found.0[0].to_string(),
        "pool.stem_min (command line): 9 is more than pool.stem_max, which is 8 (the default)"
    );
    assert!(
        load(sources(
            None,
            &[],
            &[("pool.stem_min", "9"), ("pool.stem_max", "9")]
        ))
        .is_ok()
    );
    // The maximum that was meant is not known, so only its own fault is told.
    let flags = [("pool.stem_min", "9"), ("pool.stem_max", "many")];
    assert_eq!(
        load(sources(None, &[], &flags))
            .expect_err("no number")
            .0
            .len(),
        1
    );
    assert!(set("logs.line_kb", "1024").is_ok());
    assert!(set("logs.keep_kb", "8").is_err());
}

#[test]
fn other_peoples_variables_are_left_alone() {
    let environment = [
        ("PATH", "/bin"),
        ("HEARTHSTONE", "x"),
        ("HEARTH_URL", "http://127.0.0.1:8080"),
        ("HEARTH_KEY", "k"),
        ("HEARTH_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("HEARTH_SERVICE_HOST", "10.0.0.1"),
    ];
    assert!(load(sources(None, &environment, &[])).is_ok());
    let config = load(sources(None, &[("HEARTH_STATE_DIR", "/s")], &[])).expect("no faults");
    assert_eq!(config.state_dir, Path::new("/s"));
    assert!(load(sources(None, &[("HEARTH_STATE_DIR", "/\u{fffd}")], &[])).is_err());
}

#[test]
fn a_reserved_variable_is_no_key() {
    let values = Values::defaults();
    for entry in values.entries() {
        let name = entry.variable();
        assert!(
            !RESERVED.contains(&name.as_str()) && !injected(&name),
            "{name}"
        );
    }
}

#[test]
fn set_flags_split_at_the_first_equals_sign() {
    let split = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
    assert_eq!(
        pair("log.level=hearth=debug"),
        split("log.level", "hearth=debug")
    );
    assert_eq!(pair("log.level="), split("log.level", ""));
    assert!(pair("log.level").is_err());
}

#[test]
fn a_store_for_code_is_whole_or_not_there() {
    let none = load(sources(None, &[], &[("aws.s3.access_key", "k")])).expect("no faults");
    assert_eq!(none.aws.s3, None);
    let flags = [
        ("aws.region", "eu-west-3"),
        ("aws.s3.endpoint", "http://127.0.0.1:9000/"),
        ("aws.s3.access_key", "k"),
    ];
    let secret = [("HEARTH_AWS_S3_SECRET_KEY", "hidden")];
    let config = load(sources(None, &secret, &flags)).expect("no faults");
    assert!(!format!("{config:?}").contains("hidden"));
    let s3 = config.aws.s3.expect("is there").service;
    assert_eq!(s3.endpoint, "http://127.0.0.1:9000");
    assert_eq!(
        (s3.region.as_str(), s3.secret_key.as_str()),
        ("eu-west-3", "hidden")
    );
    let found = load(sources(None, &[], &flags)).expect_err("has faults");
    let found: Vec<_> = found.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["aws.s3.secret_key (the default): is empty, but aws.s3.endpoint is given"]
    );
}

#[test]
fn a_service_for_queues_is_whole_or_not_there() {
    let none = load(sources(None, &[], &[("aws.sqs.parallel", "7")])).expect("no faults");
    assert_eq!(none.aws.sqs, None);
    let flags = [
        ("aws.sqs.endpoint", "http://127.0.0.1:9324/"),
        ("aws.sqs.region", "eu-west-1"),
    ];
    let keys = [
        ("HEARTH_AWS_SQS_ACCESS_KEY", "k"),
        ("HEARTH_AWS_SQS_SECRET_KEY", "hidden"),
    ];
    let config = load(sources(None, &keys, &flags)).expect("no faults");
    assert!(!format!("{config:?}").contains("hidden"));
    let sqs = config.aws.sqs.expect("is there");
    assert_eq!(sqs.service.endpoint, "http://127.0.0.1:9324");
    assert_eq!(
        (sqs.service.region.as_str(), sqs.parallel),
        ("eu-west-1", 5)
    );
    let found = load(sources(None, &[], &flags)).expect_err("has faults");
    let found: Vec<_> = found.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "aws.sqs.access_key (the default): is empty, but aws.sqs.endpoint is given",
            "aws.sqs.secret_key (the default): is empty, but aws.sqs.endpoint is given"
        ]
    );
    let few = load(sources(None, &[], &[("aws.sqs.parallel", "0")]));
    assert!(few.is_err());
}

#[test]
fn the_dump_names_the_origin_of_what_differs() {
    let file = file("[server]\nthreads = 3\n");
    let environment = [("HEARTH_LOG_FORMAT", "json")];
    let flags = [("worker.code_path_roots", "/a,/b")];
    let loaded = read(sources(Some(file.path()), &environment, &flags)).expect("no faults");
    let text = dump(&loaded.values);
    for line in [
        "listen = \"127.0.0.1:8080\"\n",
        &format!("threads = 3 # {}:2\n", file.path().display()),
        "format = \"json\" # environment variable HEARTH_LOG_FORMAT\n",
        "code_path_roots = [\"/a\", \"/b\"] # command line\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
}

/// Valid values for keys of every type.
fn overrides() -> impl Strategy<Value = Vec<(String, String)>> {
    let one = prop_oneof![
        (1..=64u32).prop_map(|n| ("engine.lanes", n.to_string())),
        (0..=8u32).prop_map(|n| ("pool.stem_min", n.to_string())),
        (8..=1000u32).prop_map(|n| ("pool.stem_max", n.to_string())),
        (1..=1_000_000u64).prop_map(|ms| ("limits.max_wait", format!("{ms}ms"))),
        (0.0..=64.0f64).prop_map(|n| ("worker.cpu_floor_cores", n.to_string())),
        any::<u16>().prop_map(|port| ("server.listen", format!("[::1]:{port}"))),
        // Any text at all, control characters included: the dump has to quote it.
        "\\PC{1,20}|[\\x00-\\x1f\"\\\\'#]{1,9}"
            .prop_filter("a URL", |t| !t.contains("://"))
            .prop_map(|text| ("state.dir", text)),
        prop::collection::vec("/[a-z \"\\\\#é]{0,8}", 0..4).prop_map(|roots| {
            let list = toml::Value::from(roots);
            ("worker.code_path_roots", list.to_string())
        }),
    ];
    let owned = one.prop_map(|(key, value)| (key.to_owned(), value));
    prop::collection::vec(owned, 0..12)
}

proptest! {
    #[test]
    fn a_dump_loads_as_the_same_configuration(flags in overrides()) {
        let no_variables = Vec::new();
        let given = Sources { file: None, environment: no_variables, flags };
        let first = read(given).expect("only valid values were given");
        let file = file(&dump(&first.values));
        let second = read(sources(Some(file.path()), &[], &[])).expect("a dump is valid");
        prop_assert_eq!(first.config, second.config);
    }
}
