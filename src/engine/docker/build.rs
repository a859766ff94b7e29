//! Building a runtime's image: one build per image however many ask, in a task of its own, with the end of its output as
//! the error. Called by the engine's `ensure_image`; what is in the archive is `context`'s business.

use std::collections::{HashMap, VecDeque};

use bollard::body_full;
use bollard::errors::Error as BollardError;
use bollard::query_parameters::BuildImageOptions;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, Shared};

use crate::clock;
use crate::domain::fault::with_sources;
use crate::engine::docker::{Docker, Failure, record, typed};
use crate::engine::{Error, ImageSpec, context, spec};
use crate::task;

/// Lines of a build's output that its error shows, and how much of each.
const BUILD_LINES: usize = 20;
const BUILD_LINE_CHARS: usize = 400;

/// A build under way, for everybody who waits for it.
pub(super) type Build = Shared<BoxFuture<'static, Result<(), Error>>>;

impl Docker {
    /// A task of its own, so that it goes on when the caller who came first gives up.
    pub(super) fn spawn_build(&self, image: ImageSpec) -> Build {
        let docker = self.clone();
        let tag = image.tag.clone();
        let building = task::spawn(task::Kind::Local, "image-build", async move {
            // Taken out on the way out, also by a panic.
            let _entry = BuildEntry {
                docker: docker.clone(),
                tag: image.tag.clone(),
            };
            docker.build(image).await
        });
        async move {
            match building.await {
                Ok(Some(result)) => result,
                Ok(None) | Err(_) => Err(Error::Build {
                    image: tag,
                    reason: "the task that builds it ended early".to_owned(),
                }),
            }
        }
        .boxed()
        .shared()
    }

    async fn build(self, image: ImageSpec) -> Result<(), Error> {
        let failed = |reason: String| Error::Build {
            image: image.tag.clone(),
            reason,
        };
        let within = self.inner.options.engine.build_timeout;
        let work = async {
            let _permit = self.inner.building.acquire().await;
            let folder = image.context.clone();
            let archive = task::blocking("image-context", move || context::archive(&folder))
                .await
                .map_err(|error| failed(with_sources(&error)))?;
            tracing::info!(image = image.tag, base = image.base_image, "building image");
            let started = clock::now();
            self.run_build(&image, archive).await?;
            let seconds = (clock::now() - started).as_secs_f64();
            tracing::info!(image = image.tag, seconds, "built image");
            Ok(())
        };
        let started = clock::now();
        let result = tokio::time::timeout(within, work)
            .await
            .unwrap_or(Err(Error::Timeout {
                operation: "build",
                after: within,
            }));
        record("build", started, result.as_ref().err().map(Error::label));
        result
    }

    async fn run_build(&self, image: &ImageSpec, archive: Vec<u8>) -> Result<(), Error> {
        let failed = |reason: String| Error::Build {
            image: image.tag.clone(),
            reason,
        };
        let repository = image.tag.split(':').next().unwrap_or(&image.tag);
        let runtime = repository.strip_prefix("hearth-").unwrap_or(repository);
        let options = BuildImageOptions {
            t: Some(image.tag.clone()),
            dockerfile: "Dockerfile".to_owned(),
            buildargs: Some(HashMap::from([(
                "BASE".to_owned(),
                image.base_image.clone(),
            )])),
            labels: Some(HashMap::from([(
                spec::LABEL_RUNTIME.to_owned(),
                runtime.to_owned(),
            )])),
            // Containers of the build's steps go, whether it succeeds or not.
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let client = self
            .inner
            .client("build")
            .map_err(|failure| typed("build", failure, None))?;
        let mut lines = LastLines::default();
        let mut output = client.build_image(options, None, Some(body_full(archive.into())));
        while let Some(step) = output.next().await {
            match step {
                Ok(info) => {
                    lines.push(info.stream.as_deref().unwrap_or_default());
                    lines.push(info.status.as_deref().unwrap_or_default());
                }
                Err(BollardError::DockerStreamError { error }) => {
                    lines.push(&error);
                    return Err(failed(lines.text()));
                }
                Err(error) => match typed("build", Failure::Bollard(error), None) {
                    Error::Refused { reason, .. } => {
                        lines.push(&reason);
                        return Err(failed(lines.text()));
                    }
                    other => return Err(other),
                },
            }
        }
        // A daemon that goes away ends the output like one that is done.
        if self.inner.has_image(&image.tag).await? {
            Ok(())
        } else {
            lines.push("the build ended without an image");
            Err(failed(lines.text()))
        }
    }
}

struct BuildEntry {
    docker: Docker,
    tag: String,
}

impl Drop for BuildEntry {
    fn drop(&mut self) {
        self.docker.inner.builds.lock().remove(&self.tag);
    }
}

#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<String>,
}

impl LastLines {
    fn push(&mut self, text: &str) {
        for line in text.lines().map(str::trim_end).filter(|l| !l.is_empty()) {
            if self.lines.len() == BUILD_LINES {
                self.lines.pop_front();
            }
            self.lines
                .push_back(line.chars().take(BUILD_LINE_CHARS).collect());
        }
    }

    fn text(&self) -> String {
        self.lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}
