//! A call's payload, as it comes over a connection.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};

use crate::api::arriving::{self, Limits};
use crate::api::room::{Client, Room};
use crate::domain::fault::Fault;

const DISCARD_MAX: usize = 32 * 1024 * 1024;

pub async fn read(
    mut body: Incoming,
    limit: usize,
    timeout: Duration,
    room: &Room,
    client: Client<'_>,
) -> Result<Bytes, Fault> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limits = Limits {
        most: limit,
        patience: timeout,
        discarded: DISCARD_MAX,
    };
    arriving::whole(&mut body, limits, room, client).await
}
