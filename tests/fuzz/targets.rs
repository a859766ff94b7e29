//! What is fuzzed: everything that takes apart what comes from outside. A target is a function of bytes that panics where something is
//! wrong, and says more than "it did not crash": what was taken is what was meant. Used by the fuzzer under `fuzz/`, which is led by
//! coverage, and by the tests beside this file, which need nothing but themselves.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use hearth::api::control::change;
use hearth::api::json;
use hearth::domain::route::is_reserved;
use hearth::gateway::route::{Route, route};
use hearth::router::routes::Routes;
use hearth::runtime::{Catalog, package};
use hearth::worker::frame;
use http::Method;
use serde_json::Value;

pub(crate) type Target = fn(&[u8]);

pub(crate) const ALL: [(&str, Target); 4] = [
    ("frame", frames),
    ("zip", zips),
    ("body", bodies),
    ("route", routes),
];

/// The frame codec: however the bytes are cut, the same frames come out, and written again they are the same bytes.
fn frames(data: &[u8]) {
    let Some((&cut, wire)) = data.split_first() else {
        return;
    };
    let read = |size: usize| {
        let (mut input, mut frames) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(size) {
            input.extend_from_slice(piece);
            loop {
                match frame::decode(&mut input) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            let most = frame::BODY_MAX + frame::HEADER_LEN + wire.len();
            assert!(input.capacity() <= 2 * most, "more than a frame is kept");
        }
        (frames, None)
    };
    let whole = read(wire.len().max(1));
    assert_eq!(whole, read(usize::from(cut).max(1)), "depends on the cut");
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        assert!(frame.body.len() <= frame.kind.body_max());
        frame::encode(frame, &mut again);
    }
    assert!(wire.starts_with(&again), "written again it is another");
}

/// Zip intake: what is found good unpacks to what was said, below its directory and nowhere else.
fn zips(data: &[u8]) {
    let Ok(summary) = package::inspect(data) else {
        return;
    };
    let above = tempfile::tempdir().expect("a directory");
    let root = above.path().join("code");
    package::unpack(data, &root).expect("what is good can be unpacked");
    let beside = std::fs::read_dir(above.path()).expect("a list").count();
    assert_eq!(beside, 1, "something is beside the package");
    let (mut entries, mut size) = (0, 0);
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a list") {
            let entry = entry.expect("an entry");
            let kind = std::fs::symlink_metadata(entry.path()).expect("is there");
            entries += 1;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                assert_eq!(mode(&kind) & 0o7000, 0, "setuid and the like");
                size += kind.len();
            } else {
                assert!(kind.is_symlink(), "{:?} is special", entry.path());
                // A link that leads somewhere leads into the package.
                if let Ok(real) = entry.path().canonicalize() {
                    let root = root.canonicalize().expect("is there");
                    assert!(real.starts_with(root), "{:?} leads out", entry.path());
                }
            }
        }
    }
    assert_eq!(entries, summary.entries);
    assert!(size <= summary.unpacked_size);
}

fn mode(kind: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    kind.permissions().mode()
}

/// REST bodies: what is read is what every reader of JSON reads, and reading a function's fields never fails but by saying so.
fn bodies(data: &[u8]) {
    static RUNTIMES: LazyLock<Catalog> = LazyLock::new(|| {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/runtimes"));
        let folder = match folder.is_dir() {
            true => folder.to_owned(),
            false => folder.with_file_name("../runtimes"),
        };
        Catalog::read(&folder).expect("the runtimes of this tree")
    });
    let plain: Option<Value> = serde_json::from_slice(data).ok();
    // The library's own reader takes one key for something of its own, so of that it says nothing.
    let private = String::from_utf8_lossy(data).contains("$serde_json");
    match json::value(data) {
        Ok(read) => assert!(private || Some(read) == plain, "read as something else"),
        Err(error) if plain.is_some() => {
            let said = error.to_string();
            let stricter = said.contains("is there twice") || said.contains("more than");
            assert!(stricter || private, "{said}");
        }
        Err(_) => {}
    }
    if let Ok(members) = json::members(data) {
        let plain = plain.as_ref().and_then(Value::as_object);
        // The same depth is not asked of both: a member is not taken apart.
        if let Some(plain) = plain {
            assert_eq!(members.len(), plain.len());
        }
    }
    if let Ok((kept, count)) = json::list(data, 3) {
        assert_eq!(kept.len(), count.min(3));
        if let Some(plain) = plain.as_ref().and_then(Value::as_array) {
            assert_eq!(count, plain.len());
        }
    }
    if let Ok((change, faults)) = change::read(data, &RUNTIMES, 1000) {
        let wrong = faults.into_result();
        if let (Some(name), Ok(())) = (change.name, wrong) {
            assert!(!name.as_str().contains(['/', '\0', '.', '%']));
        }
    }
}

/// Route matching: the last line is a path, those before are routes. What is Hearth's own never goes to a function, and what a function
/// is given never climbs.
fn routes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines: Vec<&str> = text.lines().take(40).collect();
    let path = lines.pop().unwrap_or("");
    for method in [Method::GET, Method::POST] {
        match route(&method, path) {
            Route::Function => assert!(!is_reserved(path)),
            Route::Execute(name) => assert!(!name.of(path).is_empty() && is_reserved(path)),
            _ => {}
        }
    }
    let mut table = Routes::default();
    let taken: Vec<&str> = lines
        .into_iter()
        .filter(|line| table.insert(line, Arc::new((*line).to_owned())))
        .collect();
    let Some(found) = table.find(path) else {
        return;
    };
    assert!(taken.contains(&found.entry.as_str()), "nobody's route");
    let literal = |segment: &&str| !segment.starts_with('{');
    for (name, value) in &found.parameters {
        assert!(found.entry.contains(&format!("{{{name}")));
        assert!(
            !value.split('/').any(|part| part == ".."),
            "{value:?} climbs"
        );
        assert!(!value.is_empty());
    }
    let segments = found.entry.split('/').skip(1);
    assert_eq!(
        segments.clone().count() - segments.filter(literal).count(),
        found.parameters.len()
    );
}
