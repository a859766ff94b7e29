//! Puts the dashboard that scripts/dashboard.sh built into the binary. What is not built is not there: the program then says so where the
//! dashboard would be, and everything else works. Nothing is downloaded here, and nothing is run.

#![expect(clippy::panic, reason = "a build that cannot go on says why and ends")]
#![expect(
    clippy::disallowed_methods,
    reason = "cargo says where things are in the environment"
)]

use std::fmt::Write;
use std::path::PathBuf;

/// One line per file, its columns apart by tabs: path, content type, entity tag, whether its name has a hash in it.
const LIST: &str = "assets.txt";

fn main() {
    let directory = |name: &str| PathBuf::from(std::env::var(name).expect("cargo sets it"));
    let built = directory("CARGO_MANIFEST_DIR").join("dashboard/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dashboard/dist");
    let list = std::fs::read_to_string(built.join(LIST)).unwrap_or_default();
    let mut code = String::from("[\n");
    for line in list.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [path, content_type, tag, hashed] = columns[..] else {
            panic!("{LIST}: {line:?} has not four columns");
        };
        let content = |suffix: &str| built.join(format!("{path}{suffix}"));
        writeln!(
            code,
            "Asset {{ path: {path:?}, content_type: {content_type:?}, tag: {tag:?}, hashed: {hashed}, \
             plain: include_bytes!({:?}), gzip: include_bytes!({:?}), brotli: include_bytes!({:?}) }},",
            content(""),
            content(".gz"),
            content(".br"),
        )
        .expect("a string takes everything");
    }
    code.push_str("]\n");
    std::fs::write(directory("OUT_DIR").join("dashboard.rs"), code)
        .expect("cargo's directory is writable");
}
