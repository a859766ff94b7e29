//! Memory that requests take while something is waited for that their client does: for what is to come of a body, or for an answer to be
//! taken. All together have one room; and no client takes more of it than it leaves to the others, so that one alone never has all of it.

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

/// How far a client may go.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// It is there already.
    None,
    /// It leaves as much as it has, so all together never have more than there is.
    Room,
    /// The same, but for as little as an equal part, which others cannot take away.
    EqualPart,
}

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

    /// Whether the client has all it may have. Who has less than an equal part is never told so, however much others have that had to be
    /// counted: they are told.
    pub fn is_full_for(&self, client: Client<'_>) -> bool {
        // Almost always.
        if self.taken.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let client = self.hash(client);
        let by = self.by.lock();
        let taken = self.taken.load(Ordering::Relaxed);
        let its = by.get(&client).copied().unwrap_or(0);
        its >= self.most.saturating_sub(taken) && its >= self.equal_part(&by, client)
    }

    fn equal_part(&self, by: &HashMap<u64, usize>, client: u64) -> usize {
        let clients = by.len() + usize::from(!by.contains_key(&client));
        self.most / (clients + 1)
    }

    fn take(&self, client: u64, bytes: usize, bound: Bound) -> Result<(), NoRoom> {
        if bytes == 0 {
            return Ok(());
        }
        let mut by = self.by.lock();
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        let its = by.get(&client).copied().unwrap_or(0).saturating_add(bytes);
        let leaves_less = its > self.most.saturating_sub(taken);
        let refused = match bound {
            Bound::None => false,
            Bound::Room => leaves_less,
            Bound::EqualPart => leaves_less && its > self.equal_part(&by, client),
        };
        if refused {
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
        self.room.take(client, bytes, Bound::Room)?;
        self.taken += bytes;
        Ok(())
    }

    /// So much more, or as much as an equal part whatever others have.
    pub fn more_or_equal(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let client = self.room.hash(self.client);
        self.room.take(client, bytes, Bound::EqualPart)?;
        self.taken += bytes;
        Ok(())
    }

    /// So much more, which is there already and has to be counted.
    pub fn have(&mut self, bytes: usize) {
        let client = self.room.hash(self.client);
        // Nothing is refused.
        self.room.take(client, bytes, Bound::None).ok();
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
    fn who_takes_nothing_is_not_remembered() {
        let room = Room::new(10);
        let mut empty = Part::new(&room, address("192.0.2.1"));
        assert!(empty.more(0).is_ok());
        assert!(room.by.lock().is_empty());
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
        assert!(room.is_full_for(address("192.0.2.1")));
        // More than there is; but that is not the doing of others.
        assert!(!room.is_full_for(address("192.0.2.2")));
        let mut other = Part::new(&room, address("192.0.2.2"));
        assert!(other.more(1).is_err());
        assert!(other.more_or_equal(2).is_ok());
        assert!(!room.is_full_for(address("192.0.2.2")));
        assert!(other.more_or_equal(1).is_ok() && other.more_or_equal(1).is_err());
        assert!(room.is_full_for(address("192.0.2.2")));
        assert!(!room.is_full_for(address("192.0.2.3")));
        drop(other);
        drop(answer);
        assert!(!room.is_full_for(address("192.0.2.1")));
    }
}
