//! That `scripts/flame.py` makes a flame graph of what perf prints: of a few samples as it prints them.

use std::io::Write;
use std::process::{Command, Stdio};

const PRINTED: &str = include_str!("flame.perf");

fn flame(what: &str, given: &str) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/flame.py");
    let mut child = Command::new("python3")
        .args([script, what])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is installed; scripts/setup.sh sees to it");
    // Less than a pipe holds, so that nobody waits for the other.
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(given.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (
        output.status.success(),
        String::from_utf8(output.stdout).expect("text"),
    )
}

/// Samples of one stack are one line, whatever thread they are of; names are without offset, hash, generics and traits; and a stack that
/// was not unwound to its beginning is not taken for one that begins there.
#[test]
fn samples_are_folded_by_stack() {
    let (done, folded) = flame("fold", PRINTED);
    assert!(done);
    let lines: Vec<_> = folded.lines().collect();
    assert_eq!(
        lines,
        [
            "hearth;_start;hearth::main 1",
            "tokio-rt-worker;(cut off);hearth::gateway::service::answer::{{closure}} 1",
            "tokio-rt-worker;__clone3;start_thread;hyper::proto::h1::conn::Conn::poll_flush;\
             tokio::net::tcp::stream::TcpStream::poll_write;tcp_sendmsg 2",
        ]
    );
}

/// Every frame is a box below the one that called it, as wide as its share; and nothing is drawn of nothing.
#[test]
fn a_frame_is_as_wide_as_its_share() {
    let (_, folded) = flame("fold", PRINTED);
    let (done, svg) = flame("draw", &folded);
    assert!(done);
    let boxes: Vec<_> = svg.lines().filter_map(drawn).collect();
    let find = |name: &str| {
        let found = boxes.iter().find(|b| b.title.starts_with(name));
        found.unwrap_or_else(|| panic!("no {name} in {svg}"))
    };
    // One for each frame, one for each thread, and what all stand on.
    assert_eq!(boxes.len(), 9 + 2 + 1, "{svg}");
    let all = find("all: 4 samples, 100.00 %");
    let sent = find("tcp_sendmsg: 2 samples, 50.00 %");
    let unknown = find("(cut off): 1 samples, 25.00 %");
    let worker = find("tokio-rt-worker: 3 samples, 75.00 %");
    assert!((sent.width * 2.0 - all.width).abs() < 2.0, "{svg}");
    assert!((unknown.width * 4.0 - all.width).abs() < 3.0, "{svg}");
    assert!(unknown.x >= worker.x && unknown.x + unknown.width <= worker.x + worker.width + 1.0);
    // Up is deeper: what all stand on is at the bottom.
    assert!(all.y > worker.y && worker.y > unknown.y && unknown.y > sent.y);
    let (done, _) = flame("draw", "");
    assert!(!done);
}

struct Drawn {
    title: String,
    x: f64,
    y: f64,
    width: f64,
}

fn drawn(line: &str) -> Option<Drawn> {
    let between = |from: &str, to: &str| {
        let rest = line.split_once(from)?.1;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let number = |name: &str| between(&format!(" {name}=\""), "\"")?.parse().ok();
    Some(Drawn {
        title: between("<title>", "</title>")?,
        x: number("x")?,
        y: number("y")?,
        width: number("width")?,
    })
}
