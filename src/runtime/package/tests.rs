//! Packages good and nasty, through the whole of `package`.

mod over;
mod packing;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// An archive written by hand, so that it can say what no decent writer would.
#[derive(Debug)]
struct Raw {
    name: Vec<u8>,
    content: Vec<u8>,
    /// What the headers claim; the content is stored as it is.
    claimed_size: Option<u32>,
    method: u16,
    flags: u16,
    mode: u32,
}

impl Raw {
    fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Raw {
            name: name.as_ref().to_vec(),
            content: content.as_ref().to_vec(),
            claimed_size: None,
            method: 0,
            flags: 0,
            mode: 0o100_644,
        }
    }

    fn link(name: &str, target: &str) -> Self {
        Raw {
            mode: 0o120_777,
            ..Raw::file(name, target)
        }
    }
}

fn raw_zip(entries: &[Raw]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = zip.len() as u32;
        let size = entry.content.len() as u32;
        let mut common = Vec::new();
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.to_le_bytes());
        common.extend([0, 0, 0x21, 0]); // 1980-01-01
        common.extend(crc32(&entry.content).to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(entry.claimed_size.unwrap_or(size).to_le_bytes());
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes()); // extra
        zip.extend(b"PK\x03\x04\x14\x00");
        zip.extend(&common);
        zip.extend(&entry.name);
        zip.extend(&entry.content);
        directory.extend(b"PK\x01\x02\x14\x03\x14\x00"); // made on Unix
        directory.extend(&common);
        directory.extend([0; 6]); // comment, disk, internal attributes
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00");
    zip.extend((entries.len() as u16).to_le_bytes());
    zip.extend((entries.len() as u16).to_le_bytes());
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Unpacks into a new directory and reads everything back: path → what is there.
fn unpacked(zip: &[u8]) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("code");
    unpack(zip, &target).unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "something was left beside the code");
    tree(&target)
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let shown = if metadata.is_dir() {
                directories.push(path.clone());
                format!("{mode:o} directory")
            } else if metadata.is_symlink() {
                format!("link to {}", std::fs::read_link(&path).unwrap().display())
            } else {
                let content = std::fs::read(&path).unwrap();
                format!("{mode:o} {}", String::from_utf8_lossy(&content))
            };
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.to_owned(), shown);
        }
    }
    found
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected
        .iter()
        .map(|(name, shown)| ((*name).to_owned(), (*shown).to_owned()))
        .collect()
}

#[track_caller]
fn refused(zip: &[u8], name: &str, reason: &Reason) {
    for result in [
        inspect(zip).map(|_| ()),
        unpack(zip, &tempfile::tempdir().unwrap().path().join("code")),
    ] {
        match result {
            Err(Error::Entry { name: n, reason: r }) => {
                assert_eq!((n.as_str(), &r), (name, reason));
            }
            other => panic!("expected {name:?} to be refused as {reason:?}, got {other:?}"),
        }
    }
}

#[test]
fn a_good_package_comes_out_as_it_went_in() {
    let mut executable = Raw::file("bin/run", "#!/bin/sh\n");
    executable.mode = 0o100_700;
    let mut bare = Raw::file("bare", "no mode at all");
    bare.mode = 0;
    let mut set_uid = Raw::file("set-uid", "no more");
    set_uid.mode = 0o104_755;
    let zip = raw_zip(&[
        Raw::file("./", ""),
        Raw::file("app", "text"),
        Raw::file("empty/", ""),
        executable,
        bare,
        set_uid,
        Raw::file("./a//b/c", "deep"),
        Raw::link("bin/link", "../app"),
    ]);
    assert_eq!(
        inspect(&zip).unwrap(),
        Summary {
            entries: 10,
            unpacked_size: 45
        }
    );
    let expected = [
        ("app", "644 text"),
        ("empty", "755 directory"),
        ("bin", "755 directory"),
        ("bin/run", "755 #!/bin/sh\n"),
        ("bin/link", "link to ../app"),
        ("bare", "644 no mode at all"),
        ("set-uid", "755 no more"),
        ("a", "755 directory"),
        ("a/b", "755 directory"),
        ("a/b/c", "644 deep"),
    ];
    assert_eq!(unpacked(&zip), pairs(&expected));
}

#[test]
fn names_that_lead_out_are_refused_by_name() {
    for (name, reason) in [
        ("../evil", Reason::Traversal),
        ("a/../../evil", Reason::Traversal),
        ("/etc/evil", Reason::Absolute),
        ("C:\\evil", Reason::Backslash),
        ("C:evil", Reason::Absolute),
        ("a\\..\\evil", Reason::Backslash),
        ("a\0b", Reason::Nul),
    ] {
        refused(
            &raw_zip(&[Raw::file("good", "1"), Raw::file(name, "2")]),
            name,
            &reason,
        );
    }
    refused(
        &raw_zip(&[Raw::file(b"\xe9", "")]),
        "\u{fffd}",
        &Reason::NotUtf8,
    );
    refused(&raw_zip(&[Raw::file("", "x")]), "", &Reason::NoName);
    let long = "x".repeat(256);
    refused(
        &raw_zip(&[Raw::file(&long, "x")]),
        &long,
        &Reason::PartTooLong,
    );
}

#[test]
fn a_name_may_be_there_once() {
    let twice = [Raw::file("a", "1"), Raw::file("b", ""), Raw::file("a", "2")];
    refused(&raw_zip(&twice), "a", &Reason::Duplicate);
    // The same file by two spellings.
    let spelt = [Raw::file("d/a", "1"), Raw::file("d/./a", "2")];
    refused(&raw_zip(&spelt), "d/./a", &Reason::Duplicate);
    let file_then_directory = [Raw::file("a", "1"), Raw::file("a/b", "2")];
    refused(&raw_zip(&file_then_directory), "a/b", &Reason::Clash);
    let directory_then_file = [Raw::file("a/b", "1"), Raw::file("a", "2")];
    refused(&raw_zip(&directory_then_file), "a", &Reason::Clash);
    // The classic: a link, then a file through it.
    let through_link = [Raw::link("a", "sub"), Raw::file("a/b", "2")];
    refused(&raw_zip(&through_link), "a/b", &Reason::Clash);
}

#[test]
fn links_and_special_files_are_held_to_the_package() {
    let app = || Raw::file("app", "");
    for target in ["/etc/passwd", "..", "../../x", ""] {
        refused(
            &raw_zip(&[app(), Raw::link("l", target)]),
            "l",
            &Reason::LinkOut,
        );
    }
    refused(
        &raw_zip(&[app(), Raw::link("d/up", ".."), Raw::link("l", "d/up/../x")]),
        "l",
        &Reason::LinkRoundabout,
    );
    refused(
        &raw_zip(&[app(), Raw::link("l", &"x/".repeat(3000))]),
        "l",
        &Reason::TooLong,
    );
    for mode in [0o060_644, 0o020_644, 0o010_644, 0o140_644] {
        let mut special = Raw::file("device", "");
        special.mode = mode;
        refused(&raw_zip(&[app(), special]), "device", &Reason::Special);
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let mut encrypted = Raw::file("secret", "x");
    encrypted.flags = 1;
    refused(&raw_zip(&[encrypted]), "secret", &Reason::Encrypted);

    let mut method = Raw::file("odd", "x");
    method.method = 12;
    let error = inspect(&raw_zip(&[method])).unwrap_err().to_string();
    assert!(error.contains("\"odd\""), "{error}");

    let mut zip = raw_zip(&[Raw::file("bits", "the right bits")]);
    let at = zip.windows(5).position(|w| w == b"right").unwrap();
    zip[at] = b'R';
    let error = inspect(&zip).unwrap_err();
    assert!(
        matches!(&error, Error::Entry { name, reason: Reason::Unreadable(_) } if name == "bits"),
        "{error:?}"
    );

    let liar = |size: u32| {
        let mut liar = Raw::file("liar", "more than it says");
        liar.claimed_size = Some(size);
        inspect(&raw_zip(&[liar])).unwrap_err()
    };
    for size in [0, 2, 200, u32::MAX - 1] {
        let error = liar(size);
        let named = matches!(&error, Error::Entry { name, .. } if name == "liar");
        assert!(named, "{size}: {error:?}");
    }

    assert!(matches!(inspect(b"no zip"), Err(Error::NotZip(_))));
    assert!(matches!(inspect(b""), Err(Error::NotZip(_))));
    assert!(matches!(inspect(&raw_zip(&[])), Err(Error::Empty)));
    assert!(matches!(
        inspect(&raw_zip(&[Raw::file("d/", "")])),
        Err(Error::Empty)
    ));
}

/// The place of a little-endian number in the directory's entry of this name.
fn in_directory(zip: &[u8], name: &[u8], field: usize) -> usize {
    let at = zip
        .windows(name.len())
        .rposition(|window| window == name)
        .expect("the directory is behind the entries");
    at - 46 + field
}

#[test]
fn entries_that_share_their_bytes_are_refused_by_name() {
    // Many names for the bytes of one, as in the bombs that need no nesting.
    let entries: Vec<Raw> = (0..3)
        .map(|n| Raw::file(format!("part{n}"), vec![b'x'; 1000]))
        .collect();
    let mut zip = raw_zip(&entries);
    let first = raw_zip(&entries[..1]).len();
    for name in [b"part1", b"part2"] {
        let at = in_directory(&zip, name, 42);
        zip[at..at + 4].copy_from_slice(&0u32.to_le_bytes());
    }
    assert!(first > 1000);
    // The bytes have one name of their own, so the others are somebody else's.
    refused(&zip, "part1", &Reason::OtherName("part0".into()));

    // An entry that quotes the header of the next: its content is the next one's too.
    let mut zip = raw_zip(&[Raw::file("outer", "12345"), Raw::file("inner", "12345")]);
    let at = in_directory(&zip, b"outer", 20);
    zip[at..at + 4].copy_from_slice(&20u32.to_le_bytes());
    refused(&zip, "inner", &Reason::Overlap);

    // The last one reaches into the directory.
    let mut zip = raw_zip(&[Raw::file("only", "12345")]);
    let at = in_directory(&zip, b"only", 20);
    zip[at..at + 4].copy_from_slice(&20u32.to_le_bytes());
    refused(&zip, "only", &Reason::Overlap);
    // And this one out of the archive, or begins outside of it.
    zip[at..at + 4].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    assert!(inspect(&zip).is_err());
    let at = in_directory(&zip, b"only", 42);
    zip[at..at + 4].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    assert!(inspect(&zip).is_err());
}

#[test]
fn what_two_readers_would_read_differently_is_refused() {
    let good = raw_zip(&[Raw::file("app", "1"), Raw::file("lib", "2")]);
    assert!(inspect(&good).is_ok());
    let why = |zip: &[u8]| match inspect(zip) {
        Err(Error::NotZip(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&[b"#!/bin/sh\n", &good[..]].concat()).contains("in front"));
    assert!(why(&[&good[..], b"\n"].concat()).contains("behind"));
    assert!(why(&[&good[..], &good[..]].concat()).contains("directory"));
    assert!(why(&good[..good.len() - 1]).contains("cut off"));
    // Fewer entries than there are, and more.
    for entries in [1u8, 3] {
        let mut zip = good.clone();
        let at = zip.len() - 22;
        zip[at + 8] = entries;
        zip[at + 10] = entries;
        assert!(why(&zip).contains("directory"), "{entries}");
    }
    // One name in front of the content, and another in the directory.
    let mut zip = good.clone();
    let at = in_directory(&zip, b"lib", 46);
    zip[at..at + 3].copy_from_slice(b"bil");
    refused(&zip, "bil", &Reason::OtherName("lib".into()));
    // More entries than anything here could hold, in a file of a few bytes.
    let mut many = good.clone();
    let at = many.len() - 22;
    many[at + 8..at + 12].copy_from_slice(&[0xff; 4]);
    assert!(matches!(inspect(&many), Err(Error::TooManyEntries { .. })));
}

#[test]
fn the_wider_format_is_read_and_not_believed() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let wide = SimpleFileOptions::default().large_file(true);
    writer.start_file("wide", wide).unwrap();
    writer.write_all(b"content").unwrap();
    let zip = writer.finish().unwrap().into_inner();
    assert_eq!(inspect(&zip).unwrap().unpacked_size, 7);

    // An end in the wider format that says another number of entries, and another place of the directory.
    let good = raw_zip(&[Raw::file("app", "1")]);
    let (body, end) = good.split_at(good.len() - 22);
    let directory = u32::from_le_bytes([end[16], end[17], end[18], end[19]]);
    let with = |entries: u64, directory: u64| {
        let mut zip = body.to_vec();
        let at = zip.len() as u64;
        zip.extend(b"PK\x06\x06");
        zip.extend(44u64.to_le_bytes());
        zip.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        zip.extend(entries.to_le_bytes());
        zip.extend(entries.to_le_bytes());
        zip.extend((at - directory.min(at)).to_le_bytes());
        zip.extend(directory.to_le_bytes());
        zip.extend(b"PK\x06\x07\0\0\0\0");
        zip.extend(at.to_le_bytes());
        zip.extend(1u32.to_le_bytes());
        zip.extend(end);
        zip
    };
    assert!(inspect(&with(1, directory.into())).is_ok());
    assert!(matches!(
        inspect(&with(u64::MAX, directory.into())),
        Err(Error::TooManyEntries { .. })
    ));
    for (entries, directory) in [
        (2, directory.into()),
        (0, directory.into()),
        (1, u64::MAX),
        (1, 0),
    ] {
        assert!(
            inspect(&with(entries, directory)).is_err(),
            "{entries} {directory}"
        );
    }
}

#[test]
fn names_that_differ_are_different_and_modes_are_our_own() {
    // As they are to the kernel they are unpacked by: no file takes another's place.
    let mut setuid = Raw::file("tool", "x");
    setuid.mode = 0o106_755;
    let zip = raw_zip(&[
        Raw::file("App", "1"),
        Raw::file("app", "2"),
        Raw::file("caf\u{e9}", "3"),
        Raw::file("cafe\u{301}", "4"),
        setuid,
    ]);
    let expected = [
        ("App", "644 1"),
        ("app", "644 2"),
        ("caf\u{e9}", "644 3"),
        ("cafe\u{301}", "644 4"),
        ("tool", "755 x"),
    ];
    assert_eq!(unpacked(&zip), pairs(&expected));
}

#[test]
fn a_bomb_stops_while_it_goes_off() {
    let zeros = vec![0; 32 * 1024 * 1024];
    let bomb = deflated(&[("small", b"x"), ("bomb", &zeros)]);
    assert!(bomb.len() < 40_000);
    refused(&bomb, "bomb", &Reason::Bomb { ratio: RATIO_MAX });

    // Many names for the same few bytes: every entry's own ratio is the same as before.
    let part = vec![0; 1024 * 1024];
    let names: Vec<String> = (0..40).map(|n| format!("part{n}")).collect();
    let parts: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &part[..])).collect();
    let error = inspect(&deflated(&parts)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Entry {
                reason: Reason::Bomb { .. },
                ..
            }
        ),
        "{error:?}"
    );
    // What compresses this well and is small is just plain data.
    assert!(inspect(&deflated(&[("zeros", &zeros[..RATIO_FREE as usize])])).is_ok());
}

#[test]
fn size_is_counted_and_not_believed() {
    // Whatever is in it.
    assert!(matches!(
        inspect(&vec![0; PACKAGE_FETCHED_MAX + 1]),
        Err(Error::TooLarge { .. })
    ));

    // Deflated well below any ratio that is refused, and just as large as is refused.
    let mut block = vec![0; 64 * 1024];
    let mut state = 1u32;
    for byte in block.iter_mut().take(1024) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let half = block.repeat(PACKAGE_UNPACKED_MAX as usize / 2 / block.len());
    let zip = deflated(&[("one", &half), ("two", &half)]);
    assert!(zip.len() as u64 > 2 * half.len() as u64 / RATIO_MAX);
    refused(
        &zip,
        "two",
        &Reason::TooLarge {
            limit: PACKAGE_UNPACKED_MAX,
        },
    );
}

#[test]
fn directories_that_are_only_implied_count() {
    // 40 entries of 1,000 directories each, none of which is an entry.
    let deep = |n: usize| format!("{n}/{}x", "d/".repeat(1000));
    let entries: Vec<Raw> = (0..40).map(|n| Raw::file(deep(n), "")).collect();
    assert!(matches!(
        inspect(&raw_zip(&entries)),
        Err(Error::TooManyEntries { .. })
    ));
    let entries: Vec<Raw> = (0..=PACKAGE_ENTRIES_MAX)
        .map(|n| Raw::file(n.to_string(), ""))
        .collect();
    assert!(matches!(
        inspect(&raw_zip(&entries)),
        Err(Error::TooManyEntries { .. })
    ));
}

#[test]
fn a_refused_package_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let zip = raw_zip(&[Raw::file("good", "1"), Raw::file("../evil", "2")]);
    assert!(unpack(&zip, &dir.path().join("code")).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn many_may_unpack_the_same_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("code");
    let zip = deflated(&[("a", b"1"), ("d/b", b"2")]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                unpack(&zip, &target).unwrap();
                assert_eq!(std::fs::read(target.join("d/b")).unwrap(), b"2");
            });
        }
    });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let left = dir.path().join(format!("x{}", ".partial"));
    std::fs::create_dir_all(left.join("half")).unwrap();
    assert_eq!(clear_partial(dir.path()).unwrap(), 1);
    assert!(target.exists() && !left.exists());
    assert_eq!(clear_partial(&dir.path().join("nowhere")).unwrap(), 0);
}

#[test]
fn a_task_directory_gets_the_code_and_not_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let code = dir.path().join("code");
    let mut executable = Raw::file("bin/run", "go");
    executable.mode = 0o100_755;
    let zip = raw_zip(&[
        Raw::file("app", "1"),
        executable,
        Raw::link("l", "bin/run"),
        Raw::file("empty/", ""),
    ]);
    unpack(&zip, &code).unwrap();
    let task = dir.path().join("task");
    std::fs::create_dir(&task).unwrap();
    link_into(&code, &task).unwrap();
    assert_eq!(tree(&task), tree(&code));
    let inode = |root: &Path| root.join("bin/run").metadata().unwrap().ino();
    assert_eq!(inode(&task), inode(&code));
    // A directory that is not empty is somebody else's.
    assert!(matches!(link_into(&code, &task), Err(Error::Io { .. })));
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just("\\".to_owned()),
    ]
}

fn any_entry() -> impl Strategy<Value = Raw> {
    let path = || proptest::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    (path(), path(), 0..4u8).prop_map(|(name, text, kind)| match kind {
        0 => Raw::link(&name, &text),
        1 => Raw::file(format!("{name}/"), ""),
        _ => Raw::file(name, text),
    })
}

proptest! {
    /// Whatever an archive says, unpacking it writes below its own directory alone, every link in it ends below it too, and
    /// checking it comes to the same verdict.
    #[test]
    fn nothing_gets_out(entries in proptest::collection::vec(any_entry(), 0..12)) {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().join("outer");
        std::fs::create_dir(&outer).unwrap();
        let code = outer.join("code");
        let zip = raw_zip(&entries);
        let verdict = inspect(&zip);
        let written = unpack(&zip, &code);
        prop_assert_eq!(verdict.is_ok(), written.is_ok());
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        prop_assert_eq!(std::fs::read_dir(&outer).unwrap().count(), usize::from(written.is_ok()));
        if let Ok(summary) = verdict {
            let found = tree(&code);
            prop_assert_eq!(found.len(), summary.entries);
            let root = code.canonicalize().unwrap();
            for name in found.keys() {
                // A link to nothing, or in a circle, leads nowhere.
                if let Ok(real) = code.join(name).canonicalize() {
                    prop_assert!(real.starts_with(&root), "{} leads to {:?}", name, real);
                }
            }
        }
    }

    /// What is packed is found good and comes out the same.
    #[test]
    fn a_directory_survives_the_trip(
        files in proptest::collection::btree_map("[a-c]{1,3}(/[d-f]{1,3}){0,2}", any::<(Vec<u8>, bool)>(), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("app");
        for (name, (content, executable)) in &files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // A file may stand where another needs a directory: names of files and directories never meet by their letters.
            std::fs::write(path.with_extension("x"), content).unwrap();
            let mode = if *executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(path.with_extension("x"), Permissions::from_mode(mode)).unwrap();
        }
        let places = Places {
            roots: vec![dir.path().to_owned()],
            state: dir.path().join("state"),
            ..Places::default()
        };
        let zip = pack_path(&root, &places).unwrap();
        let code = dir.path().join("code");
        unpack(&zip, &code).unwrap();
        prop_assert_eq!(tree(&code), tree(&root));
    }

    /// No bytes make it panic.
    #[test]
    fn a_damaged_archive_is_an_error_and_no_more(
        at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()
    ) {
        let mut zip = deflated(&[("a", b"some text, some text"), ("d/b", b"other")]);
        let position = at.index(zip.len());
        zip[position] = byte;
        let _any_verdict = inspect(&zip);
        zip.truncate(cut.index(zip.len()));
        let _any_verdict = inspect(&zip);
    }
}
