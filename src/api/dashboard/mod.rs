//! The dashboard: its pages, which are part of the binary, and the sessions of those who use it. The pages are for everybody, like a sign at
//! a door; what they show they ask the native REST API for, with the session of whoever signed in. Called by the gateway. Knows nothing of
//! functions.

pub mod assets;
pub mod session;
