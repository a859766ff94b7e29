//! The targets of the fuzzer without the fuzzer: every input that is kept under `fuzz/corpus/`, and a number of changes made to them at
//! random, always the same ones. Runs on any toolchain with `cargo test`; what is led by coverage is `make fuzz`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy exempts test functions by itself, but not the functions they share"
)]

mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Changed inputs for each target. Some seconds in all.
const CHANGED: usize = 2_000;
/// A corpus that was lost would test nothing.
const KEPT_LEAST: usize = 8;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let list = std::fs::read_dir(folder.join(target)).expect("a corpus");
    let mut files: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

/// Runs a target; an input it does not survive is kept, and named.
fn survive(name: &str, target: targets::Target, input: &[u8]) {
    if catch_unwind(|| target(input)).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.crash"));
    std::fs::write(&path, input).unwrap();
    panic!("{name} does not survive {path:?}; keep it in fuzz/corpus/{name}/ once it does");
}

/// One of the changes fuzzers make: bits, bytes, numbers at their bounds, pieces that are lost, moved, or come from another input.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    const TELLING: [u8; 12] = [
        0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'/', b'%', b'.', b'\\',
    ];
    if input.is_empty() {
        input.push(random.random());
        return;
    }
    let at = random.random_range(0..input.len());
    let end = (at + random.random_range(1..64)).min(input.len());
    match random.random_range(0..7) {
        0 => input[at] ^= 1 << random.random_range(0..8),
        1 => input[at] = TELLING[random.random_range(0..TELLING.len())],
        2 => input.insert(at, TELLING[random.random_range(0..TELLING.len())]),
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let to = (from + random.random_range(1..64)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            let number = [0u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX][random.random_range(0..5)];
            for (place, byte) in input[at..].iter_mut().zip(number.to_le_bytes()) {
                *place = byte;
            }
        }
    }
}

fn run(name: &str) {
    let (_, target) = targets::ALL
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let kept = corpus(name);
    assert!(kept.len() >= KEPT_LEAST, "{} inputs", kept.len());
    for (_, input) in &kept {
        survive(name, target, input);
    }
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..CHANGED {
        let mut input = kept[random.random_range(0..kept.len())].1.clone();
        let other = &kept[random.random_range(0..kept.len())].1;
        for _ in 0..random.random_range(1..8) {
            change(&mut input, other, &mut random);
        }
        survive(name, target, &input);
    }
}

#[test]
fn frames_survive() {
    run("frame");
}

#[test]
fn zips_survive() {
    run("zip");
}

#[test]
fn bodies_survive() {
    run("body");
}

#[test]
fn routes_survive() {
    run("route");
}

#[test]
fn every_target_is_run_here() {
    let names: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["frame", "zip", "body", "route"]);
}
