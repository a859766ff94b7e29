//! How long a call takes over the bare socket: a measurement to be run by hand, on an idle machine, in release.
//!
//! `cargo test --release --test contract round_trip -- --ignored --nocapture`

use std::time::Instant;

use anyhow::{Result, ensure};
use hearth::worker::frame::Kind;

use crate::case::Case;
use crate::play;
use crate::worker::{Place, Worker};

const WARM_UP: u32 = 2_000;
const CALLS: u32 = 20_000;
const PAYLOAD: &[u8] = br#"{"name":"Ada","numbers":[1,2,3],"text":"hello world"}"#;

#[test]
#[ignore = "a measurement, not a check"]
fn round_trip_times() -> Result<()> {
    for manifest in crate::runtimes()? {
        let case = Case::of_handler("latency", "contract.echo");
        let mut worker = Worker::start(&manifest, Place::Bare, "contract", None)?;
        play::specialise(&mut worker, &case)?;
        let mut micros = Vec::new();
        for stream in 1..=WARM_UP + CALLS {
            let id = "01234567-89ab-cdef-0123-456789abcdef";
            let body = play::invoke_body(id, u64::MAX, "", PAYLOAD)?;
            let begun = Instant::now();
            worker.send(Kind::Invoke, stream, &body)?;
            let answer = worker.receive()?;
            micros.push(begun.elapsed().as_nanos() as f64 / 1000.0);
            ensure!(
                answer.kind == Kind::ResponseEnd && answer.body == PAYLOAD,
                "another answer"
            );
        }
        let mut micros = micros.split_off(WARM_UP as usize);
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[(micros.len() as f64 * share) as usize];
        println!(
            "{}: {CALLS} calls, µs: p50 {:.1}, p90 {:.1}, p99 {:.1}",
            manifest.id,
            at(0.5),
            at(0.9),
            at(0.99)
        );
    }
    Ok(())
}
