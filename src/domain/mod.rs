//! The nouns as plain data. Everybody may use these; they use nobody.

pub mod id;
pub mod limits;
