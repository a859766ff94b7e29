//! The one network that holders are on: a bridge of our own, because on the engine's default bridge every container reaches every
//! other, and functions are strangers to each other. Made when the first holder needs it, shared by every Hearth on the
//! engine, and kept as images are. Called by `engine::docker` alone.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::InspectNetworkOptions;

use crate::engine::Error;
use crate::engine::docker::{Inner, typed};
use crate::engine::spec;

/// The bridge driver's option for whether containers on it reach each other.
const AMONG_CONTAINERS: &str = "com.docker.network.bridge.enable_icc";
/// The bridge driver's option for the name of the interface. Engines before API 1.44 allow two networks of one name, but no
/// engine two of one interface: of two that make it at the same moment one is refused.
const INTERFACE: &str = "com.docker.network.bridge.name";

impl Inner {
    /// Makes sure it is there.
    pub(super) async fn ensure_network(&self) -> Result<(), Error> {
        if self.has_network().await? {
            return Ok(());
        }
        let made = self.ask("create_network", async |client| {
            client.create_network(request()).await
        });
        match made.await {
            Ok(_) => Ok(()),
            Err(failure) => match self.has_network().await {
                // Somebody else made it at the same moment: that is as good.
                Ok(true) => Ok(()),
                _ => Err(typed("create_network", failure, None)),
            },
        }
    }

    async fn has_network(&self) -> Result<bool, Error> {
        let found = self.ask("inspect_network", async |client| {
            client
                .inspect_network(spec::EGRESS_NETWORK, None::<InspectNetworkOptions>)
                .await
        });
        let options = match found.await {
            Ok(network) => network.options.unwrap_or_default(),
            Err(failure) if failure.status() == Some(404) => return Ok(false),
            Err(failure) => return Err(typed("inspect_network", failure, None)),
        };
        if options.get(AMONG_CONTAINERS).map(String::as_str) == Some("false") {
            return Ok(true);
        }
        Err(Error::Refused {
            operation: "inspect_network",
            reason: format!(
                "the network {} is not Hearth's: its containers reach each other; remove it",
                spec::EGRESS_NETWORK
            ),
        })
    }
}

fn request() -> NetworkCreateRequest {
    let options = [
        (AMONG_CONTAINERS, "false"),
        (INTERFACE, spec::EGRESS_NETWORK),
    ];
    NetworkCreateRequest {
        name: spec::EGRESS_NETWORK.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from(
            options.map(|(name, value)| (name.to_owned(), value.to_owned())),
        )),
        ..NetworkCreateRequest::default()
    }
}
