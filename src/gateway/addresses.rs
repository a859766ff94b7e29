//! How many connections each client address has, where there is a limit to that. An address of IPv6 counts by its first 64 bits, which is
//! what one client has. What a proxy says about whom it speaks for is not believed: behind one, all clients have its address, so there
//! is no limit unless somebody sets one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::api::room::source;
use crate::telemetry::metrics;
use crate::telemetry::often::Often;

#[derive(Debug, Clone)]
pub struct Addresses(Option<Arc<Shares>>);

#[derive(Debug)]
struct Shares {
    most: usize,
    /// As many at most as there may be connections.
    open: Mutex<HashMap<u128, usize>>,
    refused: Mutex<Often>,
}

/// A connection's part of its address's share, until it is dropped.
#[derive(Debug)]
pub struct Part(Option<(Arc<Shares>, u128)>);

/// Its address has all it may have.
#[derive(Debug)]
pub struct Refused;

impl Addresses {
    pub fn new(most: Option<usize>) -> Self {
        let shares = |most| Shares {
            most,
            open: Mutex::default(),
            refused: Mutex::default(),
        };
        Self(most.map(shares).map(Arc::new))
    }

    pub fn enter(&self, peer: IpAddr, now: Instant) -> Result<Part, Refused> {
        let Some(shares) = &self.0 else {
            return Ok(Part(None));
        };
        let source = source(peer);
        {
            let mut open = shares.open.lock();
            let count = open.entry(source).or_default();
            if *count < shares.most {
                *count += 1;
                return Ok(Part(Some((shares.clone(), source))));
            }
        }
        metrics::connection_refused();
        if let Some(refused) = shares.refused.lock().to_log(now) {
            tracing::info!(refused, %peer, most = shares.most, "connections beyond their address's share; this one the last");
        }
        Err(Refused)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some((shares, source)) = self.0.take() else {
            return;
        };
        let mut open = shares.open.lock();
        if let Some(count) = open.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_share_and_others_have_theirs() {
        let addresses = Addresses::new(Some(2));
        let enter = |text| addresses.enter(address(text), clock::now());
        let first = enter("192.0.2.1").expect("has room");
        let _second = enter("::ffff:192.0.2.1").expect("has room");
        assert!(enter("192.0.2.1").is_err());
        let _other = enter("192.0.2.2").expect("is another's");
        drop(first);
        let _third = enter("192.0.2.1").expect("one has left");
        assert!(enter("192.0.2.1").is_err());
        let mut six: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(enter).into();
        assert!(six.iter().all(Result::is_ok));
        assert!(enter("2001:db8::ffff:1").is_err(), "who has one has all");
        six.push(enter("2001:db8:0:1::1"));
        assert!(six[2].is_ok());
        drop(six);
        let shares = addresses.0.as_ref().expect("there is a limit");
        assert_eq!(shares.open.lock().len(), 2, "who has none is forgotten");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let addresses = Addresses::new(None);
        let many: Vec<_> = (0..100)
            .map(|_| addresses.enter(address("192.0.2.1"), clock::now()))
            .collect();
        assert!(many.iter().all(Result::is_ok));
    }
}
