//! Code that goes out: packages of functions and layers, for both faces. They are in memory, whole, until their clients have taken them, so all
//! of them together have room, and who finds none in time is told to come again.

use std::fmt;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::control::Control;
use crate::api::error::Problem;
use crate::telemetry::metrics;

/// A package that goes out, and its room until the last of it is gone.
struct Held {
    zip: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.zip
    }
}

impl Control {
    /// A package, which holds its room for as long as there is anything of it. `of` is what it is the code of.
    pub(in crate::api) async fn package(
        &self,
        sha256: &str,
        of: impl fmt::Display,
    ) -> Result<Bytes, Problem> {
        let failed = |error| {
            metrics::store_error("read code");
            tracing::error!(%of, error = %error, "code package could not be read");
            Problem::StoreUnavailable
        };
        let gone = || {
            tracing::error!(%of, sha256, "code package is gone from the store");
            Problem::CodeUnavailable
        };
        let store = &self.deploy.store;
        let size = store.code_size(sha256).await.map_err(failed)?;
        let size = usize::try_from(size.ok_or_else(gone)?).unwrap_or(usize::MAX);
        let room = self.downloads.hold(size).await?;
        let zip = store.code(sha256).await.map_err(failed)?;
        let zip = zip.ok_or_else(gone)?;
        Ok(Bytes::from_owner(Held { zip, _room: room }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use crate::api::control::intake::Room;
    use crate::api::control::world::World;

    #[tokio::test]
    async fn packages_that_nobody_takes_leave_no_room() {
        let mut world = World::empty();
        world.control.downloads = Room::with_patience(Duration::from_millis(10));
        world.create("f").await;
        let sha256 = world.published("f").expect("is there").code.sha256.clone();
        let package = async || world.control.package(&sha256, "f").await;
        let first = package().await.expect("there is room");
        let rest = world.control.downloads.hold(511 << 20).await;
        let rest = rest.expect("all but one is free");
        let refused = package().await.expect_err("there is no room");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        // A piece of it is as much as all.
        let piece = first.slice(..1);
        drop(first);
        package().await.expect_err("there is no room");
        drop(piece);
        let again = package().await.expect("it was taken");
        package().await.expect_err("there is no room");
        drop(rest);
        assert_eq!(package().await.expect("there is room"), again);
    }
}
