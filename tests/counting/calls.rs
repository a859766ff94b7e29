//! System calls of this process while something happens, by name: strace is attached to it, and says when it is let go.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Counts the threads that there are now, but for the caller's: that one starts the program that sends the calls, which would be followed
/// and counted with strace's -f.
pub(crate) fn during(work: impl FnOnce()) -> BTreeMap<String, u64> {
    let directory = tempfile::tempdir().unwrap();
    let summary = directory.path().join("summary");
    let own = nix::unistd::gettid().to_string();
    let threads: Vec<_> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|thread| thread.unwrap().file_name().into_string().unwrap())
        .filter(|thread| *thread != own)
        .collect();
    let mut strace = Command::new("strace")
        .args(["-c", "-p", &threads.join(","), "-o"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed; scripts/setup.sh sees to it");
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    // "strace: Process N attached", for each of them: from then on it is counted.
    for _ in &threads {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let attached = line.contains("attached") || line.contains("No such process");
        assert!(attached, "strace cannot attach: {line}");
    }
    // What else it says must not fill the pipe.
    let rest = std::thread::spawn(move || said.lines().count());
    work();
    kill(
        Pid::from_raw(strace.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    strace.wait().unwrap();
    rest.join().unwrap();
    let text = std::fs::read_to_string(summary).unwrap();
    let counted: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    assert!(!counted.is_empty(), "strace counted nothing:\n{text}");
    counted
}

/// `% time, seconds, usecs/call, calls, [errors,] name`
fn line(text: &str) -> Option<(String, u64)> {
    let columns: Vec<_> = text.split_whitespace().collect();
    let (name, calls) = (columns.last()?, columns.get(3)?);
    columns[0].parse::<f64>().ok()?;
    (*name != "total").then_some(((*name).to_owned(), calls.parse().ok()?))
}
