//! Processor time of a process, as the kernel counts it.

use std::time::Duration;

use anyhow::Context;

/// The kernel counts for programs in hundredths of a second, on every machine Linux runs on.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all its threads so far, ended ones too.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} is gone"))?;
    // The name, in brackets, may hold anything; what follows it are numbers.
    let (_, rest) = text.rsplit_once(')').context("a line of /proc/*/stat")?;
    let field = |n: usize| rest.split_whitespace().nth(n)?.parse::<u32>().ok();
    let (user, system) = (field(11), field(12));
    Ok(TICK * user.zip(system).map(|(u, s)| u + s).context("two times")?)
}
