//! Layers, one over the other.

use super::*;

#[test]
fn of_two_layers_the_later_one_shows() {
    let dir = tempfile::tempdir().unwrap();
    let opt = dir.path().join("opt");
    std::fs::create_dir_all(opt.join("lib")).unwrap();
    let lay = |name: &str, entries: &[Raw]| {
        let layer = dir.path().join(name);
        unpack(&raw_zip(entries), &layer).unwrap();
        lay_over(&layer, &opt).unwrap();
        layer
    };
    let first = lay(
        "1",
        &[
            Raw::file("shared/a", "first"),
            Raw::file("shared/both", "first"),
            Raw::file("lib/kept", "first"),
            Raw::file("becomes/a/directory", "gone"),
            Raw::file("stays", "first"),
            Raw::link("link", "shared/a"),
        ],
    );
    let inode = |root: &Path, name: &str| root.join(name).metadata().unwrap().ino();
    assert_eq!(inode(&opt, "shared/a"), inode(&first, "shared/a"));
    let second = lay(
        "2",
        &[
            Raw::file("shared/both", "second"),
            Raw::file("shared/b", "second"),
            Raw::file("becomes", "a file"),
            Raw::file("stays/not", "a directory"),
            Raw::file("link", "second"),
        ],
    );
    let read = |name: &str| std::fs::read_to_string(opt.join(name)).unwrap();
    for (name, text) in [
        ("shared/a", "first"),
        ("shared/both", "second"),
        ("shared/b", "second"),
        ("lib/kept", "first"),
        ("becomes", "a file"),
        ("stays/not", "a directory"),
        ("link", "second"),
    ] {
        assert_eq!(read(name), text, "{name}");
    }
    assert_eq!(inode(&opt, "shared/both"), inode(&second, "shared/both"));
    // What the unpacked layers hold has not changed: other workers have it too.
    assert_eq!(
        std::fs::read_to_string(first.join("shared/both")).unwrap(),
        "first"
    );
    assert_eq!(
        std::fs::read_to_string(first.join("shared/a")).unwrap(),
        "first"
    );
}

#[test]
fn no_layer_is_written_through_the_link_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (opt, outside) = (dir.path().join("opt"), dir.path().join("outside"));
    std::fs::create_dir(&opt).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "mine").unwrap();
    // No package can hold such links; should one ever come in, they must not be followed.
    std::os::unix::fs::symlink(&outside, opt.join("shared")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), opt.join("file")).unwrap();
    let layer = dir.path().join("layer");
    let zip = raw_zip(&[
        Raw::file("shared/file", "theirs"),
        Raw::file("file", "theirs"),
    ]);
    unpack(&zip, &layer).unwrap();
    lay_over(&layer, &opt).unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.join("file")).unwrap(),
        "mine"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert!(opt.join("shared").symlink_metadata().unwrap().is_dir());
    assert_eq!(
        std::fs::read_to_string(opt.join("shared/file")).unwrap(),
        "theirs"
    );
}
