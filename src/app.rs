//! The composition root: builds everything bottom-up, runs it, and stops it top-down. Alone knows every part.

mod admin;
mod ending;
mod options;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::api::control::{self, Control};
use crate::api::keys::Keys;
use crate::api::lambda::Lambda;
use crate::api::room::Room;
use crate::app::admin::AdminKey;
use crate::app::ending::{Signals, finished};
use crate::clock;
use crate::config::{self, Config};
use crate::engine::docker::Docker;
use crate::engine::{self, Engine, sweep};
use crate::gateway::server;
use crate::gateway::service::{self, Gateway, Readiness};
use crate::gateway::slowdown::Slowdown;
use crate::gateway::tls::Tls;
use crate::pool::{Pool, keeper};
use crate::queue::Queue;
use crate::runtime::Catalog;
use crate::runtime::code::Codes;
use crate::runtime::package::Places;
use crate::scheduler::Scheduler;
use crate::scheduler::share::{self, Share};
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::store::Store;
use crate::store::change::{Change, Changes, News};
use crate::store::embedded::Embedded;
use crate::store::permits::Permits;
use crate::store::redis::{Options as RedisOptions, Redis};
use crate::task;
use crate::telemetry::{logging, metrics};

/// Between two looks at an engine that did not answer, or did.
const ENGINE_RETRY: Duration = Duration::from_secs(1);
const ENGINE_CHECK: Duration = Duration::from_secs(5);
/// Between two attempts to read what others changed.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// The same for keys: a revocation has a second.
const KEYS_RETRY: Duration = Duration::from_millis(250);
/// What is left to do after the drain has this long.
const END: Duration = Duration::from_secs(40);
/// Calls that were interrupted have this long to be answered so.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Where things are in the state directory.
#[derive(Debug, Clone)]
struct State {
    root: PathBuf,
}

impl State {
    fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    fn admin_key(&self) -> PathBuf {
        self.root.join("admin.key")
    }

    fn secrets(&self) -> PathBuf {
        self.root.join("secrets.key")
    }

    /// What `hearth env` and scripts read to find the running instance.
    fn running(&self) -> PathBuf {
        self.root.join("instance.json")
    }

    fn instance(&self) -> PathBuf {
        self.root.join("instance")
    }
}

/// Runs Hearth until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    logging::install(&config.log.level, config.log.json).map_err(anyhow::Error::msg)?;
    let rendered = metrics::install().map_err(anyhow::Error::msg)?;
    let state = find_state(&config.state_dir)?;
    let stop = CancellationToken::new();
    // Before anything there is touched: all of it may be another process's that runs.
    let (store, permits, held) = open_store(&config.store, &state, &stop)?;
    // Until the process has ended, and not only this: a thread that blocks may write there for a moment longer.
    std::mem::forget(held);
    prepare_state(&state)?;
    let instance = instance_id(&state)?;
    // Before anything is read: what is written after that is noticed.
    let (changes, changes_of_keys) = (store.changes(), store.changes());
    let secrets = Arc::new(open_secrets(&config, &state)?);
    let admin = AdminKey::of(state.admin_key(), &instance, secrets.clone())?;
    let keys = Arc::new(Keys::default());
    // This node's own opens what there is to see while a shared store does not answer.
    keys.replace(&[admin.record()]);
    let catalog =
        Arc::new(Catalog::read(&config.runtimes_dir).context("the runtimes cannot be read")?);
    let engine: Arc<dyn Engine> = Arc::new(docker(&config, &instance, &state)?);

    let codes = Arc::new(Codes::new(store.clone(), state.code()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (pool, events) = Pool::new(
        options::pool_options(&config, &state, cores),
        engine.clone(),
        catalog.clone(),
        codes.clone(),
    );
    let traced = options::tracing(&config, &instance).context("no traces can be sent")?;
    let (tracer, exporter) = traced.unzip();
    let traces_stop = CancellationToken::new();
    let exporting = exporter.map(|exporter| {
        // Calls go on without it.
        let exporting = exporter.run(traces_stop.clone());
        task::spawn(task::Kind::Local, "traces", exporting)
    });
    let options = options::scheduler_options(&config, cores, secrets, tracer);
    let sharing = permits.map(|permits| {
        (
            Share::new(options::share_options(&config, &instance)),
            permits,
        )
    });
    let scheduler = match &sharing {
        Some((share, _)) => Scheduler::sharing(options, pool.clone(), share.clone()),
        None => Scheduler::new(options, pool.clone()),
    };
    let queues = options::queues(&config.aws).context("no queues can be asked for")?;
    let queue = Queue::new(
        scheduler.clone(),
        store.clone(),
        options::carrier(&config, queues.clone()),
        options::queue_options(&config.events, &instance),
    );
    let sources = options::sources_options(&config.aws, queues);
    let sources = Sources::new(scheduler.clone(), store.clone(), sources);
    let (address, running) = watch::channel(None);
    let control = Control::new(
        queue.clone(),
        store.clone(),
        catalog.clone(),
        keys.clone(),
        &config.limits,
        Places {
            roots: config.worker.code_path_roots.clone(),
            state: state.root.clone(),
            images: config.images.allowed.clone(),
        },
        stop.clone(),
    )
    .with_doctor(options::doctor(&config, running));
    let reader = Reader {
        control: control.clone(),
        store,
        keys: keys.clone(),
        admin: tokio::sync::Mutex::new(admin),
    };
    let restored = match reader.read().await {
        Ok(restored) => Some(restored),
        // Others may share it, and it may only be late.
        Err(error) if matches!(config.store, config::Store::Redis { .. }) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the store does not answer, trying again"
            );
            None
        }
        Err(error) => return Err(error),
    };
    metrics::store_up(restored.is_some());
    // From here on, with all functions known, this process takes its part of the limits.
    let sharing_stop = CancellationToken::new();
    let sharing = sharing.map(|(share, permits)| {
        let asking = share::asking::run(share, permits, sharing_stop.clone());
        task::spawn(task::Kind::Vital(stop.clone()), "permits", asking)
    });
    let old = state.root.join("code.old");
    task::spawn(task::Kind::Local, "remove old code", async move {
        let removed = task::blocking("remove old code", move || std::fs::remove_dir_all(old)).await;
        tracing::debug!(?removed, "code of the last run removed");
    });
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.server.listen))?;
    let tls = match config.server.tls.clone() {
        Some(files) => Some(Arc::new(Tls::open(files).context("no TLS can be spoken")?)),
        None => None,
    };
    let url = format!(
        "{}://{}",
        if tls.is_some() { "https" } else { "http" },
        listener
            .local_addr()
            .context("the listener has an address")?
    );
    let mut signals = Signals::listen().context("signals cannot be listened to")?;
    announce(&state, &url, &config.aws.place.region)?;
    address.send_replace(Some(url.clone()));
    tracing::info!(
        url,
        functions = restored.unwrap_or_default(),
        runtimes = catalog.all().len(),
        "hearth is listening"
    );

    let (not_ready, prepared) = watch::channel(vec!["the engine has not answered yet".to_owned()]);
    let (engine_missing, engine_there) = watch::channel(None);
    let keeper_stop = CancellationToken::new();
    let vital = task::Kind::Vital(stop.clone());
    let keeper = {
        let (engine, pool, stop) = (engine.clone(), pool.clone(), keeper_stop.clone());
        let workers = state.workers();
        task::spawn(vital.clone(), "keeper", async move {
            tokio::select! {
                () = start_clean(&*engine, &catalog, &workers, &not_ready) => {}
                () = stop.cancelled() => return,
            }
            keeper::run(pool, events, stop).await;
        })
    };
    task::spawn(
        vital.clone(),
        "engine check",
        check_engine(engine.clone(), engine_missing),
    );
    // Apart from the functions: a revocation waits for nobody's deploy.
    let following = follow_keys(reader.store.clone(), keys.clone(), changes_of_keys);
    task::spawn(vital.clone(), "key follower", following);
    let forgetting = control.idempotency().clone().forget_forever();
    task::spawn(vital.clone(), "forget answers", forgetting);
    if config.watches_code_paths() {
        let watching = control.clone().watch_code_paths();
        task::spawn(vital.clone(), "code watch", watching);
    }
    let unread = restored
        .is_none()
        .then(|| "the store has not answered yet".to_owned());
    let (unread, store_unread) = watch::channel(unread);
    let consumer = {
        let (queue, sources) = (queue.clone(), sources.clone());
        let (stop, mut unread) = (stop.clone(), store_unread.clone());
        let consumer = task::spawn(vital.clone(), "events", async move {
            // Before the functions are known, every event would be one of none.
            let read = async { unread.wait_for(Option::is_none).await.is_ok() };
            if stop.run_until_cancelled(read).await == Some(true) {
                tokio::join!(queue.run(stop.clone()), sources.run(stop));
            }
        });
        consumer.map(|_ended| ()).shared()
    };
    task::spawn(vital, "store follower", follow(reader, changes, unread));

    let arriving = Arc::new(Room::new(config.server.arriving_bytes));
    let gateway = Gateway {
        tls: tls.is_some(),
        scheduler: scheduler.clone(),
        queue,
        idempotency: control.idempotency().clone(),
        lambda: Lambda::new(
            control.clone(),
            sources,
            config.aws.clone(),
            tls.is_some(),
            config.server.body_timeout,
            arriving.clone(),
        )
        .context("no code can be fetched")?,
        control: control::router(control),
        keys,
        rendered,
        readiness: Readiness {
            prepared,
            engine: engine_there,
            store: store_unread,
        },
        body_timeout: config.server.body_timeout,
        arriving,
        untaken: Arc::new(Room::new(config.server.untaken_bytes)),
        slowdown: Arc::new(Mutex::new(Slowdown::new(config.server.failed_keys))),
        held: Arc::new(Semaphore::new(service::HELD_MAX)),
        sessions: Arc::default(),
        hosts: config.server.hosts.clone().into(),
    };
    if let Some(tls) = tls.clone() {
        let hangup = signal(SignalKind::hangup()).context("signals cannot be listened to")?;
        task::spawn(task::Kind::Local, "certificate", tls.watch(hangup));
    }
    let options = server::Options {
        max_connections: config.server.max_connections,
        max_of_address: config.server.max_connections_per_address,
        header_timeout: config.server.header_timeout,
        untaken_timeout: config.server.body_timeout,
        drain_grace: config.server.drain_grace,
        tls: tls.clone(),
    };
    let hurry = CancellationToken::new();
    let serving = {
        let door = server::run(listener, gateway, options, stop.clone(), hurry.clone());
        let events = finished(consumer.clone(), &stop, config.server.drain_grace, &hurry);
        async { tokio::join!(door, events).0 }
    };
    tokio::pin!(serving);
    let undrained = tokio::select! {
        undrained = &mut serving => undrained,
        signal = signals.next() => {
            tracing::info!(signal, "stopping: calls under way may finish");
            stop.cancel();
            tokio::select! {
                undrained = &mut serving => undrained,
                signal = signals.next() => {
                    tracing::warn!(signal, "second signal: stopping now");
                    hurry.cancel();
                    serving.await
                }
            }
        }
    };
    tracing::info!(drained = undrained.is_none(), "front door closed");
    scheduler.drain();
    keeper_stop.cancel();
    let end = async {
        keeper.await.ok();
        match sweep::sweep(&*engine, &state.workers()).await {
            Ok(_) => {
                // What was running all the same has ended now, and will be run again: here after the restart, or elsewhere.
                consumer.await;
                // Nothing runs any more, so others may have this process's part.
                sharing_stop.cancel();
                if let Some(sharing) = sharing {
                    sharing.await.ok();
                }
            }
            Err(error) => tracing::warn!(%error, "containers left for the next start"),
        }
        if let Some(rest) = undrained {
            // Their containers are gone, so these calls have an answer now: that they were interrupted.
            let answered = tokio::time::timeout(LAST_ANSWERS, rest).await;
            tracing::info!(all = answered.is_ok(), "calls under way interrupted");
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(END, end) => {
            if ended.is_err() {
                tracing::warn!("the engine took too long, containers left for the next start");
            }
        }
        signal = signals.next() => tracing::warn!(signal, "another signal: containers left for the next start"),
    }
    if let Some(exporting) = exporting {
        // Nothing comes any more. It bounds itself; another signal is in more of a hurry.
        traces_stop.cancel();
        tokio::select! {
            _ended = exporting => {}
            signal = signals.next() => tracing::warn!(signal, "another signal: spans may be lost"),
        }
    }
    std::fs::remove_file(state.running()).context("the announcement cannot be withdrawn")?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the engine, removes what a dead predecessor left, and makes sure of the images. Nothing is created before, so
/// nothing of ours can be taken for a leftover.
async fn start_clean(
    engine: &dyn Engine,
    catalog: &Catalog,
    workers: &Path,
    not_ready: &watch::Sender<Vec<String>>,
) {
    loop {
        match sweep::sweep(engine, workers).await {
            Ok(swept) => {
                tracing::info!(?swept, "leftovers removed");
                metrics::leftovers(swept.containers, swept.directories);
                break;
            }
            // That the engine does not answer, its check says.
            Err(error) => {
                tracing::warn!(%error, "leftovers cannot be looked for, trying again");
                tokio::time::sleep(ENGINE_RETRY).await;
            }
        }
    }
    let mut missing = Vec::new();
    for manifest in catalog.all() {
        let Some(image) = catalog.image(&manifest.id) else {
            continue;
        };
        if let Err(error) = engine.ensure_image(image).await {
            tracing::error!(runtime = %manifest.id, %error, "runtime has no image");
            missing.push(format!("runtime {}: {error}", manifest.id));
        }
    }
    not_ready.send_replace(missing);
}

/// Tells whether the engine still works; what needs it finds out by itself. Asks what a wedged engine does not answer, though it
/// still answers a ping.
async fn check_engine(engine: Arc<dyn Engine>, missing: watch::Sender<Option<String>>) {
    let mut was_up = None;
    loop {
        let answered = engine.describe().await;
        metrics::engine_up(answered.is_ok());
        missing.send_replace(answered.as_ref().err().map(ToString::to_string));
        match &answered {
            Ok(engine) if was_up != Some(true) => {
                tracing::info!(
                    engine.name,
                    engine.version,
                    engine.api_version,
                    engine.cgroup_version,
                    "engine answers"
                );
            }
            Err(error) if was_up != Some(false) => {
                tracing::error!(%error, "engine does not answer: warm calls go on, nothing new can start");
            }
            _ => {}
        }
        was_up = Some(answered.is_ok());
        tokio::time::sleep(if answered.is_ok() {
            ENGINE_CHECK
        } else {
            ENGINE_RETRY
        })
        .await;
    }
}

/// The keys that encrypt at rest. The state directory's own are made at the first start; a file that is named has to be there, because
/// making one where another was meant would lose what that has encrypted.
fn open_secrets(config: &Config, state: &State) -> anyhow::Result<Secrets> {
    let opened = match &config.secrets_file {
        Some(path) => Secrets::read(path),
        None => Secrets::read_or_make(&state.secrets()),
    };
    opened.context("nothing can be encrypted")
}

/// The store, its ledger of permits if others share it, and what keeps others out of the state directory.
type Opened = (Arc<dyn Store>, Option<Arc<dyn Permits>>, File);

fn open_store(
    configured: &config::Store,
    state: &State,
    stop: &CancellationToken,
) -> anyhow::Result<Opened> {
    Ok(match configured {
        config::Store::Embedded => {
            let store = Embedded::open(&state.root);
            // Nobody else can open it, so there is nobody to share limits with.
            let store = store.context("the embedded store cannot be opened")?;
            let held = store.held().context("the state directory cannot be held")?;
            (store, None, held)
        }
        config::Store::Redis {
            place,
            tls_ca,
            call_timeout,
            look_again,
        } => {
            let held = Embedded::hold(&state.root).context("the state directory cannot be used")?;
            let options = RedisOptions {
                place: config::redis::Place::clone(place),
                authority: tls_ca.clone(),
                deadline: *call_timeout,
                look_again: *look_again,
            };
            let store = Redis::new(&options, stop.clone());
            let store = store.context("the Redis store cannot be used")?;
            (store.clone(), Some(store), held)
        }
    })
}

/// Brings what the store has into memory, where calls look for it.
struct Reader {
    control: Control,
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    admin: tokio::sync::Mutex<AdminKey>,
}

impl Reader {
    /// Everything, for the first time. Says how many functions there are.
    async fn read(&self) -> anyhow::Result<usize> {
        self.admin.lock().await.keep(&*self.store).await?;
        let restored = self.control.restore().await;
        let restored = restored.context("the stored functions cannot be restored")?;
        let keys = self.keys.refresh(&*self.store).await;
        keys.context("the keys cannot be read")?;
        Ok(restored)
    }
}

/// Takes over the keys others made and revoked, until the store is gone.
async fn follow_keys(store: Arc<dyn Store>, keys: Arc<Keys>, mut changes: Changes) {
    while let Some(change) = changes.next().await {
        if matches!(change, Change::Function { .. } | Change::Mappings) {
            continue;
        }
        let mut failed = false;
        while let Err(error) = keys.refresh(&*store).await {
            if !failed {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the keys cannot be read, trying again");
            }
            failed = true;
            tokio::time::sleep(KEYS_RETRY).await;
        }
    }
}

/// Reads the store if it could not be read at the start, then takes over what other processes write to it, until it is gone.
async fn follow(reader: Reader, mut changes: Changes, unread: watch::Sender<Option<String>>) {
    while unread.borrow().is_some() {
        tokio::time::sleep(STORE_RETRY).await;
        match reader.read().await {
            Ok(functions) => {
                metrics::store_up(true);
                unread.send_replace(None);
                tracing::info!(functions, "the store answers now");
            }
            Err(error) => {
                unread.send_replace(Some(format!("the store: {error:#}")));
                tracing::debug!(
                    error = format!("{error:#}"),
                    "the store does not answer yet"
                );
            }
        }
    }
    let mut news = News::default();
    while changes.gather(&mut news).await {
        let mut failed = false;
        loop {
            match reader.control.take_over(&news).await {
                Ok(count) => {
                    if count > 0 {
                        tracing::info!(functions = count, "took over what others changed");
                    }
                    news = News::default();
                    break;
                }
                Err(error) => {
                    if !failed {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "what others changed cannot be read, trying again");
                    }
                    failed = true;
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }
}

fn make(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))?;
    // Code, keys and sockets are in here: nobody else's business.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))
        .with_context(|| format!("{} cannot be closed to others", path.display()))
}

fn find_state(root: &Path) -> anyhow::Result<State> {
    make(root)?;
    // The engine is given absolute paths.
    let root = root
        .canonicalize()
        .with_context(|| format!("{} cannot be resolved", root.display()))?;
    Ok(State { root })
}

fn prepare_state(state: &State) -> anyhow::Result<()> {
    make(&state.workers())?;
    // Code is unpacked anew from the packages the store has kept safe: a power cut may have left holes in it. The old is
    // only moved aside here; removing it may take long.
    let old = state
        .root
        .join("code.old")
        .join(uuid::Uuid::new_v4().simple().to_string());
    make(&state.root.join("code.old"))?;
    match std::fs::rename(state.code(), &old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("{} cannot be moved", state.code().display()));
        }
        _ => {}
    }
    make(&state.code())
}

/// This instance's name towards the engine: made once, so that a restart finds what the last run left.
fn instance_id(state: &State) -> anyhow::Result<String> {
    let path = state.instance();
    if let Ok(text) = std::fs::read_to_string(&path) {
        let id = text.trim();
        if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
        tracing::warn!(path = %path.display(), "this is no instance's name, another is made");
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    write_private(&path, &id, 0o644)?;
    Ok(id)
}

fn announce(state: &State, url: &str, region: &str) -> anyhow::Result<()> {
    let (pid, now) = (std::process::id(), clock::wall());
    let text = serde_json::json!({"url": url, "pid": pid, "started_at": now, "region": region})
        .to_string();
    write_private(&state.running(), &text, 0o644)
}

/// Whole or not at all: written beside and renamed.
fn write_private(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

fn docker(config: &Config, instance: &str, state: &State) -> anyhow::Result<Docker> {
    let options = engine::docker::Options {
        instance: instance.to_owned(),
        engine: config.engine.clone(),
        worker: config.worker.clone(),
        directory: state.root.clone(),
    };
    Docker::new(options).context("the engine cannot be set up")
}

#[cfg(test)]
mod tests;
