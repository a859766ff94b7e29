//! Images: built once, explained when they fail.

use hearth::domain::id::WorkerId;
use hearth::engine::{Engine, Error, ImageSpec};

use super::bench::{BASE, docker, seconds_since_epoch, with_engine};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_once_for_all_who_want_it_and_a_failure_is_explained() {
    with_engine(async |bench| {
        let context = bench.root.path().join("counted");
        std::fs::create_dir(&context).unwrap();
        // Content of its own, so that no layer is cached from an earlier run.
        let unique = WorkerId::generate();
        let text = format!("ARG BASE\nFROM ${{BASE}}\nRUN echo {unique} && sleep 1\n");
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        let image = ImageSpec {
            tag: format!("hearth-engine-test:{unique}"),
            context: context.clone(),
            base_image: BASE.into(),
        };
        let before = seconds_since_epoch();
        let wishes = (0..5).map(|_| bench.docker.ensure_image(&image));
        let results = futures_util::future::join_all(wishes).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        // Each build ends with the image being given its name.
        let named = docker(&[
            "events",
            &format!("--since={before}"),
            &format!("--until={}", seconds_since_epoch() + 1),
            "--filter=event=tag",
            &format!("--filter=image={}", image.tag),
            "--format={{.Action}}",
        ]);
        assert_eq!(named, "tag");
        let label = "{{index .Config.Labels \"hearth.runtime\"}}";
        let label = docker(&["image", "inspect", "-f", label, &image.tag]);
        assert_eq!(label, "engine-test");
        // There already: no build, so the folder is not even read.
        std::fs::remove_dir_all(&context).unwrap();
        bench.docker.ensure_image(&image).await.unwrap();
        docker(&["rmi", &image.tag]);
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        assert!(matches!(&error, Error::Build { reason, .. } if reason.contains("cannot read")), "{error}");

        std::fs::create_dir(&context).unwrap();
        let text = "ARG BASE\nFROM ${BASE}\nRUN echo the last words; exit 7\n";
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        let Error::Build { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("the last words") && reason.contains("code: 7"), "{reason}");
        // A failure is not remembered.
        std::fs::write(context.join("Dockerfile"), "ARG BASE\nFROM ${BASE}\n").unwrap();
        bench.docker.ensure_image(&image).await.unwrap();
        docker(&["rmi", &image.tag]);

        std::fs::write(context.join("Dockerfile"), "NONSENSE\n").unwrap();
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        assert!(matches!(&error, Error::Build { reason, .. } if reason.to_lowercase().contains("nonsense")), "{error}");
    })
    .await;
}
