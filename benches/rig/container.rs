//! Workers in containers without Hearth around them, through the same engine driver: what Docker can do at best.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use hearth::clock;
use hearth::config::Config;
use hearth::config::load;
use hearth::domain::aws::Place;
use hearth::domain::environment::{Environment, Variables};
use hearth::domain::function::{Code, Function, Network, Origin};
use hearth::domain::id::{FunctionId, FunctionName};
use hearth::domain::limits::Mebibytes;
use hearth::domain::version::VersionId;
use hearth::engine::docker::{Docker, Options};
use hearth::engine::{Engine, spec};
use hearth::runtime::Catalog;
use hearth::runtime::manifest::Manifest;
use hearth::worker::Worker;
use hearth::worker::boot::{self, Order};
use hearth::worker::logs::Book;
use hearth::worker::specialise::{self, Blueprint, Unpacked};

use crate::instance::root;

/// The engine, as the configuration of the benches names it.
pub(crate) fn engine(instance: &str, directory: &Path) -> anyhow::Result<Docker> {
    let config = config()?;
    Ok(Docker::new(Options {
        instance: instance.to_owned(),
        engine: config.engine,
        worker: config.worker,
        directory: directory.to_owned(),
    })?)
}

fn config() -> anyhow::Result<Config> {
    let file = root().join("config/bench.toml");
    Ok(load::from_process(Some(file), Vec::new())?.config)
}

/// A place where workers are made by hand.
#[derive(Debug)]
pub(crate) struct Yard {
    docker: Docker,
    catalog: Catalog,
    config: Config,
    directory: tempfile::TempDir,
}

impl Yard {
    /// `instance` is whose the containers are, so that somebody else can remove them if this process cannot.
    pub(crate) fn open(instance: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hearth-yard.").tempdir()?;
        Ok(Self {
            docker: engine(instance, directory.path())?,
            catalog: Catalog::read(&root().join("runtimes"))?,
            config: config()?,
            directory,
        })
    }

    /// A container of this runtime that has said hello and returned a ping.
    pub(crate) async fn boot(&self, manifest: &Manifest) -> anyhow::Result<Worker> {
        let image = self.catalog.image(&manifest.id).context("it is known")?;
        self.docker.ensure_image(image).await?;
        let order = Order {
            runtime: manifest.id.clone(),
            image: image.tag.clone(),
            own: None,
            limits: boot::stem_limits(manifest.stem_memory),
            network_of: None,
            workers_dir: self.directory.path().join("workers"),
            boot_timeout: self.config.pool.boot_timeout,
            line_bytes: self.config.logs.line_bytes,
        };
        Ok(boot::boot(&self.docker, &order, drop).await?)
    }

    /// Gives a worker the function in `folder`.
    pub(crate) async fn specialise(
        &self,
        worker: &mut Worker,
        manifest: &Manifest,
        folder: &Path,
    ) -> anyhow::Result<()> {
        // Linked into the worker's directory, so it has to be on the same file system.
        let code = self.copied(folder)?;
        let memory = Mebibytes(128);
        let blueprint = Blueprint {
            function: Arc::new(function(manifest, memory)?),
            version: VersionId::Latest,
            arn: Place::default().function(&manifest.id),
            environment: Variables::default(),
            limits: spec::limits_for(memory, self.config.worker.cpu_floor_cores, 1),
            logs: Book::new(self.config.logs.keep_bytes),
            init_timeout: self.config.pool.init_timeout,
        };
        let layers = Vec::new();
        let unpacked = Unpacked { code, layers };
        Ok(specialise::specialise(&self.docker, worker, &blueprint, false, unpacked).await?)
    }

    fn copied(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let code = tempfile::tempdir_in(self.directory.path())?.keep();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            std::fs::copy(entry.path(), code.join(entry.file_name()))?;
        }
        Ok(code)
    }

    pub(crate) async fn remove(&self, worker: &Worker) -> anyhow::Result<()> {
        Ok(self.docker.remove(&worker.remains.container).await?)
    }

    /// Removes every container of this place.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        clear(&self.docker).await
    }
}

/// Removes every container of an instance.
pub(crate) async fn clear(engine: &dyn Engine) -> anyhow::Result<()> {
    for found in engine.owned().await? {
        engine.remove(&found.id).await?;
    }
    Ok(())
}

fn function(manifest: &Manifest, memory: Mebibytes) -> anyhow::Result<Function> {
    let now = clock::wall();
    Ok(Function {
        id: FunctionId::generate(),
        name: FunctionName::parse("bench").map_err(anyhow::Error::msg)?,
        revision: 1,
        runtime: manifest.id.clone(),
        handler: manifest.default_handler.clone(),
        timeout_seconds: 30,
        memory,
        code: Code {
            sha256: String::new(),
            size: 0,
            unpacked_size: None,
            origin: Origin::Inline,
        },
        layers: Vec::new(),
        environment: Environment::default(),
        description: String::new(),
        tags: BTreeMap::new(),
        route: None,
        max_concurrency: None,
        reserved_concurrency: None,
        asynchronous: Default::default(),
        network: Network::None,
        aws: Default::default(),
        created_at: now,
        updated_at: now,
    })
}
