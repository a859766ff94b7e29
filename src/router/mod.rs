//! From a name to what is deployed under it.

pub mod routes;
pub mod table;
