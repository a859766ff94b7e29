//! Saving code where it came from, with everything real but the containers.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::api::control::world::{DEADLINE, World, new};
use crate::domain::function::Function;

/// Watches until it is dropped.
fn watching(world: &World, watches_max: usize) -> DropGuard {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let deploy = world.control.deploy.clone();
    task::spawn(task::Kind::Local, "code watch", async move {
        tokio::select! {
            () = run_within(deploy, watches_max) => {}
            () = stopped.cancelled() => {}
        }
    });
    stop.drop_guard()
}

async fn made(world: &World, name: &str, path: &Path) {
    let mut function = new(name);
    let fields = function.as_object_mut().expect("an object");
    fields.remove("code");
    fields.insert("code_path".into(), json!(path));
    fields.insert("handler".into(), json!("app.handler"));
    let made = world.post("/functions/", function).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
}

/// The source that runs now.
async fn running(world: &World, name: &str) -> Option<String> {
    let function = world.published(name)?;
    let zip = world.store.inner.code(&function.code.sha256).await;
    // It may be dropped for the next in this moment.
    let zip = zip.expect("store")?;
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(zip)).expect("a zip");
    let mut names: Vec<String> = zip
        .file_names()
        .map(|name| name.expect("a name").into_owned())
        .collect();
    names.sort_unstable();
    let mut all = String::new();
    for name in names {
        let mut text = String::new();
        let mut file = zip.by_name(&name).expect("a file");
        std::io::Read::read_to_string(&mut file, &mut text).expect("text");
        all.push_str(&format!("{name}={text};"));
    }
    Some(all)
}

async fn becomes(world: &World, name: &str, wanted: &str) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while running(world, name).await.as_deref() != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    if waited.await.is_err() {
        panic!(
            "{name} runs {:?} and not {wanted:?}",
            running(world, name).await
        );
    }
}

fn source(world: &World) -> PathBuf {
    let directory = world.dir.path().join("sources/f");
    std::fs::create_dir_all(&directory).expect("made");
    save(&directory.join("app.txt"), "1");
    directory
}

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

/// As careful editors do it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    save(&beside, text);
    std::fs::rename(beside, path).expect("renamed");
}

fn function(world: &World) -> Function {
    Function::clone(&world.published("f").expect("it is there"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_what_runs_and_is_kept() {
    let world = World::empty();
    let directory = source(&world);
    let _watch = watching(&world, 100);
    made(&world, "f", &directory).await;
    let before = function(&world);
    let app = directory.join("app.txt");
    save(&app, "2");
    becomes(&world, "f", "app.txt=2;").await;
    replace(&app, "3");
    becomes(&world, "f", "app.txt=3;").await;
    std::fs::create_dir_all(directory.join("a/b")).expect("made");
    save(&directory.join("a/b/more"), "4");
    becomes(&world, "f", "a/=;a/b/=;a/b/more=4;app.txt=3;").await;
    std::fs::remove_dir_all(directory.join("a")).expect("removed");
    becomes(&world, "f", "app.txt=3;").await;
    let after = function(&world);
    assert_ne!(after.digest(), before.digest());
    assert_eq!((after.id, after.name), (before.id, before.name));
    assert!(after.revision > before.revision);
    let stored = world.stored("f").await.expect("it is stored");
    assert_eq!(stored.revision, after.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_at_once_are_few_changes() {
    let world = World::empty();
    let directory = source(&world);
    let _watch = watching(&world, 100);
    made(&world, "f", &directory).await;
    let mut wanted = String::new();
    for n in 100..400 {
        save(&directory.join(n.to_string()), "x");
        wanted.push_str(&format!("{n}=x;"));
    }
    wanted.push_str("app.txt=1;");
    becomes(&world, "f", &wanted).await;
    let revision = function(&world).revision;
    assert!(revision < 100, "{revision} for 300 files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_may_go_and_come_back_as_another() {
    let world = World::empty();
    let directory = source(&world);
    let (link, other) = (
        directory.with_extension("link"),
        directory.with_extension("other"),
    );
    std::os::unix::fs::symlink(&directory, &link).expect("linked");
    let _watch = watching(&world, 100);
    made(&world, "f", &directory).await;
    made(&world, "linked", &link).await;
    std::fs::remove_dir_all(&directory).expect("removed");
    std::fs::create_dir(&other).expect("made");
    save(&other.join("app.txt"), "other");
    std::fs::rename(&other, &directory).expect("moved");
    for name in ["f", "linked"] {
        becomes(&world, name, "app.txt=other;").await;
    }
    // Watched again, and no longer what is gone.
    save(&directory.join("app.txt"), "again");
    for name in ["f", "linked"] {
        becomes(&world, name, "app.txt=again;").await;
    }
    let elsewhere = directory.with_extension("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    save(&elsewhere.join("app.txt"), "elsewhere");
    std::fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("linked");
    becomes(&world, "linked", "app.txt=elsewhere;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_packed_changes_nothing_until_it_can() {
    let world = World::empty();
    let directory = source(&world);
    let _watch = watching(&world, 100);
    made(&world, "f", &directory).await;
    std::os::unix::fs::symlink("/etc/hostname", directory.join("out")).expect("linked");
    save(&directory.join("app.txt"), "2");
    // A second function shows that the change was noticed, and that the first one's trouble is its own.
    let second = directory.with_extension("second");
    std::fs::create_dir(&second).expect("made");
    save(&second.join("app.txt"), "1");
    made(&world, "second", &second).await;
    save(&second.join("app.txt"), "2");
    becomes(&world, "second", "app.txt=2;").await;
    assert_eq!(running(&world, "f").await.as_deref(), Some("app.txt=1;"));
    std::fs::remove_file(directory.join("out")).expect("removed");
    becomes(&world, "f", "app.txt=2;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_is_watched_as_well() {
    let world = World::empty();
    let app = source(&world).join("app.txt");
    let _watch = watching(&world, 100);
    made(&world, "f", &app).await;
    replace(&app, "2");
    becomes(&world, "f", "app.txt=2;").await;
    std::fs::remove_file(&app).expect("removed");
    save(&app, "3");
    becomes(&world, "f", "app.txt=3;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_watched_it_is_looked_at() {
    let world = World::empty();
    let directory = source(&world);
    std::fs::create_dir(directory.join("a")).expect("made");
    let _watch = watching(&world, 1);
    made(&world, "f", &directory).await;
    save(&directory.join("a/more"), "x");
    becomes(&world, "f", "a/=;a/more=x;app.txt=1;").await;
    save(&directory.join("a/more"), "yy");
    becomes(&world, "f", "a/=;a/more=yy;app.txt=1;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_found_at_the_start() {
    let world = World::empty();
    let directory = source(&world);
    let watch = watching(&world, 100);
    made(&world, "f", &directory).await;
    drop(watch);
    save(&directory.join("app.txt"), "meanwhile");
    let _watch = watching(&world, 100);
    becomes(&world, "f", "app.txt=meanwhile;").await;
}

/// Watches on a directory, as the kernel counts them. The one watcher's descriptor is there twice.
fn watches_on(path: &Path) -> usize {
    let inode = format!(
        "ino:{:x} ",
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"))
    );
    let descriptors = std::fs::read_dir("/proc/self/fdinfo").expect("listed");
    let infos = descriptors.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    infos
        .map(|info| {
            info.lines()
                .filter(|l| l.starts_with("inotify") && l.contains(&inode))
                .count()
        })
        .max()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_gone_or_has_other_code_is_watched_no_more() {
    let world = World::empty();
    let directory = source(&world);
    let _watch = watching(&world, 100);
    let watched = async |wanted: usize| {
        let waited = tokio::time::timeout(DEADLINE, async {
            while watches_on(&directory) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let now = || watches_on(&directory);
        waited
            .await
            .unwrap_or_else(|_| panic!("{} and not {wanted} watches", now()));
    };
    for _ in 0..3 {
        made(&world, "f", &directory).await;
        watched(1).await;
        assert_eq!(world.delete("/functions/f").await.status, 204);
        watched(0).await;
    }
    made(&world, "f", &directory).await;
    watched(1).await;
    let inline = json!({"code": "inline"});
    assert_eq!(world.put("/functions/f", inline).await.status, 200);
    watched(0).await;
}

#[test]
fn a_burst_is_over_when_it_is_quiet_or_has_lasted() {
    let start = clock::now();
    let burst = Burst::joined(None, start);
    assert_eq!(burst.over_at(), start + QUIET);
    let mut burst = burst;
    let mut now = start;
    while now < burst.over_at() {
        now += QUIET / 2;
        burst = Burst::joined(Some(burst), now);
        assert!(burst.over_at() <= start + BURST_MAX);
    }
    assert!(now >= start + BURST_MAX - QUIET);
}
