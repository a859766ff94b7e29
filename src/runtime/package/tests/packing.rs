//! Packages made here: from inline code and from what lies at a `code_path`.

use super::*;
use crate::runtime::manifest::SourceFile;

fn source(name: &str) -> SourceFile {
    SourceFile {
        name: name.into(),
        executable: false,
    }
}

#[test]
fn inline_code_makes_the_same_package_every_time() {
    let zip = pack_inline(&source("sub/app.x"), "text").unwrap();
    assert_eq!(zip, pack_inline(&source("sub/app.x"), "text").unwrap());
    assert_ne!(zip, pack_inline(&source("sub/app.x"), "texts").unwrap());
    assert_eq!(
        unpacked(&zip),
        pairs(&[("sub", "755 directory"), ("sub/app.x", "644 text")])
    );
    let program = SourceFile {
        executable: true,
        ..source("start")
    };
    assert_eq!(
        unpacked(&pack_inline(&program, "text").unwrap()),
        pairs(&[("start", "755 text")])
    );
    // Pinned: were it another after an upgrade, deploying the same code again would be a change.
    assert_eq!(
        hex::encode(Sha256::digest(&zip)),
        "42023eeddcd88a9f2f49d36360d5d3fa9afc871e55a57228134f2aaccadb5502"
    );
    assert!(matches!(
        pack_inline(&source("../app.x"), "text"),
        Err(Error::Entry {
            reason: Reason::Traversal,
            ..
        })
    ));
}

#[test]
fn a_directory_is_packed_whole_and_always_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("app");
    for directory in [".git", "lib/__pycache__", "node_modules/.bin", "empty"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for name in [
        "app.x",
        ".env",
        ".git/HEAD",
        "lib/__pycache__/x",
        "lib/code.x",
        "node_modules/tool.x",
    ] {
        std::fs::write(root.join(name), name).unwrap();
    }
    let tool = root.join("node_modules/tool.x");
    std::fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    let link = |target: &Path, at: &str| std::os::unix::fs::symlink(target, root.join(at)).unwrap();
    link(Path::new("../tool.x"), "node_modules/.bin/tool");
    link(&root.join("lib/code.x"), "absolute");
    link(Path::new("lib/../app.x"), "roundabout");

    let places = Places {
        roots: vec![dir.path().to_owned()],
        state: dir.path().join("state"),
        ..Places::default()
    };
    let zip = pack_path(&root, &places).unwrap();
    let expected = [
        (".env", "644 .env"),
        ("absolute", "link to lib/code.x"),
        ("app.x", "644 app.x"),
        ("empty", "755 directory"),
        ("lib", "755 directory"),
        ("lib/code.x", "644 lib/code.x"),
        ("node_modules", "755 directory"),
        ("node_modules/.bin", "755 directory"),
        ("node_modules/.bin/tool", "link to ../tool.x"),
        ("node_modules/tool.x", "755 node_modules/tool.x"),
        ("roundabout", "link to app.x"),
    ];
    assert_eq!(unpacked(&zip), pairs(&expected));

    // Touched, but the same.
    std::fs::write(root.join("app.x"), "app.x").unwrap();
    std::fs::write(root.join(".git/HEAD"), "another").unwrap();
    assert_eq!(pack_path(&root, &places).unwrap(), zip);
    // The same file alone, and a package as it is.
    let alone = pack_path(&root.join("app.x"), &places).unwrap();
    assert_eq!(unpacked(&alone), pairs(&[("app.x", "644 app.x")]));
    let stored = dir.path().join("app.zip");
    std::fs::write(&stored, &zip).unwrap();
    assert_eq!(pack_path(&stored, &places).unwrap(), zip);
}

#[test]
fn what_is_not_below_a_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    let outside = dir.path().join("outside");
    for directory in [&inside, &outside] {
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join("file"), "x").unwrap();
    }
    let places = Places {
        roots: vec![inside.clone(), dir.path().join("nowhere")],
        state: dir.path().join("state"),
        ..Places::default()
    };
    let reason = |path: &Path| match pack_path(path, &places) {
        Err(Error::Path { reason, path }) => (reason, path),
        other => panic!("{other:?}"),
    };
    assert!(pack_path(&inside, &places).is_ok());
    assert!(reason(&outside).0.contains("outside"));
    assert!(reason(&inside.join("../outside")).0.contains("outside"));
    assert!(reason(Path::new("inside")).0.contains("absolute"));
    assert!(reason(&inside.join("none")).0.contains("not exist"));

    let way_out = inside.join("way-out");
    std::os::unix::fs::symlink(&outside, &way_out).unwrap();
    assert!(reason(&way_out).0.contains("outside"));
    // The directory is allowed, what it leads to is not; the link is named.
    assert_eq!(reason(&inside).1, way_out);
    std::fs::remove_file(&way_out).unwrap();
    std::os::unix::fs::symlink("nothing", &way_out).unwrap();
    assert!(reason(&inside).0.contains("nowhere"));
    std::fs::remove_file(&way_out).unwrap();
    nix::unistd::mkfifo(&way_out, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(reason(&inside).0.contains("pipe"));
    std::fs::remove_file(&way_out).unwrap();

    std::fs::remove_file(inside.join("file")).unwrap();
    assert!(matches!(pack_path(&inside, &places), Err(Error::Empty)));
}

#[test]
fn hearths_own_directory_and_the_kernels_are_no_code() {
    let dir = tempfile::tempdir().unwrap();
    let (state, code) = (dir.path().join("state"), dir.path().join("code"));
    for directory in [&state, &code] {
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join("file"), "x").unwrap();
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    let places = Places {
        roots: vec![PathBuf::from("/")],
        // Written another way than it will be asked for.
        state: link.clone(),
        ..Places::default()
    };
    let refused = |path: &Path| match pack_path(path, &places) {
        Err(Error::Path { reason, .. }) => reason,
        other => panic!("{path:?}: {other:?}"),
    };
    assert!(pack_path(&code, &places).is_ok());
    for path in [
        state.clone(),
        state.join("file"),
        code.join("../state/file"),
        link.join("file"),
        // It is in there.
        dir.path().to_owned(),
    ] {
        assert!(refused(&path).contains("Hearth's own"), "{path:?}");
    }
    for path in ["/proc/self/environ", "/proc", "/sys/kernel", "/dev/shm"] {
        assert!(refused(Path::new(path)).contains("kernel"), "{path}");
    }
}

#[test]
fn a_path_that_cannot_be_followed_is_the_clients_fault() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        roots: vec![PathBuf::from("/")],
        state: dir.path().join("state"),
        ..Places::default()
    };
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let long = dir.path().join("x".repeat(300));
    for path in [circle.clone(), circle.join("x"), long] {
        let error = pack_path(&path, &places).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        assert_eq!(error.blame(), Blame::Client);
    }
}
