//! The nouns as plain data. Everybody may use these; they use nobody.

pub mod aws;
pub mod destination;
pub mod environment;
pub mod event;
pub mod fault;
pub mod filter;
pub mod function;
pub mod id;
pub mod idempotency;
pub mod image;
pub mod invocation;
pub mod key;
pub mod layer;
pub mod limits;
pub mod mapping;
pub mod pattern;
pub mod route;
pub mod seldom;
pub mod signing;
pub mod start;
pub mod trace;
pub mod url;
pub mod version;
