//! `/overview/checks`: what `hearth doctor` finds on the machine, asked over the API. The doctor looks at every part of the program, also
//! at those this face does not know: `app` brings it along.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::{StatusCode, Uri};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::api::control::Control;
use crate::api::control::functions::json;
use crate::api::control::intake::Query;
use crate::api::control::openapi::LettersErrors;
use crate::api::error::Problem;

/// How it stands with the machine.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checks)]
pub struct Report {
    /// Nothing is bad.
    pub ok: bool,
    pub checks: Vec<Check>,
}

/// What was looked at and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    pub about: String,
    /// `ok`, `warning`, `failed` or `skipped`.
    pub verdict: &'static str,
    pub found: String,
    /// What to do about it.
    #[schema(required = true)]
    pub mend: Option<String>,
}

type Look = dyn Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync;

/// Looks at everything, for one who asks at a time: it is not cheap.
#[derive(Clone)]
pub struct Doctor {
    look: Arc<Look>,
    place: Arc<Semaphore>,
}

impl Doctor {
    pub fn new(look: impl Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync + 'static) -> Self {
        Self {
            look: Arc::new(look),
            place: Arc::new(Semaphore::new(1)),
        }
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor").finish_non_exhaustive()
    }
}

/// Check the machine
///
/// Everything Hearth needs of it, as `hearth doctor` finds it: the engine, mounts, images, the store, disks, limits. Takes a moment;
/// while one is looking, others are refused with 503.
#[utoipa::path(
    get, path = "/overview/checks", tag = "operation", operation_id = "get_checks",
    responses((status = 200, body = Report, description = "what was found"), LettersErrors)
)]
pub async fn read(State(control): State<Control>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri)?.finish()?;
    let place = control.doctor.place.try_acquire();
    let _place = place.map_err(|_taken| Problem::Busy)?;
    let checks = (control.doctor.look)().await;
    let report = Report {
        ok: checks.iter().all(|check| check.verdict != "failed"),
        checks,
    };
    Ok(json(StatusCode::OK, &report))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::control::world::World;

    #[tokio::test]
    async fn what_the_doctor_finds_is_told() {
        let world = World::empty();
        let told = world.get("/overview/checks").await;
        assert_eq!(told.status, 200);
        let bad =
            json!({"about": "roof", "verdict": "failed", "found": "leaks", "mend": "a bucket"});
        assert_eq!(told.json(), json!({"ok": false, "checks": [bad]}));
        let wrong = world.get("/overview/checks?x=1").await;
        assert_eq!(wrong.fields(), ["x"]);
    }
}
