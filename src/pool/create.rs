//! How a container comes to be: the keeper decides that there shall be one and spawns a task that waits for this. Knows the images, and
//! the containers that hold the network of functions with egress.

use std::sync::Arc;

use crate::domain::id::FunctionId;
use crate::engine::{self, ContainerId, Limits, OwnImage};
use crate::pool::keeper::Event;
use crate::pool::{Pool, StemKey};
use crate::runtime::manifest::Manifest;
use crate::worker::Worker;
use crate::worker::boot::{self, Order, Own};

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
        let network_of = match &key.egress {
            Some(function) => Some(self.network_of(function, &image.tag).await?),
            None => None,
        };
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
            network_of,
            workers_dir: self.options.workers_dir.clone(),
            boot_timeout: self.options.boot_timeout,
            line_bytes: self.options.log_line_bytes,
        };
        let first = self.boot_once(&order).await;
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
        let network_of = match &key.egress {
            Some(function) => Some(self.network_of(function, &image.tag).await?),
            None => None,
        };
        self.boot_once(&Order {
            network_of,
            ..order
        })
        .await
    }

    async fn boot_once(self: &Arc<Self>, order: &Order) -> Result<Box<Worker>, boot::Failed> {
        let keeper = self.keeper.clone();
        let on_gone = move |id| {
            // If the keeper has no room, the worker's own flag still keeps it from being used.
            if keeper.try_send(Event::Gone(id)).is_err() {
                tracing::debug!("a worker's end was not told");
            }
        };
        boot::boot(&*self.engine, order, on_gone)
            .await
            .map(Box::new)
    }

    /// Forgets the container that holds a function's network if it is gone or has ended. One that runs is kept: workers are
    /// in its network, and nobody else would remove it.
    async fn forget_ended_holder(&self, function: &FunctionId) {
        let Some(holder) = self.holders.lock().get(function).cloned() else {
            return;
        };
        let Some(container) = holder.get() else {
            return;
        };
        let gone = match self.engine.exit(container).await {
            Ok(None) => false,
            Ok(Some(_ended)) => self.engine.remove(container).await.is_ok(),
            Err(error) => matches!(error, engine::Error::Gone { .. }),
        };
        let mut holders = self.holders.lock();
        if gone
            && holders
                .get(function)
                .is_some_and(|now| Arc::ptr_eq(now, &holder))
        {
            holders.remove(function);
        }
    }

    /// The container that holds a function's network, started if there is none.
    async fn network_of(
        &self,
        function: &FunctionId,
        image: &str,
    ) -> Result<ContainerId, engine::Error> {
        let holder = self
            .holders
            .lock()
            .entry(function.clone())
            .or_default()
            .clone();
        let container = holder
            .get_or_try_init(|| self.engine.start_network_holder(image))
            .await?;
        Ok(container.clone())
    }
}
