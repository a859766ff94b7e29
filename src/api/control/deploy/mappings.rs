//! Event source mappings, as the store has them. No call asks for them, so they are in the store alone.

use std::sync::Arc;

use crate::api::control::deploy::layers::unavailable;
use crate::api::control::deploy::{Deploy, apart};
use crate::api::error::Problem;
use crate::domain::mapping::{Edit, MappingId};
use crate::store;
use crate::store::mappings::{All, Found};

const WHAT: &str = "mappings";

/// What became of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// It was made from a mapping that is another by now, or gone.
    Stale,
    /// Another mapping has its place.
    Taken(MappingId),
}

impl Deploy {
    pub async fn mappings(&self) -> Result<All, Problem> {
        let read = self.store.mappings().await;
        read.map_err(|error| unavailable(WHAT, "all", &error))
    }

    pub async fn mapping(&self, id: MappingId) -> Result<Option<Found>, Problem> {
        let read = self.store.mapping(id).await;
        read.map_err(|error| unavailable(WHAT, id, &error))
    }

    /// Writes an edit; `told` is called when the store has it, or may have it.
    pub async fn write_mapping(
        self: Arc<Self>,
        edit: Edit,
        told: impl FnOnce() + Send + 'static,
    ) -> Result<Kept, Problem> {
        apart("write mapping", async move {
            let (id, deleted) = match &edit {
                Edit::Put(mapping) => (mapping.id, false),
                Edit::Delete(id) => (*id, true),
            };
            let written = self.store.edit_mapping(edit).await;
            told();
            match written {
                Ok(()) => {
                    tracing::info!(mapping = %id, deleted, "event source mapping written");
                    Ok(Kept::Yes)
                }
                Err(store::Error::Stale) => Ok(Kept::Stale),
                Err(store::Error::PlaceTaken(by)) => Ok(Kept::Taken(by)),
                Err(error) => Err(unavailable(WHAT, id, &error)),
            }
        })
        .await
    }
}
