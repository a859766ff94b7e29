//! The engine: whether it can be reached and answers, what it is, what it can limit, whether it sees our files, and the images it
//! has. Everything else about the engine hangs on its answering, so the first thing that is wrong ends the list.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Config};
use crate::doctor::{Finding, Scratch, state};
use crate::engine::docker::survey::Survey;
use crate::engine::docker::{Docker, Options};
use crate::engine::{Description, Engine, Error};
use crate::runtime::Catalog;
use crate::task;

/// A healthy engine takes milliseconds; one that takes longer than this will not serve calls.
const PATIENCE: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;
/// An image of a runtime has about 100 MiB.
const ROOM: (u64, u64) = (512 * MIB, 5_120 * MIB);
/// The oldest API the engine part is tested with.
const API_TESTED: (u32, u32) = (1, 41);
/// The first release of 20.10 without the deadlock of moby 46661.
const DEADLOCK_FIXED: (u32, u32, u32) = (20, 10, 27);

const RESTART: &str = "restart it: sudo systemctl restart docker (or stop dockerd and run 'make up'); functions \
                       that are warm go on answering until then";

/// `place` is a directory where workers' directories will be; without one, what the engine sees of it is left out.
pub(super) async fn examine(config: &Config, place: Option<&Path>) -> Vec<Finding> {
    let socket = config.engine.socket.clone();
    let reached = task::blocking("doctor-socket", move || reach(&socket)).await;
    let reachable = reached.mend.is_none();
    let mut findings = vec![reached];
    let catalog = Catalog::read(&config.runtimes_dir);
    if reachable {
        findings.extend(Box::pin(ask(config, place, catalog.as_ref().ok())).await);
    } else {
        findings.push(Finding::skipped("engine", "cannot be asked anything"));
    }
    findings.push(runtimes(&config.runtimes_dir, catalog));
    findings
}

fn reach(socket: &Path) -> Finding {
    let about = "engine socket";
    let shown = socket.display();
    let Err(error) = UnixStream::connect(socket) else {
        return Finding::good(about, format!("{shown} takes connections"));
    };
    let start = "'make up' starts an engine; or: sudo systemctl start docker";
    let (found, mend) = match error.kind() {
        ErrorKind::NotFound => (
            format!("there is no {shown}"),
            format!("{start}; if it listens elsewhere: --set engine.socket=PATH"),
        ),
        ErrorKind::PermissionDenied => (
            format!("this user may not use {shown}"),
            "run as root, or: sudo usermod -aG docker $USER and log in again".into(),
        ),
        ErrorKind::ConnectionRefused => (format!("nobody listens on {shown}"), start.into()),
        _ => (format!("{shown}: {error}"), start.into()),
    };
    Finding::bad(about, found, mend)
}

async fn ask(config: &Config, place: Option<&Path>, catalog: Option<&Catalog>) -> Vec<Finding> {
    // The engine's part keeps a file; ours is thrown away with the directory.
    let own = match Scratch::new(place.unwrap_or(Path::new("/tmp"))) {
        Ok(own) => own,
        Err(error) => {
            return vec![Finding::skipped(
                "engine",
                format!("no room to ask from: {error}"),
            )];
        }
    };
    let options = Options {
        instance: "doctor".into(),
        engine: config::Engine {
            call_timeout: PATIENCE.min(config.engine.call_timeout),
            ..config.engine.clone()
        },
        worker: config.worker.clone(),
        directory: own.path().into(),
    };
    let docker = match Docker::new(options) {
        Ok(docker) => docker,
        Err(error) => {
            return vec![Finding::skipped(
                "engine",
                format!("cannot be asked: {error}"),
            )];
        }
    };
    let described = docker.describe().await;
    let answers = judge_answer(described.as_ref().err());
    let Ok(description) = described else {
        return vec![answers];
    };
    let mut findings = vec![answers, judge_version(&description)];
    match docker.survey().await {
        Ok(survey) => {
            findings.push(judge_limits(&description.cgroup_version, &survey));
            findings.push(state::room("disk space, engine", &survey.root, ROOM));
        }
        Err(error) => findings.push(Finding::bad("control groups", error.to_string(), RESTART)),
    }
    if let Some(place) = place {
        findings.push(judge_mounts(docker.sees(place).await, place));
    }
    for manifest in catalog.iter().flat_map(|catalog| catalog.all()) {
        let Some(image) = catalog.and_then(|catalog| catalog.image(&manifest.id)) else {
            continue;
        };
        let built = docker.has_image(&image.tag).await;
        let base = docker.has_image(&image.base_image).await;
        let about = format!("image, {}", manifest.id);
        findings.push(judge_image(
            &about,
            &image.tag,
            &image.base_image,
            built,
            base,
        ));
    }
    findings
}

/// A ping is no health check: an engine whose network code is deadlocked still answers that, and hangs in what is asked here.
fn judge_answer(error: Option<&Error>) -> Finding {
    let about = "engine";
    match error {
        None => Finding::good(about, "answers"),
        Some(Error::Timeout { after, .. }) => Finding::bad(
            about,
            format!(
                "takes connections and does not answer within {} s: it is wedged",
                after.as_secs()
            ),
            RESTART,
        ),
        Some(error) => Finding::bad(about, error.to_string(), RESTART),
    }
}

fn judge_version(engine: &Description) -> Finding {
    let about = "engine version";
    let found = format!(
        "{} {} (API {})",
        engine.name, engine.version, engine.api_version
    );
    let api = numbers(&engine.api_version);
    if (api[0], api[1]) < API_TESTED {
        let (major, minor) = API_TESTED;
        let mend =
            format!("install an engine that speaks API {major}.{minor} or newer (Docker 20.10)");
        return Finding::warning(about, format!("{found} is older than anything tried"), mend);
    }
    let version = numbers(&engine.version);
    let version = (version[0], version[1], version[2]);
    if (version.0, version.1) == (20, 10) && version < DEADLOCK_FIXED {
        return Finding::warning(
            about,
            format!(
                "{found} deadlocks for good when containers with a network start and stop in parallel (moby 46661); \
                 Hearth's workers have no network endpoint for that reason, other containers may"
            ),
            "install Docker 20.10.27 or newer; Debian 12 ships 20.10.24, download.docker.com has newer ones",
        );
    }
    Finding::good(about, found)
}

/// The first three numbers of a version; what is missing or is none is 0.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(['.', '+', '-', '~']);
    std::array::from_fn(|_| parts.next().and_then(|part| part.parse().ok()).unwrap_or(0))
}

fn judge_limits(cgroup_version: &str, survey: &Survey) -> Finding {
    let about = "control groups";
    let missing: Vec<_> = [
        ("memory", survey.memory_limit),
        ("cpu", survey.cpu_quota),
        ("pids", survey.pids_limit),
    ]
    .into_iter()
    .filter_map(|(controller, there)| (!there).then_some(controller))
    .collect();
    if !missing.is_empty() {
        return Finding::bad(
            about,
            format!(
                "version {cgroup_version}, without {}: functions could not be limited",
                missing.join(", ")
            ),
            "boot the kernel with cgroup_enable=memory (GRUB_CMDLINE_LINUX, then update-grub); in a rootless engine, \
             delegate the controllers to its user (systemd: Delegate=cpu memory pids)",
        );
    }
    let found = format!("version {cgroup_version} with memory, cpu and pids");
    if survey.swap_limit {
        return Finding::good(about, found);
    }
    Finding::warning(
        about,
        format!("{found}; swap is not limited, so a function over its memory may swap and not end"),
        "boot the kernel with swapaccount=1, or switch swap off",
    )
}

fn judge_mounts(seen: Result<bool, Error>, place: &Path) -> Finding {
    let about = "mounts";
    let parent = place.parent().unwrap_or(place).display();
    match seen {
        Ok(true) => Finding::good(about, format!("the engine sees {parent} as we do")),
        Ok(false) => Finding::bad(
            about,
            format!("the engine does not see {parent}: it could not hand workers their sockets"),
            "in a container, mount the state directory at the same path as on the host (-v /var/lib/hearth:/var/lib/hearth); an \
             engine on another machine cannot be used",
        ),
        Err(error) => Finding::bad(about, error.to_string(), RESTART),
    }
}

fn judge_image(
    about: &str,
    tag: &str,
    base_image: &str,
    built: Result<bool, Error>,
    base: Result<bool, Error>,
) -> Finding {
    match (built, base) {
        (Err(error), _) | (Ok(false), Err(error)) => {
            Finding::bad(about, error.to_string(), RESTART)
        }
        (Ok(true), _) => Finding::good(about, format!("{tag} is built")),
        (Ok(false), Ok(true)) => Finding::warning(
            about,
            format!("{tag} is not built yet, its base {base_image} is there"),
            "nothing: the server builds it when it starts, in a minute or two",
        ),
        (Ok(false), Ok(false)) => Finding::warning(
            about,
            format!("neither {tag} nor its base {base_image} is there"),
            format!("'make up' makes both without a registry; with one: docker pull {base_image}"),
        ),
    }
}

fn runtimes(folder: &Path, catalog: Result<Catalog, crate::runtime::Error>) -> Finding {
    let about = "runtimes";
    let shown = folder.display();
    let mend = "name the folder with --runtimes, or start in the checkout";
    match catalog {
        Ok(catalog) if catalog.all().is_empty() => {
            Finding::bad(about, format!("{shown} has no runtime"), mend)
        }
        Ok(catalog) => {
            let ids: Vec<_> = catalog.all().iter().map(|m| m.id.as_str()).collect();
            Finding::good(about, format!("{} in {shown}", ids.join(", ")))
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            Finding::bad(about, text, mend)
        }
    }
}

#[cfg(test)]
mod tests;
