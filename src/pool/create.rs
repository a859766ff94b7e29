//! How a container comes to be: the keeper decides that there shall be one and spawns a task that waits for this. Knows the images, and
//! the containers that hold the network of functions with egress.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::domain::id::{FunctionId, WorkerId};
use crate::engine::{self, ContainerId, Limits, OwnImage};
use crate::pool::keeper::Event;
use crate::pool::{Pool, StemKey};
use crate::runtime::manifest::Manifest;
use crate::worker::Worker;
use crate::worker::boot::{self, Order, Own};
use crate::worker::gone::{End, Gone};

impl Pool {
    pub(super) async fn boot(
        self: &Arc<Self>,
        key: &StemKey,
        manifest: &Manifest,
        limits: Limits,
    ) -> Result<Box<Worker>, boot::Failed> {
        let image = self
            .catalog
            .image(&manifest.id)
            .expect("a runtime of the catalog has an image")
            .clone();
        let holder = self.network_for(key, &image.tag).await?;
        let order = Order {
            runtime: key.runtime.clone(),
            image: match &key.image {
                Some(own) => own.built.id.clone(),
                None => image.tag.clone(),
            },
            own: key.image.as_deref().map(|own| Own {
                // Only a runtime that has one can be that of a function with an image.
                shim: manifest.image_shim.clone().unwrap_or_default(),
                image: OwnImage {
                    start: own.start(),
                    working_dir: own.settings.working_dir.clone(),
                    volumes: own.built.volumes.clone(),
                },
            }),
            limits,
            network_of: holder.as_ref().map(|(_, container)| container.clone()),
            workers_dir: self.options.workers_dir.clone(),
            boot_timeout: self.options.boot_timeout,
            line_bytes: self.options.log_line_bytes,
        };
        let first = self.boot_once(&order, holder).await;
        let Err(boot::Failed {
            error: boot::Error::Engine(engine::Error::Refused { reason, .. }),
            ..
        }) = &first
        else {
            return first;
        };
        // The engine no longer has something we counted on: the image, or the container whose network is joined.
        tracing::info!(
            reason,
            "container refused, image and network are made sure of"
        );
        if let Some(function) = &key.egress {
            self.forget_ended_holder(function).await;
        }
        if let Some(own) = &key.image
            && self.engine.image(&own.built.id).await?.is_none()
        {
            return Err(boot::Error::ImageGone {
                uri: own.uri.clone(),
                id: own.built.id.clone(),
            }
            .into());
        }
        if key.image.is_none() || key.egress.is_some() {
            self.engine.ensure_image(&image).await?;
        }
        let holder = self.network_for(key, &image.tag).await?;
        let network_of = holder.as_ref().map(|(_, container)| container.clone());
        let order = Order {
            network_of,
            ..order
        };
        self.boot_once(&order, holder).await
    }

    async fn boot_once(
        self: &Arc<Self>,
        order: &Order,
        holder: Option<(Arc<Holder>, ContainerId)>,
    ) -> Result<Box<Worker>, boot::Failed> {
        let keeper = self.keeper.clone();
        let on_gone = move |id| {
            // If the keeper has no room, the worker's own flag still keeps it from being used.
            if keeper.try_send(Event::Gone(id)).is_err() {
                tracing::debug!("a worker's end was not told");
            }
        };
        let worker = boot::boot(&*self.engine, order, on_gone).await?;
        if let Some((holder, _)) = holder {
            holder.joined(&worker);
        }
        Ok(Box::new(worker))
    }

    /// Looks whether the containers that hold networks still do. A worker whose holder has ended has none any more, and answers as if nothing
    /// had happened: it is replaced.
    pub(super) async fn check_holders(&self) {
        // Before the list: what is made meanwhile is in neither.
        let mut known: Vec<(FunctionId, ContainerId)> = {
            let holders = self.holders.lock();
            let held = holders.iter();
            held.filter_map(|(function, holder)| {
                Some((function.clone(), holder.container.get()?.clone()))
            })
            .collect()
        };
        if known.is_empty() {
            return;
        }
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        let found = match self.engine.owned().await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "network holders cannot be looked for");
                return;
            }
        };
        for (function, container) in known {
            let runs = |found: &engine::Found| found.id == container && !found.ended;
            if !found.iter().any(runs) {
                self.forget_ended_holder(&function).await;
            }
        }
    }

    /// Forgets the container that holds a function's network if it is gone or has ended, and with it the workers in that network. One that
    /// runs is kept: nobody else would remove it.
    async fn forget_ended_holder(&self, function: &FunctionId) {
        let Some(holder) = self.holders.lock().get(function).cloned() else {
            return;
        };
        let Some(container) = holder.container.get() else {
            return;
        };
        let gone = match self.engine.exit(container).await {
            Ok(None) => false,
            Ok(Some(_ended)) => self.engine.remove(container).await.is_ok(),
            Err(error) => matches!(error, engine::Error::Gone { .. }),
        };
        if !gone {
            return;
        }
        {
            let mut holders = self.holders.lock();
            let known = holders.get(function);
            if known.is_some_and(|now| Arc::ptr_eq(now, &holder)) {
                holders.remove(function);
            }
        }
        let workers = holder.ended();
        if workers.is_empty() {
            return;
        }
        tracing::warn!(%function, workers = workers.len(), "network holder has ended: workers in its network are replaced");
        for worker in workers {
            // One that is idle is taken out now; one that is busy ends its call first.
            self.tell(Event::Gone(worker));
        }
    }

    /// What a container of this kind has its network of, if it has one: started if there is none.
    async fn network_for(
        &self,
        key: &StemKey,
        image: &str,
    ) -> Result<Option<(Arc<Holder>, ContainerId)>, engine::Error> {
        let Some(function) = &key.egress else {
            return Ok(None);
        };
        let holder = self
            .holders
            .lock()
            .entry(function.clone())
            .or_default()
            .clone();
        let container = holder
            .container
            .get_or_try_init(|| self.engine.start_network_holder(image))
            .await?
            .clone();
        Ok(Some((holder, container)))
    }
}

/// A container that holds a function's network: started by the first who needs it, while the others wait for it.
#[derive(Debug, Default)]
pub(super) struct Holder {
    pub(super) container: OnceCell<ContainerId>,
    workers: Mutex<Joined>,
}

/// Who is in its network.
#[derive(Debug)]
enum Joined {
    /// With what tells each that it is not to be used any more.
    Workers(Vec<(WorkerId, Weak<Gone>)>),
    /// There is no network any more.
    Ended,
}

impl Default for Joined {
    fn default() -> Self {
        Joined::Workers(Vec::new())
    }
}

impl Holder {
    fn joined(&self, worker: &Worker) {
        match &mut *self.workers.lock() {
            Joined::Workers(workers) => {
                workers.retain(|(_, gone)| gone.strong_count() > 0);
                let id = worker.remains.id.clone();
                workers.push((id, Arc::downgrade(&worker.gone)));
            }
            Joined::Ended => worker.gone.say(End::Network),
        }
    }

    /// From now on nobody in its network is to be used. Who there is.
    fn ended(&self) -> Vec<WorkerId> {
        let joined = std::mem::replace(&mut *self.workers.lock(), Joined::Ended);
        let Joined::Workers(workers) = joined else {
            return Vec::new();
        };
        let still = workers.into_iter().filter_map(|(id, gone)| {
            gone.upgrade()?.say(End::Network);
            Some(id)
        });
        still.collect()
    }
}
