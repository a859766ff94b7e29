//! What is said of engines of every kind. How one is asked is tested with a socket; the answers of a real one are `tests/docker`'s.

use std::os::unix::net::UnixListener;

use super::*;
use crate::doctor::Verdict;

fn engine(version: &str, api: &str) -> Description {
    Description {
        name: "Docker".into(),
        version: version.into(),
        api_version: api.into(),
        cgroup_version: "2".into(),
        memory: 0,
        cpus: 1,
    }
}

#[test]
fn the_deadlock_is_in_20_10_before_its_fix_only() {
    let verdict = |version: &str, api: &str| judge_version(&engine(version, api)).verdict;
    assert_eq!(verdict("20.10.24+dfsg1", "1.41"), Verdict::Warning);
    assert_eq!(verdict("20.10.26", "1.41"), Verdict::Warning);
    assert_eq!(verdict("20.10.27", "1.41"), Verdict::Good);
    assert_eq!(verdict("26.1.5+dfsg1", "1.45"), Verdict::Good);
    assert_eq!(verdict("19.03.8", "1.40"), Verdict::Warning);
    assert_eq!(verdict("dev", "1.53"), Verdict::Good);
    let told = judge_version(&engine("20.10.24", "1.41"));
    assert!(told.found.contains("46661") && told.mend.expect("a way").contains("20.10.27"));
}

#[test]
fn limits_that_are_missing_are_named() {
    let all = Survey {
        root: "/".into(),
        memory_limit: true,
        cpu_quota: true,
        pids_limit: true,
        swap_limit: true,
    };
    assert_eq!(judge_limits("2", &all).verdict, Verdict::Good);
    let no_swap = Survey {
        swap_limit: false,
        ..all.clone()
    };
    assert_eq!(judge_limits("1", &no_swap).verdict, Verdict::Warning);
    let none = judge_limits("1", &Survey::default());
    assert_eq!(none.verdict, Verdict::Bad);
    assert!(none.found.contains("memory, cpu, pids"), "{}", none.found);
}

#[test]
fn a_socket_is_missing_deserted_or_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    assert!(reach(&path).found.contains("there is no"));
    let listener = UnixListener::bind(&path).expect("bound");
    assert_eq!(reach(&path).verdict, Verdict::Good);
    drop(listener);
    let deserted = reach(&path);
    assert!(
        deserted.found.contains("nobody listens"),
        "{}",
        deserted.found
    );
    assert!(deserted.mend.expect("a way").contains("make up"));
}

#[test]
fn a_wedged_engine_is_told_from_one_that_refuses() {
    let timeout = Error::Timeout {
        operation: "info",
        after: Duration::from_secs(5),
    };
    assert!(judge_answer(Some(&timeout)).found.contains("wedged"));
    let refused = Error::Refused {
        operation: "info",
        reason: "no".into(),
    };
    let refused = judge_answer(Some(&refused));
    assert_eq!(refused.verdict, Verdict::Bad);
    assert!(!refused.found.contains("wedged"));
}

#[test]
fn an_image_is_built_can_be_built_or_needs_its_base() {
    let judge = |built, base| judge_image("image", "tag", "base", Ok(built), Ok(base));
    assert_eq!(judge(true, false).verdict, Verdict::Good);
    assert_eq!(judge(false, true).verdict, Verdict::Warning);
    assert!(
        judge(false, false)
            .mend
            .expect("a way")
            .contains("docker pull base")
    );
}

#[test]
fn a_folder_without_runtimes_is_bad() {
    let dir = tempfile::tempdir().expect("a directory");
    let finding = runtimes(dir.path(), Catalog::read(dir.path()));
    assert_eq!(finding.verdict, Verdict::Bad);
    let gone = dir.path().join("gone");
    let finding = runtimes(&gone, Catalog::read(&gone));
    assert!(finding.found.contains("gone"), "{}", finding.found);
    assert!(finding.mend.expect("a way").contains("--runtimes"));
}
