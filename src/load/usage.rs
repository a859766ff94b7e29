//! Processor time of a process, as the kernel accounts for it: every thread it has and had, in nanoseconds. On a machine that is
//! shared this is the steadiest figure of what a call costs. Asks the process's CPU clock, which any process may read.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// User and system time of all its threads so far, ended ones too. An error when there is no such process.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(|_too_large| io::ErrorKind::InvalidInput)?;
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(Duration::from(clock.now()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_by_process() {
        let own = std::process::id();
        let before = processor_time(own).expect("this process");
        let mut sum = 0u64;
        for n in 0..200_000u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
        let after = processor_time(own).expect("this process");
        assert!(after > before, "{before:?} {after:?}");
        assert!(processor_time(u32::MAX).is_err());
        assert!(processor_time(0x3fff_fff0).is_err(), "no such process");
    }
}
