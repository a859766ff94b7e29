//! Who asks: the key behind a request's signature. The claim is looked at before the body is read, and the body before it is believed, so
//! that strangers can make nobody read much. The secret is a key's own text, kept encrypted, and opened for the moment of the check.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::idempotency::INLINE_MAX;
use crate::api::keys;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::sigv4::{self, Claim, Payload};
use crate::api::lambda::{Lambda, SERVICE, body};
use crate::clock;
use crate::domain::key::Grant;
use crate::secrets::key_place;
use crate::task;

/// A request of somebody known.
#[derive(Debug)]
pub struct Admitted {
    pub caller: Arc<Grant>,
    pub body: Bytes,
    pub room: Option<OwnedSemaphorePermit>,
}

/// A request of nobody knows whom.
#[derive(Debug)]
pub struct Unproven {
    pub doubt: Doubt,
    pub refusal: Refusal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// There is no signature, or it says too little.
    Missing,
    /// It is for another time, place or service: a clock or a setting is wrong.
    Misplaced,
    Unknown,
    Expired,
    /// The secret, or something on the way, is another.
    Signature,
}

impl Doubt {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Doubt::Missing => "missing",
            Doubt::Misplaced => "misplaced",
            Doubt::Unknown => "unknown",
            Doubt::Expired => "expired",
            Doubt::Signature => "signature",
        }
    }

    /// Whether somebody may be trying keys.
    pub const fn is_a_try(self) -> bool {
        matches!(self, Doubt::Unknown | Doubt::Expired | Doubt::Signature)
    }
}

#[derive(Debug)]
pub enum Refused {
    Unproven(Unproven),
    /// The body did not arrive as it should.
    Body(Refusal),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused::Body(refusal)
    }
}

impl From<sigv4::Error> for Refused {
    fn from(error: sigv4::Error) -> Self {
        use sigv4::Error;
        let doubt = match &error {
            Error::Missing | Error::Incomplete(_) => Doubt::Missing,
            Error::Old { .. }
            | Error::Early { .. }
            | Error::Over { .. }
            | Error::Region(_)
            | Error::Service { .. }
            | Error::Terminator(_)
            | Error::Date { .. }
            | Error::Unsigned(_) => Doubt::Misplaced,
            Error::Mismatch | Error::Altered | Error::Chunks => Doubt::Signature,
        };
        let refusal = error.into();
        Refused::Unproven(Unproven { doubt, refusal })
    }
}

/// Reads the body and finds out whose request it is.
pub async fn admit(
    face: &Lambda,
    parts: &Parts,
    incoming: Body,
    does: Option<Do>,
) -> Result<Admitted, Refused> {
    let granted = parts.extensions.get::<Arc<Grant>>().cloned();
    if let Some(caller) = granted.filter(|_| !sigv4::is_signed(parts)) {
        let (body, room) = body::read(face, parts, incoming, does).await?;
        return Ok(Admitted { caller, body, room });
    }
    signed(face, parts, incoming, does).await
}

/// The same for a request that only a signature opens.
pub async fn signed(
    face: &Lambda,
    parts: &Parts,
    incoming: Body,
    does: Option<Do>,
) -> Result<Admitted, Refused> {
    let claim = Claim::of(parts)?;
    claim.is_for(&face.settings.place.region, SERVICE, clock::wall())?;
    claim.covers(&parts.headers)?;
    let unknown = |doubt, refusal| Refused::Unproven(Unproven { doubt, refusal });
    let holder = face.control.keys.holder(&claim.access_key);
    let holder = holder.map_err(|refused| match refused {
        keys::Refused::Unknown => unknown(Doubt::Unknown, Refusal::unknown_token()),
        keys::Refused::Expired => unknown(Doubt::Expired, Refusal::expired_token()),
    })?;
    let caller = holder.grant;
    let secret = holder.sealed.and_then(|sealed| {
        let secrets = face.control.scheduler.secrets();
        secrets.unseal(&key_place(&caller.id), &sealed).ok()
    });
    let Some(secret) = secret else {
        // Made by a version that kept no copy, or under a key file this server has not.
        tracing::info!(key = %caller.id, "a signature cannot be checked: there is no copy of the key that can be read; make a new one");
        return Err(unknown(Doubt::Unknown, Refusal::unknown_token()));
    };
    let (body, room) = body::read(face, parts, incoming, does).await?;
    let prove = move |parts: &Parts, body: Bytes| {
        let payload = Payload::of(&parts.headers);
        let chain = claim.verify(&secret, parts, &payload, &body)?;
        match payload {
            Payload::Chunked { trailers } => chain.decode(&body, trailers).map(Bytes::from),
            Payload::Whole { .. } | Payload::Unsigned => Ok(body),
        }
    };
    if body.len() <= INLINE_MAX {
        let body = prove(parts, body)?;
        return Ok(Admitted { caller, body, room });
    }
    let parts = parts.clone();
    // The room with it, which is free when all of this is over, whoever waits for it.
    let prove = move || (prove(&parts, body), room);
    let (body, room) = task::blocking("check a signature", prove).await;
    let body = body?;
    Ok(Admitted { caller, body, room })
}
