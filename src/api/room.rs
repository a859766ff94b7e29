//! Memory that requests take while something is waited for that their client does: for what is to come of a body, or for an answer to be
//! taken. All together have one room; and no client takes more of it than it leaves to the others, so that there is always some for one
//! who comes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

#[derive(Debug)]
pub struct Room {
    most: usize,
    /// Changed under the lock, and a hint without it.
    taken: AtomicUsize,
    /// What each client has, by its hash; of those that have any.
    by: Mutex<HashMap<u64, usize>>,
    hasher: RandomState,
}

/// Whom something counts for.
#[derive(Debug, Clone, Copy)]
pub enum Client<'a> {
    /// Where nobody knows who it is, or it is not known yet.
    Address(IpAddr),
    /// One that has shown its key, by the key's id: behind a proxy all have the proxy's address.
    Key(&'a str),
}

/// There is none, or none for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl Room {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
            by: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// In bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether the client has all it may have.
    pub fn is_full_for(&self, client: Client<'_>) -> bool {
        // Almost always.
        if self.taken.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let client = self.hash(client);
        let by = self.by.lock();
        let taken = self.taken.load(Ordering::Relaxed);
        let its = by.get(&client).copied().unwrap_or(0);
        its >= self.most.saturating_sub(taken)
    }

    /// `unless_full`: only if it leaves as much as the client has then.
    fn take(&self, client: u64, bytes: usize, unless_full: bool) -> Result<(), NoRoom> {
        let mut by = self.by.lock();
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        let its = by.get(&client).copied().unwrap_or(0).saturating_add(bytes);
        if unless_full && its > self.most.saturating_sub(taken) {
            return Err(NoRoom);
        }
        by.insert(client, its);
        self.taken.store(taken, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, client: u64, bytes: usize) {
        let mut by = self.by.lock();
        let taken = self.taken.load(Ordering::Relaxed) - bytes;
        self.taken.store(taken, Ordering::Relaxed);
        if let Entry::Occupied(mut its) = by.entry(client) {
            *its.get_mut() -= bytes;
            if *its.get() == 0 {
                its.remove();
            }
        }
    }

    fn hash(&self, client: Client<'_>) -> u64 {
        match client {
            Client::Address(address) => self.hasher.hash_one((0, source(address))),
            Client::Key(id) => self.hasher.hash_one((1, id)),
        }
    }
}

/// What one request takes, until it is dropped.
#[derive(Debug)]
pub struct Part<'a, R: Deref<Target = Room>> {
    room: R,
    client: Client<'a>,
    taken: usize,
}

impl<'a, R: Deref<Target = Room>> Part<'a, R> {
    pub fn new(room: R, client: Client<'a>) -> Self {
        let taken = 0;
        Self {
            room,
            client,
            taken,
        }
    }

    pub fn any(&self) -> bool {
        self.taken > 0
    }

    /// So much more.
    pub fn more(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let client = self.room.hash(self.client);
        self.room.take(client, bytes, true)?;
        self.taken += bytes;
        Ok(())
    }

    /// So much more, which is there already and has to be counted.
    pub fn have(&mut self, bytes: usize) {
        let client = self.room.hash(self.client);
        // Nothing is refused.
        self.room.take(client, bytes, false).ok();
        self.taken += bytes;
    }
}

impl<R: Deref<Target = Room>> Drop for Part<'_, R> {
    fn drop(&mut self) {
        if self.taken > 0 {
            let client = self.room.hash(self.client);
            self.room.give_back(client, self.taken);
        }
    }
}

/// Whoever has one of these addresses is one client: of IPv6 it is the first 64 bits.
pub fn source(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Client<'static> {
        Client::Address(text.parse().expect("an address"))
    }

    #[test]
    fn a_client_leaves_as_much_as_it_takes() {
        let room = Room::new(12);
        let part = |text| Part::new(&room, address(text));
        let (mut one, mut again) = (part("192.0.2.1"), part("192.0.2.1"));
        assert!(one.more(1).is_ok() && one.more(4).is_ok());
        assert_eq!(again.more(2), Err(NoRoom), "it is one client's");
        assert!(again.more(1).is_ok());
        assert!(room.is_full_for(address("192.0.2.1")));
        // And one with a key is another, wherever it comes from.
        let mut known = Part::new(&room, Client::Key("k"));
        assert!(known.more(3).is_ok() && known.more(1).is_err());
        let mut other = part("2001:db8::1");
        assert!(other.more(1).is_ok() && other.more(1).is_err());
        assert!(part("2001:db8::2").more(1).is_err(), "of the same network");
        assert!(part("2001:db8:0:1::1").more(1).is_ok());
        drop((one, again));
        assert!(other.more(3).is_ok());
        drop((known, other));
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        assert!(room.by.lock().is_empty(), "who has nothing is forgotten");
    }

    #[test]
    fn what_is_there_counts_however_much_it_is() {
        let room = Room::new(10);
        let mut answer = Part::new(&room, address("192.0.2.1"));
        assert!(!room.is_full_for(address("192.0.2.1")));
        answer.have(6);
        assert!(room.is_full_for(address("192.0.2.1")));
        assert!(!room.is_full_for(address("192.0.2.2")));
        answer.have(6);
        assert!(room.is_full_for(address("192.0.2.2")), "nothing is left");
        drop(answer);
        assert!(!room.is_full_for(address("192.0.2.1")));
    }
}
