//! The targets under libFuzzer, which `FUZZ_TARGET` chooses from. One program for all of them, because linking it takes longer than
//! everything else about it.

#![no_main]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(name, _)| *name == wanted);
    match found {
        Some((_, target)) => *target,
        None => panic!("FUZZ_TARGET is {wanted:?}, which is no target"),
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
