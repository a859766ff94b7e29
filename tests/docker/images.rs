//! Runtimes' images: built where they are missing, whatever the reason.

use std::path::{Path, PathBuf};

use hearth::runtime::manifest;
use serde_json::json;

use crate::containers::docker;
use crate::languages;
use crate::server::{Server, State};

/// A folder with one runtime that nobody else uses: the same but for a comment, so that its image is another one.
fn own_runtime(state: &State) -> (PathBuf, String) {
    let original = languages::all()
        .into_iter()
        .find(|runtime| runtime.answers_to("python"));
    let original = original.unwrap().folder;
    let root = state.beside("runtimes");
    let folder = root.join(original.file_name().unwrap());
    copy(&original, &folder);
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
