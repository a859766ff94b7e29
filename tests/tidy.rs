//! Watches the source itself: which module may name which, what is fenced in, what every file has to say. Every test lists
//! all it found as `file:line: what`, and every rule is shown to fire on a made-up line.

use std::collections::BTreeSet;
use std::path::Path;

use hearth::config::load::RESERVED;
use hearth::config::raw::{DEFAULTS, Values};

#[path = "tidy/dashboards.rs"]
mod dashboards;
#[path = "tidy/fences.rs"]
mod fences;
#[path = "tidy/flame.rs"]
mod flame;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/metrics.rs"]
mod metrics;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// A file with more lines has two purposes.
const LINES_MAX: usize = 700;
/// Keys one comment may speak for, so that none slips in below another's.
const KEYS_PER_COMMENT: usize = 2;

/// Names of languages and what gives one away. `node` alone is a machine.
const LANGUAGES: [&str; 22] = [
    "python",
    "pypi",
    "pip",
    "cpython",
    "nodejs",
    "npm",
    "javascript",
    "typescript",
    "ecmascript",
    "commonjs",
    "ruby",
    "java",
    "jvm",
    "deno",
    "php",
    "perl",
    "lua",
    "golang",
    "dotnet",
    "kotlin",
    "elixir",
    "erlang",
];
const LANGUAGE_MARKS: [&str; 8] = [
    "node.js", "\"node\"", "\"node2", "\"node-", ".py\"", ".mjs\"", ".cjs\"", ".rb\"",
];

/// The program's source, and its unit tests.
fn program() -> Vec<Source> {
    let source = source::read("src", "rs");
    assert!(source.len() > 30, "the source was not found");
    source
}

/// Fails with everything that was found.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Shows that a check fires on a line of a file, once.
fn fires(check: impl Fn(&[Source]) -> Vec<String>, path: &str, line: &str) {
    let found = check(&[Source::new(path, line)]);
    assert_eq!(found.len(), 1, "{path}: {line:?}: {found:?}");
    assert!(found[0].starts_with(&format!("{path}:1: ")), "{found:?}");
}

fn silent(check: impl Fn(&[Source]) -> Vec<String>, path: &str, line: &str) {
    none(check(&[Source::new(path, line)]));
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `name` stands in the code as a path of its own: neither the end of a longer word or path, nor the start of a longer word.
fn named(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let ends_in_word = name.chars().next_back().is_some_and(is_word);
        let own = !before.is_some_and(|c| is_word(c) || c == '.');
        // `std::env::var` is `env::var` too; but `api::http::` is not the crate `http`.
        let inner = code[..at].ends_with("::") && name.ends_with("::");
        own && !inner && !(ends_in_word && after.is_some_and(is_word))
    })
}

fn openings(sources: &[Source]) -> Vec<String> {
    let says = |source: &Source| {
        let first = source.lines.first().map_or("", |line| line.text.as_str());
        first.starts_with("//! ") || first.starts_with("#![doc = include_str!(")
    };
    let silent = sources.iter().filter(|source| !says(source));
    silent
        .map(|source| format!("{}:1: a file opens with //! and what it is", source.path))
        .collect()
}

#[test]
fn every_file_says_what_it_is() {
    let mut sources = program();
    sources.extend(source::read("tests", "rs"));
    sources.extend(source::read("benches", "rs"));
    none(openings(&sources));
    fires(openings, "src/a.rs", "use std::fmt;");
    fires(openings, "src/a.rs", "//!\n//! late");
    silent(openings, "src/a.rs", "//! What it is.");
}

fn languages(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (at, line) in source.lines.iter().enumerate() {
            // How a script tells Redis that it has options: no function is written in it.
            let text = line.text.to_lowercase().replace("#!lua flags=", "");
            let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
            let name = words.find(|word| LANGUAGES.contains(word));
            let name = name.or_else(|| LANGUAGE_MARKS.into_iter().find(|mark| text.contains(mark)));
            if let Some(name) = name {
                let number = at + 1;
                found.push(format!(
                    "{}:{number}: {name}: languages live under runtimes/",
                    source.path
                ));
            }
        }
    }
    found
}

#[test]
fn no_language_is_named_in_the_source() {
    // Comments and tests too: what is general needs no example that is not.
    none(languages(&program()));
    for line in [
        "let id = \"python3.13\";",
        "// like Node.js does",
        "\"nodejs20.x\"",
        "if name == \"node\" {",
        "struct JavaScript; // javascript",
        "path.ends_with(\".py\")",
        "#[test] fn ruby() {}",
    ] {
        fires(languages, "src/a.rs", line);
    }
    for line in [
        "// a node of the cluster",
        "metadata().ino() // inode",
        "pipe, perlin, javanese, evaluate",
        "\"#!lua flags=allow-oom\"",
    ] {
        silent(languages, "src/a.rs", line);
    }
}

fn lengths(sources: &[Source]) -> Vec<String> {
    let long = sources
        .iter()
        .filter(|source| source.lines.len() > LINES_MAX);
    long.map(|source| {
        let lines = source.lines.len();
        format!(
            "{}:1: {lines} lines, at most {LINES_MAX}: split it where it has two purposes",
            source.path
        )
    })
    .collect()
}

#[test]
fn no_file_is_endless() {
    let mut sources = program();
    sources.extend(source::read("tests", "rs"));
    none(lengths(&sources));
    fires(lengths, "src/a.rs", &"x\n".repeat(LINES_MAX + 1));
    silent(lengths, "src/a.rs", &"x\n".repeat(LINES_MAX));
}

fn unwraps(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.program() {
            if line.code.contains(".unwrap()") {
                found.push(format!(
                    "{}:{number}: unwrap(): return the error, or expect(\"why it cannot fail\")",
                    source.path
                ));
            }
            let glob = line.code.contains("::*") && !line.code.contains("prelude::*");
            if glob && line.code.trim_start().starts_with(['u', 'p']) {
                found.push(format!("{}:{number}: name what you import", source.path));
            }
        }
    }
    found
}

#[test]
fn the_program_neither_unwraps_nor_imports_everything() {
    none(unwraps(&program()));
    fires(unwraps, "src/a.rs", "let a = b.unwrap();");
    fires(unwraps, "src/a.rs", "use crate::a::*;");
    silent(unwraps, "src/a.rs", "let a = b.unwrap_or(c); // .unwrap()");
    silent(
        unwraps,
        "src/a.rs",
        "#[cfg(test)]\nmod tests { use super::*; fn f() { a.unwrap() } }",
    );
}

/// Keys of a TOML text without a comment of their own. A comment speaks for the keys directly below it.
fn undocumented(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut covered = 0;
    for (at, line) in text.lines().enumerate() {
        match line.trim() {
            comment if comment.starts_with('#') => covered = KEYS_PER_COMMENT,
            key if key.contains('=') => {
                if covered == 0 {
                    found.push(format!(
                        "config/default.toml:{}: {key}: say what it does in a comment above",
                        at + 1
                    ));
                }
                covered = covered.saturating_sub(1);
            }
            _ => covered = 0,
        }
    }
    found
}

#[test]
fn every_config_key_is_documented() {
    none(undocumented(DEFAULTS));
    assert_eq!(undocumented("# both\na = 1\nb = 2\nc = 3\n").len(), 1);
    assert_eq!(undocumented("# the section\n[s]\na = 1\n").len(), 1);
    assert_eq!(undocumented("# one\na = 1\n\nb = 2\n").len(), 1);
}

#[test]
fn every_variable_the_scripts_use_is_known() {
    let values = Values::defaults();
    let keys: BTreeSet<_> = values
        .entries()
        .iter()
        .map(|entry| entry.variable())
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = source::read("scripts", "sh");
    files.extend(source::read("tests", "sh"));
    for name in [
        "Makefile",
        "Dockerfile",
        "docker-compose.yml",
        "README.md",
        ".ci/run",
    ] {
        let text = std::fs::read_to_string(root.join(name));
        files.extend(text.map(|text| Source::new(name, &text)));
    }
    assert!(files.len() > 3, "the scripts were not found");
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.lines.iter().enumerate() {
            for word in line.text.split(|c: char| !is_word(c)) {
                let variable = word.starts_with("HEARTH_") && !word.ends_with('_');
                if variable && !keys.contains(word) && !RESERVED.contains(&word) {
                    let number = at + 1;
                    found.push(format!("{}:{number}: {word} is neither a key nor reserved: `hearth serve` would refuse it", file.path));
                }
            }
        }
    }
    none(found);
}
