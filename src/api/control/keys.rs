//! `/keys/`: who may come in. A key is shown once, in the answer that made it; afterwards only its record is known. Changes take hold in
//! this process with the answer, in others as soon as the store has told them.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, LOCATION};
use http::{StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::functions::json;
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{KeyErrors, KeysErrors, NewKeyErrors};
use crate::api::error::{FieldFault, Problem};
use crate::clock;
use crate::domain::key::{self, KeyRecord, Scope, Wish};
use crate::domain::pattern::Pattern;
use crate::secrets::key_place;
use crate::store;
use crate::telemetry::metrics;

const NAME_MAX: usize = 128;
const FUNCTIONS_MAX: usize = 64;
/// Longer is as good as for ever, which is said by leaving it out.
const SECONDS_MAX: i64 = 100 * 365 * 24 * 60 * 60;
/// Every process holds all of them in memory.
const KEYS_MAX: usize = 10_000;

/// A key as it is kept: everything but the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyDocument<'a> {
    id: &'a str,
    name: &'a str,
    #[schema(value_type = Vec<ScopeName>)]
    scopes: &'a [Scope],
    /// Patterns of the names of the functions it is for; none is all of them.
    #[schema(value_type = Vec<String>)]
    functions: Vec<&'a str>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime, required = true, nullable = true)]
    expires_at: Option<Timestamp>,
    expired: bool,
    /// The key's last characters; empty for keys of old versions.
    last_four: &'a str,
}

/// A key that was just made. It is not shown again.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKeyDocument<'a> {
    #[serde(flatten)]
    record: KeyDocument<'a>,
    /// To be sent with `Authorization: Bearer`, and the secret access key of AWS clients.
    key: &'a str,
    /// The access key id of AWS clients.
    access_key_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList<'a> {
    items: Vec<KeyDocument<'a>>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is for; need not be unique.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    #[schema(min_items = 1)]
    pub scopes: Vec<ScopeName>,
    /// Only functions whose names match one of these: `*` stands for any characters, `?` for one. Not together with `admin`.
    #[schema(nullable = false, max_items = 64)]
    pub functions: Option<Vec<String>>,
    /// Seconds from now on after which it opens nothing any more; left out, it has no end.
    #[schema(nullable = false, minimum = 1)]
    pub expires_in: Option<u64>,
}

/// `admin`: everything. `deploy`: make, change, delete, list and read functions and their logs. `invoke`: call functions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Scope)]
pub enum ScopeName {
    Admin,
    Deploy,
    Invoke,
}

impl<'a> KeyDocument<'a> {
    fn of(record: &'a KeyRecord, now: Timestamp) -> Self {
        Self {
            id: &record.id,
            name: &record.name,
            scopes: &record.scopes,
            functions: record.functions.iter().map(Pattern::as_str).collect(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            expired: record.expires_at.is_some_and(|at| at <= now),
            last_four: &record.last_four,
        }
    }
}

/// List keys
///
/// In the order they were made; also those that have expired and were not revoked.
#[utoipa::path(
    get, path = "/keys/", tag = "keys", operation_id = "list_keys",
    responses((status = 200, body = KeyList, description = "the keys"), KeysErrors)
)]
pub async fn list(State(control): State<Control>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri)?.finish()?;
    let mut records = control.key_records().await?;
    records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let now = clock::wall();
    let items = records.iter().map(|r| KeyDocument::of(r, now)).collect();
    Ok(json(StatusCode::OK, &KeyList { items }))
}

/// Make a key
///
/// The answer is the only place where the key itself stands.
#[utoipa::path(
    post, path = "/keys/", tag = "keys", operation_id = "create_key",
    request_body(content = NewKey, example = json!({"name": "shop", "scopes": ["invoke"], "functions": ["orders-*"]})),
    responses(
        (status = 201, body = NewKeyDocument, description = "made",
         headers(("location" = String, description = "where it is revoked"))),
        NewKeyErrors,
    )
)]
pub async fn create(
    State(control): State<Control>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let now = clock::wall();
    let wish = wish(&upload.bytes, now)?;
    let there = control.key_records().await?.len();
    if there >= KEYS_MAX {
        let full = format!("is one too many: there are {there} keys, revoke some");
        return Err(Problem::invalid("name", full));
    }
    let (key, mut record) = wish.issue(now);
    record.sealed = Some(
        control
            .scheduler
            .secrets()
            .seal(&key_place(&record.id), &key),
    );
    let kept = control.deploy.store.put_key(record.clone()).await;
    kept.map_err(|error| unavailable(&error))?;
    // It is kept. If it cannot be read back now it opens this process a little later.
    control.key_records().await.map(drop).or_else(later)?;
    tracing::info!(key = record.id, name = record.name, scopes = ?record.scopes, by = caller.name, "key made");
    let document = NewKeyDocument {
        record: KeyDocument::of(&record, now),
        key: &key,
        access_key_id: key::access_key_id(&key),
    };
    let mut response = json(StatusCode::CREATED, &document);
    let headers = response.headers_mut();
    let location = format!("/keys/{}", record.id);
    let location = HeaderValue::try_from(location).expect("an id is hex");
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revoke a key
///
/// Requests that come after the answer are refused; by other processes on the same store, within a second.
#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(
        ("id" = String, Path, description = "the key's id"),
        ("force" = Option<bool>, Query, description = "also the last key that can make others: a restart then writes a new one into the state directory"),
    ),
    responses((status = 204, description = "revoked"), KeyErrors)
)]
pub async fn revoke(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let force = query.parsed("force", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    });
    query.finish()?;
    // One revocation at a time, or two could each leave the other's key as the last one. Between processes that stays possible;
    // a restart mends it.
    let _turn = control.revoking.lock().await;
    let records = control.key_records().await?;
    let Some(record) = records.iter().find(|record| record.id == id) else {
        return Err(Problem::NoKey(id));
    };
    let other = |other: &&KeyRecord| other.id != id && other.is_lasting_admin();
    let last = record.is_lasting_admin() && !records.iter().any(|record| other(&record));
    if last && force != Some(true) {
        return Err(Problem::LastAdminKey);
    }
    let store = &control.deploy.store;
    let revoked = store.delete_key(&id).await;
    revoked.map_err(|error| unavailable(&error))?;
    tracing::info!(
        key = id,
        name = record.name,
        by = caller.name,
        "key revoked"
    );
    // Not later here: a key that still opens is not revoked.
    control.key_records().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Control {
    /// Every key, as the store has them now; this process takes them over.
    async fn key_records(&self) -> Result<Vec<KeyRecord>, Problem> {
        let records = self.keys.refresh(&*self.deploy.store).await;
        records.map_err(|error| unavailable(&error))
    }
}

fn later(problem: Problem) -> Result<(), Problem> {
    match problem {
        Problem::StoreUnavailable | Problem::DiskFull => Ok(()),
        other => Err(other),
    }
}

fn unavailable(error: &store::Error) -> Problem {
    metrics::store_error("keys");
    let source = std::error::Error::source(error);
    tracing::error!(%error, source, "store failed");
    if matches!(error, store::Error::DiskFull { .. }) {
        metrics::disk_full("store");
        return Problem::DiskFull;
    }
    Problem::StoreUnavailable
}

/// Reads the body, and says everything that is wrong with it.
fn wish(body: &[u8], now: Timestamp) -> Result<Wish, Problem> {
    let malformed = |error: serde_json::Error| Problem::Malformed {
        what: "a JSON object",
        why: error.to_string(),
    };
    let mut given: Map<String, Value> = serde_json::from_slice(body).map_err(malformed)?;
    let mut faults = Vec::new();
    let mut take = |field: &str| given.remove(field);
    let (name, scopes, functions, expires_in) = (
        take("name"),
        take("scopes"),
        take("functions"),
        take("expires_in"),
    );
    let mut fault = |field: &str, message: &str| faults.push(FieldFault::new(field, message));
    let name = match name.as_ref().map(Value::as_str) {
        None => {
            fault("name", "is required");
            None
        }
        Some(Some(name)) if is_name(name) => Some(name.to_owned()),
        Some(_) => {
            fault(
                "name",
                "must be a text of 1 to 128 characters, none of them a control character",
            );
            None
        }
    };
    let scopes = read_scopes(scopes.as_ref(), &mut fault);
    let functions = read_functions(functions.as_ref(), &mut fault);
    if !functions.is_empty() && scopes.contains(&Scope::Admin) {
        fault(
            "functions",
            "cannot be given with the scope admin, which is for everything",
        );
    }
    let expires_at = expires_in.and_then(|value| {
        let seconds = value.as_i64().filter(|n| (1..=SECONDS_MAX).contains(n));
        let at = seconds.and_then(|n| now.checked_add(SignedDuration::from_secs(n)).ok());
        if at.is_none() {
            fault(
                "expires_in",
                "must be a whole number of seconds, at least 1 and at most 100 years",
            );
        }
        at
    });
    for field in given.keys() {
        let shown: String = field.chars().take(64).collect();
        faults.push(FieldFault::new(shown, "is not a field of a key"));
    }
    match (name, faults) {
        (Some(name), faults) if faults.is_empty() => Ok(Wish {
            name,
            scopes,
            functions,
            expires_at,
        }),
        (_, faults) => Err(Problem::Invalid(faults)),
    }
}

fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    (1..=NAME_MAX).contains(&length) && !text.chars().any(char::is_control)
}

fn read_scopes(value: Option<&Value>, fault: &mut impl FnMut(&str, &str)) -> Vec<Scope> {
    let Some(value) = value else {
        fault("scopes", "is required");
        return Vec::new();
    };
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let read: Option<Vec<Scope>> = list.iter().map(|v| Scope::parse(v.as_str()?)).collect();
    let mut scopes = read.unwrap_or_default();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        fault(
            "scopes",
            "must be a list of one or more of \"admin\", \"deploy\" and \"invoke\"",
        );
    }
    scopes
}

fn read_functions(value: Option<&Value>, fault: &mut impl FnMut(&str, &str)) -> Vec<Pattern> {
    let Some(value) = value else {
        return Vec::new();
    };
    let Some(list) = value.as_array().filter(|list| list.len() <= FUNCTIONS_MAX) else {
        fault("functions", "must be a list of at most 64 patterns");
        return Vec::new();
    };
    // An empty list would mean every function, and somebody who filters a list down to nothing means none.
    if list.is_empty() {
        fault(
            "functions",
            "must have a pattern: leave it out for all functions",
        );
    }
    let mut patterns = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let text = value.as_str().ok_or_else(|| "must be a text".to_owned());
        match text.and_then(Pattern::parse) {
            Ok(pattern) => patterns.push(pattern),
            Err(message) => fault(&format!("functions.{at}"), &message),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::control::world::World;

    fn refused(body: &Value) -> Vec<String> {
        let now = clock::wall();
        match wish(body.to_string().as_bytes(), now) {
            Err(Problem::Invalid(faults)) => faults.into_iter().map(|f| f.field).collect(),
            other => panic!("{body} was read as {other:?}"),
        }
    }

    #[test]
    fn everything_wrong_with_a_wish_is_said() {
        let bad =
            json!({"name": "", "scopes": [], "functions": ["a b", 1], "expires_in": 0, "x": 1});
        let fields = [
            "name",
            "scopes",
            "functions.0",
            "functions.1",
            "expires_in",
            "x",
        ];
        assert_eq!(refused(&bad), fields);
        assert_eq!(refused(&json!({})), ["name", "scopes"]);
        for (field, value) in [
            ("name", json!("x".repeat(129))),
            ("name", json!("a\nb")),
            ("scopes", json!("admin")),
            ("scopes", json!(["admin", "root"])),
            ("functions", json!([])),
            ("functions", json!(null)),
            ("functions", json!(vec!["a"; 65])),
            ("expires_in", json!(-1)),
            ("expires_in", json!(1.5)),
            ("expires_in", json!(i64::MAX)),
        ] {
            let mut body = json!({"name": "n", "scopes": ["invoke"]});
            body[field] = value;
            assert_eq!(refused(&body), [field], "{body}");
        }
        let both = json!({"name": "n", "scopes": ["admin"], "functions": ["a"]});
        assert_eq!(refused(&both), ["functions"]);
        for body in ["", "[]", "{", "null"] {
            let read = wish(body.as_bytes(), clock::wall());
            assert!(matches!(read, Err(Problem::Malformed { .. })), "{body}");
        }
    }

    #[tokio::test]
    async fn a_key_is_made_shown_once_listed_and_revoked() {
        let world = World::empty();
        let body = json!({"name": "shop", "scopes": ["invoke", "invoke"], "functions": ["orders-*"], "expires_in": 60});
        let made = world.post("/keys/", body).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        assert_eq!(made.headers["cache-control"], "no-store");
        let mut made = made.json();
        let key = made["key"].as_str().expect("a key").to_owned();
        let id = made["id"].as_str().expect("an id").to_owned();
        assert_eq!(key::id_of(&key), Some(id.as_str()));
        assert_eq!(made["scopes"], json!(["invoke"]));
        assert_eq!(made["access_key_id"], key::access_key_id(&key));
        assert!(world.keys.find(&key).is_ok(), "at once");
        let kept = world.store.inner.keys().await.expect("store");
        let sealed = kept[0].sealed.as_deref().expect("a copy for signatures");
        let opened = world.scheduler.secrets().unseal(&key_place(&id), sealed);
        assert_eq!(opened.as_deref(), Ok(key.as_str()));

        let listed = world.get("/keys/").await;
        assert!(!String::from_utf8_lossy(&listed.body).contains(&key));
        let shown = made.as_object_mut().expect("an object");
        shown.remove("key");
        shown.remove("access_key_id");
        assert_eq!(listed.json()["items"], json!([made]));

        let path = format!("/keys/{id}");
        assert_eq!(world.delete(&path).await.status, 204);
        assert!(world.keys.find(&key).is_err(), "at once");
        let again = world.delete(&path).await;
        assert_eq!(again.status, 404);
        assert_eq!(again.json()["error"]["code"], "not_found");
        assert_eq!(world.get("/keys/").await.json()["items"], json!([]));
    }

    #[tokio::test]
    async fn the_last_admin_key_stays_unless_it_is_meant() {
        let world = World::empty();
        let make = async |body: Value| {
            let made = world.post("/keys/", body).await.json();
            format!("/keys/{}", made["id"].as_str().expect("an id"))
        };
        let first = make(json!({"name": "first", "scopes": ["admin"]})).await;
        make(json!({"name": "for a while", "scopes": ["admin"], "expires_in": 60})).await;
        make(json!({"name": "lesser", "scopes": ["deploy", "invoke"]})).await;
        let refused = world.delete(&first).await;
        assert_eq!(refused.status, 409);
        assert_eq!(refused.json()["error"]["code"], "last_admin_key");
        let wrong = world.delete(&format!("{first}?force=maybe")).await;
        assert_eq!(wrong.status, 400);
        let second = make(json!({"name": "second", "scopes": ["admin"]})).await;
        assert_eq!(world.delete(&first).await.status, 204);
        assert_eq!(world.delete(&second).await.status, 409);
        let forced = world.delete(&format!("{second}?force=true")).await;
        assert_eq!(forced.status, 204);
    }
}
