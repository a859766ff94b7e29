//! Turns for writers. Two changes that touch the same function, name or route go one after the other; all others go at the same
//! time. Without turns, the store could hold one order of two changes and the routing table the other.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// What is taken turns on. Ids are taken before names before routes, and within a kind in order, so that no two writers wait for each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Id(String),
    Name(String),
    Route(String),
}

#[derive(Debug, Default)]
pub struct Locks {
    turns: Mutex<HashMap<Key, Weak<Turn<()>>>>,
}

/// Held for as long as the turn lasts.
#[derive(Debug)]
pub struct Held {
    _guards: Vec<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the turn on all keys. Whoever holds some already asks only for later ones.
    pub async fn take(&self, mut keys: Vec<Key>) -> Held {
        keys.sort();
        keys.dedup();
        let mut guards = Vec::with_capacity(keys.len());
        for key in keys {
            let turn = self.turn(key);
            guards.push(turn.lock_owned().await);
        }
        Held { _guards: guards }
    }

    fn turn(&self, key: Key) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        // Only writers under way are worth remembering. Looking at all of them is a write's business, and those are few.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::new(()));
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn name(text: &str) -> Key {
        Key::Name(text.into())
    }

    #[tokio::test]
    async fn the_same_key_waits_and_others_do_not() {
        let locks = Locks::default();
        let held = locks.take(vec![name("a"), name("b")]).await;
        assert!(locks.take(vec![name("b")]).now_or_never().is_none());
        assert!(locks.take(vec![name("c")]).now_or_never().is_some());
        assert!(
            locks
                .take(vec![Key::Id("a".into())])
                .now_or_never()
                .is_some()
        );
        drop(held);
        assert!(locks.take(vec![name("b")]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn writers_that_share_keys_in_any_order_all_get_their_turn() {
        let locks = Locks::default();
        let writers = (0..20).map(|n| {
            let keys = match n % 2 {
                0 => vec![name("a"), name("b")],
                _ => vec![name("b"), name("a")],
            };
            async {
                let _held = locks.take(keys).await;
                tokio::task::yield_now().await;
            }
        });
        let all = futures_util::future::join_all(writers);
        tokio::time::timeout(std::time::Duration::from_secs(5), all)
            .await
            .expect("nobody waits for ever");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_forgotten() {
        let locks = Locks::default();
        for n in 0..100 {
            locks.take(vec![name(&n.to_string())]).await;
        }
        assert!(locks.turns.lock().len() <= 1);
    }
}
