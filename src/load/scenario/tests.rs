//! Scenarios as people write them: what is taken, what is refused and for which field, and every file of this repository.

use super::*;

fn check(text: &str) -> Result<Scenario, Error> {
    Raw::parse(text).expect("TOML").check(Path::new("."))
}

/// The fields that are wrong.
fn refused(text: &str) -> Vec<String> {
    match check(text) {
        Err(Error::Faults(Faults(faults))) => faults.into_iter().map(|(field, _)| field).collect(),
        other => unreachable!("{other:?}"),
    }
}

const HELLO: &str = "[[function]]\nname = \"hello\"\n";

#[test]
fn every_scenario_of_this_repository_is_good() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("there are scenarios") {
        let path = entry.expect("listable").path();
        if path.extension().is_some_and(|e| e == "toml") {
            let scenario = Raw::read(&path).and_then(|raw| raw.check(&directory));
            assert!(!scenario.expect("good").functions.is_empty(), "{path:?}");
            count += 1;
        }
    }
    assert!(count >= 5, "{count} scenarios");
}

#[test]
fn a_scenario_means_what_it_says() {
    let scenario = check(&format!(
        "rate = 100\nlength = \"2s\"\narrivals = \"constant\"\nfail_if = [\"p99>20ms\"]\n{HELLO}weight = 3\n\
         [[function]]\nname = \"other\"\npayload_bytes = 1000\n"
    ))
    .expect("good");
    let Load::Open { arrivals, plan } = &scenario.load else {
        unreachable!("{:?}", scenario.load)
    };
    assert_eq!(*arrivals, "constant");
    assert!(plan.len().abs_diff(200) <= 1);
    assert_eq!(scenario.connections, 64);
    assert_eq!(scenario.functions[1].payload.len(), 1000);
    assert!(serde_json::from_slice::<String>(&scenario.functions[1].payload).is_ok());
    assert_eq!(scenario.thresholds.len(), 1);

    let closed = check(&format!("connections = 8\ncalls = 50\n{HELLO}")).expect("good");
    assert!(matches!(closed.load, Load::Closed { most: 50 }));
    let ramp = check(&format!(
        "{HELLO}[[step]]\nrate = 0\nto = 100\nlength = \"2s\"\n[[step]]\nrate = 500\nlength = \"500ms\"\n"
    ))
    .expect("good");
    assert_eq!(ramp.length, Duration::from_millis(2_500));
    assert!(matches!(
        ramp.load,
        Load::Open {
            arrivals: "poisson",
            ..
        }
    ));
}

#[test]
fn everything_wrong_is_said_with_its_field() {
    let all = refused(
        "arrivals = \"sometimes\"\nconnections = 0\nlength = \"soon\"\nwarm_up = \"1\"\ntimeout = \"0s\"\ncalls = 0\n\
         fail_if = [\"p99>20\", \"nobody:p50>1s\"]\n\
         [[function]]\nname = \"\"\nweight = 0\npayload = \"{\"\n\
         [[function]]\nname = \"a\"\npayload = \"1\"\npayload_bytes = 7\n",
    );
    for field in [
        "arrivals",
        "connections",
        "length",
        "warm_up",
        "timeout",
        "calls",
        "fail_if[0]",
        "fail_if[1]",
        "function[0].name",
        "function[0].weight",
        "function[0].payload",
        "function[1].payload",
    ] {
        assert!(all.iter().any(|f| f == field), "{field} in {all:?}");
    }
    assert_eq!(refused(""), ["function"]);
    assert_eq!(
        refused(&format!("arrivals = \"poisson\"\n{HELLO}")),
        ["rate"]
    );
    assert_eq!(refused(&format!("rate = -1\n{HELLO}")), ["rate"]);
    assert_eq!(
        refused(&format!("rate = 1e6\nlength = \"1h\"\n{HELLO}")),
        ["rate"]
    );
    assert_eq!(
        refused(&format!("rate = 5\narrivals = \"closed\"\n{HELLO}")),
        ["rate"]
    );
    assert_eq!(
        refused(&format!("{HELLO}[trace]\nfile = \"/nowhere\"\n")),
        ["trace.file"]
    );
    assert_eq!(
        refused(&format!("{HELLO}[trace]\nfile = \"x\"\nspeed = 0\n")),
        ["trace.speed"]
    );
    assert_eq!(
        refused(&format!("{HELLO}[[step]]\nrate = 1\nlength = \"\"\n")),
        ["step[0].length"]
    );
    assert_eq!(
        refused(&format!(
            "length = \"1s\"\n{HELLO}[[step]]\nrate = 1\nlength = \"9s\"\n"
        )),
        ["length"]
    );
    assert_eq!(refused(&format!("{HELLO}{HELLO}")), ["function[1].name"]);
}

#[test]
fn unknown_fields_are_named() {
    for (text, part) in [
        ("lenght = \"1s\"", "lenght"),
        ("[[function]]\nnmae = \"x\"", "nmae"),
        ("[[step]]\nrates = 1", "rates"),
        ("connections = \"many\"", "connections"),
    ] {
        let refused = Raw::parse(text).expect_err("unknown");
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = Raw::parse(&format!(
        "title = \"t\"\nconnections = 3\nfail_if = [\"errors>0\"]\n{HELLO}[[step]]\nrate = 1\nlength = \"9s\"\n"
    ))
    .expect("TOML");
    let flags = Raw {
        rate: Some(50.0),
        length: Some("1s".into()),
        fail_if: vec!["p99>1s".into()],
        ..Raw::default()
    };
    let scenario = file.with(flags).check(Path::new(".")).expect("good");
    assert_eq!((scenario.title.as_str(), scenario.connections), ("t", 3));
    assert_eq!(scenario.length, Duration::from_secs(1));
    assert_eq!(scenario.thresholds.len(), 2);
    assert_eq!(scenario.functions[0].name, "hello");
}

#[test]
fn a_trace_is_replayed_from_beside_its_scenario() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorded = "func_name,invoke_time_ms\na,0\nb,1000\na,8000\n";
    std::fs::write(directory.path().join("t.csv"), recorded).expect("written");
    let text = format!("length = \"2s\"\n{HELLO}[trace]\nfile = \"t.csv\"\nspeed = 2\n");
    let scenario = Raw::parse(&text)
        .expect("TOML")
        .check(directory.path())
        .expect("good");
    let Load::Open { plan, .. } = scenario.load else {
        unreachable!("an open loop")
    };
    let times: Vec<_> = plan
        .iter()
        .map(|a| (a.at.as_millis(), a.function))
        .collect();
    assert_eq!(times, [(0, 0), (500, 1)]);
}
