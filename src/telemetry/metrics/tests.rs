//! What is shown of single functions. The rest is `recorder`'s.

use super::*;

fn meters(family: &Family<Series>, function: &str) -> FunctionMeters {
    FunctionMeters {
        series: family.of(function, OTHER).1,
        queue: Histogram::noop(),
    }
}

#[test]
fn the_page_of_functions_says_of_each_what_it_counted() {
    let family = Family::new(FUNCTION_LABELS);
    let (f, g) = (meters(&family, "f"), meters(&family, "g"));
    let phases = Phases {
        run: Duration::from_secs(1),
        ..Phases::default()
    };
    let whole = Duration::from_secs(2);
    for _ in 0..2 {
        f.called(Some(StartKind::Warm), None, whole, &phases);
    }
    f.called(None, Some(Blame::Client), whole, &phases);
    g.called(Some(StartKind::Stem), Some(Blame::Function), whole, &phases);
    g.called(Some(StartKind::Cold), Some(Blame::Platform), whole, &phases);
    for (at, reason) in Throttle::ALL.into_iter().enumerate() {
        for _ in 0..=at {
            g.throttled(reason);
        }
    }
    let page = of_functions(describe(), &family.shown(crate::clock::now()));
    let page = String::from_utf8(Format::Text.write(&page)).expect("is text");
    let lines = page.lines().filter(|line| !line.contains("_bucket{"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    # HELP hearth_invocations_total Calls by function, start kind and outcome (ok, or who is to blame).
    # TYPE hearth_invocations_total counter
    hearth_invocations_total{function="f",start="warm",outcome="ok"} 2
    hearth_invocations_total{function="f",start="none",outcome="client"} 1
    hearth_invocations_total{function="g",start="stem",outcome="function"} 1
    hearth_invocations_total{function="g",start="cold",outcome="platform"} 1

    # HELP hearth_throttles_total Calls refused by a limit, by function and reason.
    # TYPE hearth_throttles_total counter
    hearth_throttles_total{function="g",reason="function_concurrency"} 1
    hearth_throttles_total{function="g",reason="reserved_concurrency"} 2
    hearth_throttles_total{function="g",reason="unreserved_concurrency"} 3
    hearth_throttles_total{function="g",reason="account_concurrency"} 4
    hearth_throttles_total{function="g",reason="line_full"} 5

    # HELP hearth_invocation_seconds Whole calls, arrival to answer, by function and start kind.
    # TYPE hearth_invocation_seconds histogram
    hearth_invocation_seconds_sum{function="f",start="warm"} 4
    hearth_invocation_seconds_count{function="f",start="warm"} 2
    hearth_invocation_seconds_sum{function="g",start="stem"} 2
    hearth_invocation_seconds_count{function="g",start="stem"} 1
    hearth_invocation_seconds_sum{function="g",start="cold"} 2
    hearth_invocation_seconds_count{function="g",start="cold"} 1

    # HELP hearth_run_seconds Time handlers ran, by function.
    # TYPE hearth_run_seconds histogram
    hearth_run_seconds_sum{function="f"} 2
    hearth_run_seconds_count{function="f"} 2
    hearth_run_seconds_sum{function="g"} 2
    hearth_run_seconds_count{function="g"} 2
    "#);
}
