//! A part of something kept many times over that is nearly always what it is by default: there it takes the place of a pointer.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What has a value by default that all can share.
pub trait Usual: Default + PartialEq + 'static {
    fn usual() -> &'static Self;
}

#[derive(Debug, Clone)]
pub struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> From<T> for Seldom<T> {
    fn from(value: T) -> Self {
        Self((value != *T::usual()).then(|| Box::new(value)))
    }
}

impl<T: Usual> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::usual())
    }
}

impl<T: Usual> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Usual> PartialEq for Seldom<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Usual + Eq> Eq for Seldom<T> {}

impl<T: Usual + Serialize> Serialize for Seldom<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Seldom<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Usual for Vec<u8> {
        fn usual() -> &'static Self {
            static USUAL: Vec<u8> = Vec::new();
            &USUAL
        }
    }

    #[test]
    fn only_what_is_unusual_is_kept() {
        let mut seldom: Seldom<Vec<u8>> = Vec::new().into();
        assert!(seldom.0.is_none() && seldom.is_empty());
        seldom.push(1);
        assert_eq!((*seldom).clone(), [1]);
        let text = serde_json::to_string(&seldom).expect("JSON");
        assert_eq!(text, "[1]");
        assert!(serde_json::from_str::<Seldom<Vec<u8>>>(&text).expect("itself") == seldom);
        seldom.clear();
        // Kept or not, it is the same value, and read again it is not kept.
        assert!(seldom == Seldom::default());
        let read: Seldom<Vec<u8>> = serde_json::from_str("[]").expect("nothing");
        assert!(read.0.is_none());
    }
}
