//! Writes function URLs, like everything else that is published of a function: decided in `domain::url`, stored as one edit, and only then
//! answered at.

use std::sync::Arc;

use crate::api::control::deploy::Deploy;
use crate::api::control::deploy::versions::problem;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::function::Function;
use crate::domain::key::Grant;
use crate::domain::url::{Url, UrlId, Wish};
use crate::domain::version::Published;

impl Deploy {
    /// `qualifier` is an alias, or `$LATEST`.
    pub async fn create_url(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: String,
        wish: Wish,
    ) -> Result<Url, Problem> {
        let id = UrlId::generate();
        let decide = move |function: &Function, published: &Published| {
            let (id, wish) = (id.clone(), wish.clone());
            let made = published.create_url(&qualifier, id, wish, clock::wall());
            let (url, edit) = made.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), url))
        };
        self.edit("create URL", caller, called, decide).await
    }

    pub async fn update_url(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: String,
        wish: Wish,
    ) -> Result<Url, Problem> {
        let decide = move |function: &Function, published: &Published| {
            let made = published.update_url(&qualifier, wish.clone(), clock::wall());
            let (url, edit) = made.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), url))
        };
        self.edit("update URL", caller, called, decide).await
    }

    pub async fn delete_url(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        called: String,
        qualifier: String,
    ) -> Result<(), Problem> {
        let decide = move |function: &Function, published: &Published| {
            let edit = published.delete_url(&qualifier);
            let edit = edit.map_err(|refused| problem(refused, function))?;
            Ok((Some(edit), ()))
        };
        self.edit("delete URL", caller, called, decide).await
    }
}
