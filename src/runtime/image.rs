//! The image of a runtime: its tag is the digest of what goes into it, so an edited folder is another image, the old one stays
//! for workers that still run, and an unchanged folder is never built twice. Blocking.

use sha2::{Digest, Sha256};

use crate::engine::ImageSpec;
use crate::engine::context;
use crate::runtime::manifest::Manifest;

/// Digits of the digest that stand in the tag.
const TAG_DIGITS: usize = 12;

/// Reads the runtime's folder and names its image.
pub fn of(manifest: &Manifest) -> Result<ImageSpec, context::Error> {
    let files = context::files(&manifest.folder)?;
    let digest = digest(&manifest.base_image, &files);
    let short = digest.get(..TAG_DIGITS).unwrap_or(&digest);
    Ok(ImageSpec {
        tag: format!("hearth-{}:{short}", manifest.id),
        context: manifest.folder.clone(),
        base_image: manifest.base_image.clone(),
    })
}

fn digest(base_image: &str, files: &[context::File]) -> String {
    let mut hash = Sha256::new();
    // Length-prefixed, so that a name cannot run into a content.
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(base_image.as_bytes());
    for file in files {
        field(file.name.as_bytes());
        field(&[u8::from(file.executable)]);
        field(&file.content);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> context::File {
        context::File {
            name: name.into(),
            executable: false,
            content: content.into(),
        }
    }

    #[test]
    fn every_part_of_the_image_counts() {
        let base = digest("b", &[file("a", "1"), file("b", "2")]);
        assert_eq!(base, digest("b", &[file("a", "1"), file("b", "2")]));
        let mut executable = file("a", "1");
        executable.executable = true;
        for other in [
            digest("c", &[file("a", "1"), file("b", "2")]),
            digest("b", &[file("a", "1"), file("b", "3")]),
            digest("b", &[file("a", "1"), file("c", "2")]),
            digest("b", &[file("a", "1")]),
            digest("b", &[executable, file("b", "2")]),
            // The same bytes, cut elsewhere.
            digest("b", &[file("a1", ""), file("b", "2")]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_tag_follows_the_folder_and_not_its_documentation() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lang1");
        std::fs::create_dir_all(folder.join("shim")).unwrap();
        std::fs::write(
            folder.join("runtime.toml"),
            r#"id = "lang1"
names = ["lang"]
description = "a language"
default_handler = "app.handler"
source_extension = "x"
stem_memory_mb = 128
base_image = "debian:trixie-slim"
bare_command = ["./shim/start"]
"#,
        )
        .unwrap();
        std::fs::write(folder.join("Dockerfile"), "ARG BASE\nFROM ${BASE}\n").unwrap();
        std::fs::write(folder.join("shim/start"), "#!/bin/sh\n").unwrap();
        let manifest = crate::runtime::manifest::read_all(root.path())
            .unwrap()
            .remove(0);

        let first = of(&manifest).unwrap();
        let (name, short) = first.tag.split_once(':').unwrap();
        assert_eq!(name, "hearth-lang1");
        assert_eq!(short.len(), TAG_DIGITS);

        std::fs::write(folder.join("README.md"), "for people").unwrap();
        assert_eq!(of(&manifest).unwrap().tag, first.tag);
        std::fs::write(folder.join("shim/start"), "#!/bin/sh\nexit\n").unwrap();
        assert_ne!(of(&manifest).unwrap().tag, first.tag);
    }
}
