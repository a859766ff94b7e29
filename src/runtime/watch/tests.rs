//! Directories that change, watched for real.

use std::time::Duration;

use super::*;

fn id(text: &str) -> FunctionId {
    FunctionId::from_stored(text)
}

fn place(path: &Path) -> Place {
    Place::at(path).expect("it is there")
}

fn names(changed: &Changed) -> Vec<&str> {
    let mut names: Vec<_> = changed.ids.iter().map(FunctionId::as_str).collect();
    names.sort_unstable();
    names
}

/// What is noticed of a change. Events are there before the change is done, so nothing is waited for.
fn noticed(watcher: &mut Watcher, change: impl FnOnce()) -> Vec<String> {
    watcher.take();
    change();
    let changed = watcher.take();
    assert!(changed.lost.is_empty());
    names(&changed).into_iter().map(str::to_owned).collect()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

#[tokio::test]
async fn every_way_to_change_a_tree_is_noticed_and_reading_it_is_not() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("code");
    std::fs::create_dir_all(root.join("a/b")).expect("made");
    write(&root.join("a/b/file"), "1");
    let mut watcher = Watcher::open(100).expect("inotify");
    watcher.add(&id("f"), &place(&root)).expect("watched");
    assert_eq!(watcher.len(), 3);
    let mut after = |what: &str, change: &dyn Fn()| {
        assert_eq!(noticed(&mut watcher, change), ["f"], "{what}");
    };
    after("a file written", &|| write(&root.join("a/b/file"), "2"));
    after("a file made", &|| write(&root.join("new"), "1"));
    after("a file removed", &|| {
        std::fs::remove_file(root.join("new")).expect("removed")
    });
    after("a file put in another's place", &|| {
        write(&home.path().join("beside"), "3");
        std::fs::rename(home.path().join("beside"), root.join("a/b/file")).expect("renamed");
    });
    after("a file that may be run", &|| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.join("a/b/file"), mode).expect("changed");
    });
    after("a directory with one in it", &|| {
        std::fs::create_dir_all(root.join("c/d/e")).expect("made")
    });
    after("a file in a new directory", &|| {
        write(&root.join("c/d/e/file"), "1")
    });
    after("a directory moved", &|| {
        std::fs::rename(root.join("c"), root.join("a/c")).expect("moved")
    });
    after("a directory made in a moved one", &|| {
        std::fs::create_dir(root.join("a/c/d/g")).expect("made")
    });
    after("a file there", &|| write(&root.join("a/c/d/g/file"), "1"));
    after("a directory removed", &|| {
        std::fs::remove_dir_all(root.join("a/c")).expect("removed")
    });
    watcher.take();
    std::fs::remove_dir_all(&root).expect("removed");
    let changed = watcher.take();
    assert_eq!(names(&changed), ["f"]);
    assert_eq!(changed.lost, HashSet::from([id("f")]), "its root is gone");
    assert!(watcher.is_empty(), "{watcher:?}");
}

#[tokio::test]
async fn reading_and_editors_own_files_are_no_change() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().canonicalize().expect("there");
    write(&root.join("file"), "1");
    let mut watcher = Watcher::open(100).expect("inotify");
    watcher.add(&id("f"), &place(&root)).expect("watched");
    let seen = noticed(&mut watcher, || {
        std::fs::read(root.join("file")).expect("read");
        std::fs::read_dir(&root).expect("listed").for_each(drop);
        for name in [".file.swp", "file~", ".#file", "4913"] {
            write(&root.join(name), "x");
        }
        std::fs::create_dir_all(root.join(".git/objects")).expect("made");
        write(&root.join(".git/objects/x"), "x");
    });
    assert_eq!(seen, [""; 0]);
}

#[tokio::test]
async fn functions_may_look_at_the_same_and_each_at_its_own() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().canonicalize().expect("there");
    std::fs::create_dir(root.join("inner")).expect("made");
    write(&root.join("single"), "1");
    let mut watcher = Watcher::open(100).expect("inotify");
    for (name, path) in [("all", ""), ("inner", "inner"), ("single", "single")] {
        let place = place(&root.join(path));
        watcher.add(&id(name), &place).expect("watched");
    }
    let inner = || write(&root.join("inner/file"), "1");
    let single = || {
        write(&root.join("beside"), "2");
        std::fs::rename(root.join("beside"), root.join("single")).expect("renamed");
    };
    assert_eq!(noticed(&mut watcher, inner), ["all", "inner"]);
    assert_eq!(noticed(&mut watcher, single), ["all", "single"]);
    assert_eq!(
        noticed(&mut watcher, || write(&root.join("other"), "1")),
        ["all"]
    );
    watcher.remove(&id("all"));
    assert_eq!(noticed(&mut watcher, inner), ["inner"]);
    assert_eq!(noticed(&mut watcher, single), ["single"]);
    watcher.remove(&id("inner"));
    watcher.remove(&id("single"));
    assert_eq!(noticed(&mut watcher, inner), [""; 0]);
    assert!(watcher.is_empty());
}

#[tokio::test]
async fn what_cannot_be_watched_whole_is_not_watched() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().canonicalize().expect("there");
    for n in 0..3 {
        std::fs::create_dir(root.join(n.to_string())).expect("made");
    }
    let mut watcher = Watcher::open(3).expect("inotify");
    let refused = watcher.add(&id("f"), &place(&root));
    assert!(matches!(refused, Err(Error::Limit)), "{refused:?}");
    assert!(watcher.is_empty());
    std::fs::remove_dir(root.join("0")).expect("removed");
    watcher.add(&id("f"), &place(&root)).expect("watched");
    std::fs::create_dir(root.join("0")).expect("made");
    let changed = watcher.take();
    assert_eq!(changed.lost, HashSet::from([id("f")]));
    let gone = Place {
        real: root.join("nowhere"),
        ..place(&root)
    };
    assert!(matches!(
        watcher.add(&id("g"), &gone),
        Err(Error::Place(..))
    ));
}

#[tokio::test]
async fn it_is_ready_when_there_is_something_and_again_after_that() {
    let home = tempfile::tempdir().expect("a directory");
    let mut watcher = Watcher::open(10).expect("inotify");
    watcher.add(&id("f"), &place(home.path())).expect("watched");
    for round in 0..3 {
        let soon = tokio::time::timeout(Duration::from_millis(20), watcher.ready()).await;
        assert!(soon.is_err(), "nothing has changed");
        write(&home.path().join("file"), &round.to_string());
        let ready = tokio::time::timeout(Duration::from_secs(20), watcher.ready()).await;
        ready.expect("it was told");
        assert_eq!(names(&watcher.take()), ["f"]);
    }
}

#[test]
fn a_place_is_another_when_its_directory_is() {
    let home = tempfile::tempdir().expect("a directory");
    let (path, other) = (home.path().join("code"), home.path().join("other"));
    assert_eq!(Place::at(&path), None);
    std::fs::create_dir(&path).expect("made");
    let first = place(&path);
    assert_eq!(place(&path), first);
    std::fs::rename(&path, &other).expect("moved");
    std::fs::create_dir(&path).expect("made");
    assert_ne!(place(&path), first);
    // A file that is saved anew is the same place.
    let file = other.join("file");
    write(&file, "1");
    let first = place(&file);
    write(&other.join("beside"), "2");
    std::fs::rename(other.join("beside"), &file).expect("renamed");
    assert_eq!(place(&file), first);
}

#[test]
fn a_fingerprint_tells_what_was_changed() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path();
    std::fs::create_dir(root.join("a")).expect("made");
    write(&root.join("a/file"), "1");
    let of = || fingerprint(&place(root));
    let mut seen = HashSet::from([of()]);
    assert!(!seen.insert(of()), "nothing was changed");
    let mut after = |what: &str, change: &dyn Fn()| {
        change();
        assert!(seen.insert(of()), "{what}");
    };
    after("longer", &|| write(&root.join("a/file"), "22"));
    after("more", &|| write(&root.join("b"), ""));
    after("renamed", &|| {
        std::fs::rename(root.join("b"), root.join("c")).expect("renamed")
    });
    after("gone", &|| {
        std::fs::remove_file(root.join("c")).expect("removed")
    });
}
