//! The simulated engine: containers are tasks. What goes wrong is the weather's to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::image;
use crate::engine::{
    ContainerId, ContainerSpec, Description, Engine, Error, Exit, Found, ImageSpec, Limits,
};
use crate::runtime::Catalog;
use crate::sim::container::{Container, Program, Seen, Watch};
use crate::sim::weather::{Fate, Operation, Weather};
use crate::task;

/// What a stem worker of the made-up runtimes is counted for.
pub const STEM_MEMORY: u32 = 128;

/// No control group is ever called so: what is behind these ids is this very process, and must not be limited or killed.
const CONTAINER: &str = "simulated-container-";
const HOLDER: &str = "simulated-holder-";

pub struct Simulated {
    program: Arc<Program>,
    watch: Arc<dyn Watch>,
    weather: Arc<Weather>,
    next: AtomicU64,
    containers: Mutex<BTreeMap<u64, Arc<Held>>>,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Simulated({} containers)", self.containers.lock().len())
    }
}

/// A container as the engine has it.
#[derive(Debug)]
struct Held {
    kill: CancellationToken,
    /// Its process has ended.
    over: CancellationToken,
    ended: Mutex<Option<(Instant, Exit)>>,
    fate: Fate,
    holds_network: bool,
}

impl Simulated {
    pub fn new(program: Arc<Program>, watch: Arc<dyn Watch>, weather: Arc<Weather>) -> Arc<Self> {
        Arc::new(Self {
            program,
            watch,
            weather,
            next: AtomicU64::new(1),
            containers: Mutex::default(),
        })
    }

    /// Containers there are, network holders among them.
    pub fn count(&self) -> usize {
        self.containers.lock().len()
    }

    /// Somebody removes all that hold a network. Who is in one stays, and has none.
    pub fn lose_networks(&self) {
        let mut containers = self.containers.lock();
        containers.retain(|_, held| !held.holds_network);
    }

    fn run(&self, number: u64, spec: &ContainerSpec, held: &Arc<Held>) {
        let container = Container {
            number,
            directory: spec.directory.clone(),
            runtime: spec.labels["hearth.runtime"].clone(),
            fate: held.fate.clone(),
            weather: self.weather.clone(),
            program: self.program.clone(),
            watch: self.watch.clone(),
        };
        let (held, watch) = (held.clone(), self.watch.clone());
        task::spawn(task::Kind::Local, "container", async move {
            let exit = tokio::select! {
                biased;
                () = held.kill.cancelled() => Exit { code: 137, out_of_memory: false },
                exit = container.live() => exit,
            };
            *held.ended.lock() = Some((clock::now(), exit));
            watch.see(Seen::Ended {
                container: number,
                exit,
            });
            held.over.cancel();
        });
    }

    fn held(&self, id: &ContainerId) -> Option<(u64, Arc<Held>)> {
        let number = id.0.rsplit('-').next()?.parse().ok()?;
        let held = self.containers.lock().get(&number)?.clone();
        Some((number, held))
    }

    fn hold(&self, fate: Fate, holds_network: bool) -> (u64, Arc<Held>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let held = Arc::new(Held {
            kill: CancellationToken::new(),
            over: CancellationToken::new(),
            ended: Mutex::default(),
            fate,
            holds_network,
        });
        self.containers.lock().insert(number, held.clone());
        (number, held)
    }

    async fn make(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        let (number, held) = self.hold(self.weather.fate(), false);
        self.watch.see(Seen::Starting {
            container: number,
            memory: spec.limits.memory.0,
        });
        if held.fate.early {
            self.run(number, spec, &held);
        }
        let mut passed = self.weather.pass(Operation::Start).await;
        if self.weather.image_is_gone() {
            passed = Err(Error::Refused {
                operation: "create",
                reason: format!("no such image: {}", spec.image),
            });
        }
        if let Some(network) = &spec.network_of
            && self.held(network).is_none()
        {
            passed = Err(Error::Refused {
                operation: "start",
                reason: format!("no such container: {}", network.0),
            });
        }
        if let Err(error) = passed {
            // What an engine could not start it has not got.
            held.kill.cancel();
            if held.fate.early {
                held.over.cancelled().await;
            }
            self.containers.lock().remove(&number);
            self.watch.see(Seen::NotStarted { container: number });
            return Err(error);
        }
        if !held.fate.early {
            self.run(number, spec, &held);
        }
        Ok(ContainerId(format!("{CONTAINER}{number}").into()))
    }

    async fn clear(&self, id: &ContainerId) -> Result<(), Error> {
        self.weather.pass(Operation::Remove).await?;
        let Some((number, held)) = self.held(id) else {
            return Ok(());
        };
        held.kill.cancel();
        if id.0.starts_with(CONTAINER) {
            held.over.cancelled().await;
        }
        if self.containers.lock().remove(&number).is_some() {
            self.watch.see(Seen::Removed { container: number });
        }
        Ok(())
    }
}

impl Engine for Simulated {
    fn ensure_image<'a>(&'a self, _image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        self.weather.pass(Operation::EnsureImage).boxed()
    }
    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<image::Found>, Error>> {
        async move { Ok(found_image(name)) }.boxed()
    }
    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<ContainerId, Error>> {
        self.make(spec).boxed()
    }
    fn start_network_holder<'a>(
        &'a self,
        _image: &'a str,
    ) -> BoxFuture<'a, Result<ContainerId, Error>> {
        async {
            self.weather.pass(Operation::Start).await?;
            let (number, _) = self.hold(Fate::default(), true);
            Ok(ContainerId(format!("{HOLDER}{number}").into()))
        }
        .boxed()
    }
    fn limit<'a>(
        &'a self,
        id: &'a ContainerId,
        limits: Limits,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.weather.pass(Operation::Limit).await?;
            let Some((container, _)) = self.held(id) else {
                return Err(gone("update", id));
            };
            let memory = limits.memory.0;
            self.watch.see(Seen::Limited { container, memory });
            Ok(())
        }
        .boxed()
    }
    fn exit<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Option<Exit>, Error>> {
        async move {
            self.weather.pass(Operation::Exit).await?;
            let Some((_, held)) = self.held(id) else {
                return Err(gone("inspect", id));
            };
            let ended = *held.ended.lock();
            Ok(ended
                .filter(|(at, _)| *at + held.fate.noticed_after <= clock::now())
                .map(|(_, exit)| exit))
        }
        .boxed()
    }
    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), Error>> {
        self.clear(id).boxed()
    }
    fn owned(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn describe(&self) -> BoxFuture<'_, Result<Description, Error>> {
        async {
            Ok(Description {
                name: "simulated".into(),
                version: "1".into(),
                api_version: "1".into(),
                cgroup_version: "2".into(),
                memory: 1 << 30,
                cpus: 2,
            })
        }
        .boxed()
    }
}

/// There are two images: `app:1`, by its other name and its id too, and `foreign:1` for another processor.
fn found_image(name: &str) -> Option<image::Found> {
    let digit = match name {
        "app:1" | "team/app:1" => "1",
        "foreign:1" => "2",
        _ if name == format!("sha256:{}", "1".repeat(64)) => "1",
        _ => return None,
    };
    let here = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    Some(image::Found {
        built: image::Built {
            id: format!("sha256:{}", digit.repeat(64)),
            entrypoint: vec!["/entry".into()],
            command: vec!["app.handler".into()],
            volumes: Vec::new(),
        },
        platform: format!("linux/{}", if digit == "1" { here } else { "s390x" }),
    })
}

fn gone(operation: &'static str, id: &ContainerId) -> Error {
    Error::Gone {
        operation,
        id: id.clone(),
    }
}

/// Two made-up runtimes, whose folders are written to `folder`.
pub fn catalog(folder: &Path) -> Catalog {
    for (id, short) in [("runic1.0", "runic"), ("sign2.x", "sign")] {
        let folder = folder.join(id);
        std::fs::create_dir_all(folder.join("template")).expect("folder");
        let manifest = format!(
            "id = {id:?}\nnames = [{short:?}]\ndescription = \"made up\"\ndefault_handler = \"app.handler\"\n\
             source_extension = \"txt\"\nstem_memory_mb = {STEM_MEMORY}\nbase_image = \"none\"\nbare_command = [\"none\"]\n{}",
            if short == "sign" {
                "image_shim = \"shim\"\n"
            } else {
                ""
            }
        );
        std::fs::write(folder.join("runtime.toml"), manifest).expect("manifest");
        std::fs::write(folder.join("Dockerfile"), "FROM none\n").expect("recipe");
        std::fs::write(folder.join("template/app.txt"), "say hello\n").expect("template");
    }
    Catalog::read(folder).expect("runtimes")
}
