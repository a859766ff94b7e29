//! The keys there are, as a snapshot that requests are compared with. Warm path: one hash, one lookup, one comparison in constant
//! time; the store is not asked. Whoever changes keys, here or elsewhere, refreshes the snapshot; expiry needs nobody, it is looked at
//! with every request.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use crate::clock;
use crate::domain::key::{self, Grant, KeyRecord};
use crate::store::{self, Store};

/// Why what was presented opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Never made, or revoked.
    Unknown,
    Expired,
}

#[derive(Debug, Default)]
pub struct Keys {
    known: ArcSwap<Known>,
    /// Reading the store and replacing the snapshot is one step: an older list never takes a newer one's place.
    refreshing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, usize>,
    /// By what AWS's clients call it.
    by_access_key: HashMap<String, usize>,
    all: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: Hash,
    grant: Arc<Grant>,
    sealed: Option<Arc<str>>,
}

/// A key as it is found without the key itself: by an AWS client's access key id.
#[derive(Debug, Clone)]
pub struct Holder {
    pub grant: Arc<Grant>,
    /// The key, encrypted. `None` for keys of versions that kept no copy: no signature can be checked with them.
    pub sealed: Option<Arc<str>>,
}

type Hash = [u8; 32];

impl Keys {
    /// Takes over what the store has, and returns it.
    pub async fn refresh(&self, store: &dyn Store) -> Result<Vec<KeyRecord>, store::Error> {
        let _turn = self.refreshing.lock().await;
        let records = store.keys().await?;
        self.replace(&records);
        Ok(records)
    }

    pub fn replace(&self, records: &[KeyRecord]) {
        let read = |record: &KeyRecord| {
            let mut hash = [0; 32];
            hex::decode_to_slice(&record.sha256, &mut hash).ok()?;
            Some(Entry {
                hash,
                grant: Arc::new(Grant::from(record)),
                sealed: record.sealed.as_deref().map(Into::into),
            })
        };
        let all: Vec<_> = records.iter().filter_map(read).collect();
        let places = || all.iter().enumerate();
        let by_id = places().map(|(at, entry)| (entry.grant.id.clone(), at));
        let by_access_key = places().map(|(at, entry)| (key::access_key_id_of(&entry.hash), at));
        self.known.store(Arc::new(Known {
            by_id: by_id.collect(),
            by_access_key: by_access_key.collect(),
            all,
        }));
    }

    /// What the key of this id may do now; nothing if it was revoked or has expired.
    pub fn grant(&self, id: &str) -> Option<Arc<Grant>> {
        let known = self.known.load();
        let at = known.by_id.get(id)?;
        let grant = &known.all[*at].grant;
        (!grant.has_expired(clock::wall)).then(|| grant.clone())
    }

    /// What the key may do.
    pub fn find(&self, key: &str) -> Result<Arc<Grant>, Refused> {
        let hash = key::hash(key);
        let known = self.known.load();
        let found = match key::id_of(key) {
            Some(id) => {
                let at = known.by_id.get(id);
                at.map(|at| &known.all[*at])
                    .filter(|entry| are_same(&entry.hash, &hash))
            }
            // A key without an id may be any. Every one is compared, whole, so that the time tells nothing.
            None => {
                known
                    .all
                    .iter()
                    .fold(None, |found, entry| match are_same(&entry.hash, &hash) {
                        true => Some(entry),
                        false => found,
                    })
            }
        };
        let Entry { grant, .. } = found.ok_or(Refused::Unknown)?;
        match grant.has_expired(clock::wall) {
            true => Err(Refused::Expired),
            false => Ok(grant.clone()),
        }
    }

    /// Whose access key id this is: what `hearth env` prints for AWS's clients, or the key's id. Nothing is proved by it.
    pub fn holder(&self, access_key: &str) -> Result<Holder, Refused> {
        let known = self.known.load();
        let at = known.by_access_key.get(access_key);
        let at = at.or_else(|| known.by_id.get(access_key));
        let entry = at.map(|at| &known.all[*at]).ok_or(Refused::Unknown)?;
        match entry.grant.has_expired(clock::wall) {
            true => Err(Refused::Expired),
            false => Ok(Holder {
                grant: entry.grant.clone(),
                sealed: entry.sealed.clone(),
            }),
        }
    }
}

/// In constant time, and by words: byte by byte it takes longer than making the hash.
fn are_same(one: &Hash, other: &Hash) -> bool {
    let words = |hash: &Hash| {
        let (words, _) = hash.as_chunks::<8>();
        std::array::from_fn::<_, 4, _>(|at| u64::from_ne_bytes(words[at]))
    };
    words(one)[..].ct_eq(&words(other)[..]).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::key::{Scope, Wish};

    fn old(key: &str) -> KeyRecord {
        KeyRecord {
            sha256: hex::encode(key::hash(key)),
            last_four: String::new(),
            ..Wish::admin().issue(clock::wall()).1
        }
    }

    #[test]
    fn a_key_is_found_whole_or_not_at_all() {
        let keys = Keys::default();
        let (key, record) = Wish::admin().issue(clock::wall());
        let (other, _) = Wish::admin().issue(clock::wall());
        let broken = KeyRecord {
            sha256: "unreadable".into(),
            ..old("y")
        };
        assert_eq!(keys.find(&key), Err(Refused::Unknown));
        keys.replace(&[broken, record.clone(), old("hearth_0123")]);
        assert_eq!(keys.find(&key).map(|g| g.id.clone()), Ok(record.id.clone()));
        assert!(keys.find("hearth_0123").is_ok());
        let (_, secret) = other.rsplit_once('_').expect("has one");
        for wrong in [
            "",
            "hearth_012",
            "hearth_01234",
            &other,
            &key[..key.len() - 1],
            &format!("{key}0"),
            &format!("hk_{}_{secret}", record.id),
            &format!("hk_{}_", record.id),
            &record.sha256,
        ] {
            assert_eq!(keys.find(wrong), Err(Refused::Unknown), "{wrong}");
        }
        keys.replace(&[]);
        assert_eq!(keys.find(&key), Err(Refused::Unknown), "revoked");
    }

    #[test]
    fn an_expired_key_is_known_and_refused() {
        let keys = Keys::default();
        let at = |seconds: i64| {
            let wish = Wish {
                expires_at: Some(clock::wall() + jiff::SignedDuration::from_secs(seconds)),
                scopes: vec![Scope::Invoke],
                ..Wish::admin()
            };
            wish.issue(clock::wall())
        };
        let ((past, first), (future, second)) = (at(-1), at(3600));
        keys.replace(&[first, second]);
        assert_eq!(keys.find(&past), Err(Refused::Expired));
        let id = |key: &str| key::id_of(key).map(str::to_owned).unwrap_or_default();
        assert!(
            keys.grant(&id(&past)).is_none(),
            "a session ends with its key"
        );
        assert!(keys.grant(&id(&future)).is_some());
        assert!(keys.grant("").is_none());
        assert!(keys.find(&future).is_ok());
    }

    #[test]
    fn a_holder_is_found_by_either_id_and_expires_like_the_key() {
        let keys = Keys::default();
        let (key, record) = Wish::admin().issue(clock::wall());
        let record = KeyRecord {
            sealed: Some("x".into()),
            ..record
        };
        let wish = Wish {
            expires_at: Some(clock::wall() - jiff::SignedDuration::from_secs(1)),
            ..Wish::admin()
        };
        let (past, expired) = wish.issue(clock::wall());
        keys.replace(&[record.clone(), expired]);
        for id in [key::access_key_id(&key), record.id.clone()] {
            let holder = keys.holder(&id).expect("is known");
            assert_eq!(holder.grant.id, record.id);
            assert_eq!(holder.sealed.as_deref(), Some("x"));
        }
        let refused = |id: &str| keys.holder(id).map(drop);
        assert_eq!(refused(&key::access_key_id(&past)), Err(Refused::Expired));
        assert_eq!(refused(&key), Err(Refused::Unknown));
        assert_eq!(refused(""), Err(Refused::Unknown));
    }

    #[tokio::test]
    async fn a_refresh_takes_the_stores_word() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = crate::store::embedded::Embedded::open(dir.path()).expect("a store");
        let keys = Arc::new(Keys::default());
        let (key, record) = Wish::admin().issue(clock::wall());
        store.put_key(record.clone()).await.expect("is kept");
        keys.refresh(&*store).await.expect("is read");
        assert!(keys.find(&key).is_ok());
        // Many at the same time as the revocation: none may bring it back.
        let refreshing: Vec<_> = (0..20)
            .map(|_| {
                let (keys, store) = (keys.clone(), store.clone());
                tokio::spawn(async move { keys.refresh(&*store).await.map(drop) })
            })
            .collect();
        assert!(store.delete_key(&record.id).await.expect("is revoked"));
        keys.refresh(&*store).await.expect("is read");
        assert_eq!(keys.find(&key), Err(Refused::Unknown));
        for refreshed in refreshing {
            let ended = tokio::time::timeout(Duration::from_secs(20), refreshed).await;
            ended.expect("in time").expect("no panic").expect("is read");
        }
        assert_eq!(keys.find(&key), Err(Refused::Unknown));
    }
}
