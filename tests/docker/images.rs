//! Runtimes' images: built where they are missing, whatever the reason.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth::runtime::manifest;
use serde_json::json;

use crate::containers::docker;
use crate::languages;
use crate::load::{Load, Stream};
use crate::server::{Server, State};
use crate::sweep::Holdings;

/// A folder with one runtime in it.
pub(crate) fn one_runtime(state: &State) -> (PathBuf, PathBuf) {
    let original = languages::all()
        .into_iter()
        .find(|runtime| runtime.answers_to("python"));
    let original = original.unwrap().folder;
    let root = state.beside("runtimes");
    let folder = root.join(original.file_name().unwrap());
    copy(&original, &folder);
    (root, folder)
}

/// A folder with one runtime that nobody else uses: the same but for a comment, so that its image is another one.
fn own_runtime(state: &State) -> (PathBuf, String) {
    let (root, folder) = one_runtime(state);
    let unique = format!("\n# {}\n", root.display());
    let manifest = folder.join("runtime.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text + &unique).unwrap();
    let shim = folder.join("shim/shim.py");
    let text = std::fs::read_to_string(&shim).unwrap();
    std::fs::write(&shim, text + &unique).unwrap();
    let all = manifest::read_all(&root).unwrap();
    let image = hearth::runtime::image::of(&all[0]).unwrap().tag;
    (root, image)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

struct Image(String);

impl Image {
    fn is_there(&self) -> bool {
        docker(&["image", "inspect", &self.0]).is_ok()
    }

    fn remove(&self) {
        docker(&["rmi", "--force", &self.0]).expect("the image can be removed");
        assert!(!self.is_there());
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_there() {
            drop(docker(&["rmi", "--force", &self.0]));
        }
    }
}

/// Somebody cleans up while calls are made, and workers die: new ones need the image.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_removed_under_load_is_built_again() {
    let state = State::new();
    let (runtimes, tag) = own_runtime(&state);
    let image = Image(tag);
    let settings = [
        ("runtimes.dir", runtimes.to_str().unwrap()),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    let server = Server::start_on(state, &settings);
    for text in [
        "idle worker died",
        "how a worker ended cannot be learnt",
        "call failed",
        "container cannot be started",
    ] {
        server.expects(text);
    }
    let code = "import time\ndef handler(event, context): time.sleep(0.03); return 'ran'";
    let mut streams = Vec::new();
    for function in ["one", "two"] {
        server.deploy(function, code, json!({"timeout": 3})).await;
        streams.push(Stream {
            function,
            event: json!({}),
            callers: 2,
            // A build may be waited for as long as a worker may.
            within: Duration::from_secs(60),
        });
    }
    let before = Holdings::of(&server).await;
    let load = Load::begin(&server, &streams).await;
    image.remove();
    crate::containers::remove(&server.state().containers());
    load.goes_on(5).await;
    assert!(image.is_there());
    let outcomes = load.end().await;
    // Some were removed before they had said hello.
    let may = ["worker_exited", "start_failed"].map(|code| [("one", code), ("two", code)]);
    outcomes.only(&may.concat(), &[]);
    let refused = server.log_line("image and network are made sure of");
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains(&image.0),
        "the log names the image: {reason}"
    );
    let metrics = server.metrics().await;
    for (metric, labels) in [
        (
            "hearth_engine_errors_total",
            [("operation", "create"), ("reason", "refused")],
        ),
        (
            "hearth_engine_call_seconds_count",
            [("operation", "build"), ("outcome", "ok")],
        ),
    ] {
        assert!(metrics.sum(metric, &labels) > 0.0, "{metric}");
    }
    before.are_all_of(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_built_at_start_and_when_it_is_needed() {
    let state = State::new();
    let (runtimes, tag) = own_runtime(&state);
    let image = Image(tag);
    let settings = [
        ("runtimes.dir", runtimes.to_str().unwrap()),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ];
    assert!(!image.is_there());
    let server = Server::start_on(state, &settings);
    assert!(image.is_there(), "a server that is ready has its images");
    let listed = server.client.get("/runtimes/").await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    for name in ["before", "after"] {
        server
            .deploy(name, "def handler(event, context): return 'ran'", json!({}))
            .await;
    }
    server.call("before", &json!({})).await.expect(200);

    // Somebody cleans up while it runs. A container keeps what it was made of; a new one needs the image.
    let containers = server.state().containers();
    crate::containers::remove(&containers);
    server.expects("idle worker died");
    image.remove();
    assert_eq!(
        server.call("after", &json!({})).await.expect(200).json(),
        "ran"
    );
    assert!(image.is_there());

    let state = server.stop();
    image.remove();
    let server = Server::start_on(state, &settings);
    assert!(image.is_there());
    for name in ["before", "after"] {
        assert_eq!(
            server.call(name, &json!({})).await.expect(200).json(),
            "ran"
        );
    }
}
