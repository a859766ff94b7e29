//! The faces: what Hearth says over HTTP. `invoke` answers calls and is reached without a router in between; `route` is plain HTTP to
//! functions at their own paths; `control` is the native REST API for everything else. Called by the gateway, which has read the head and checked the key. Knows
//! nothing of engines, containers or sockets.

pub mod body;
pub mod control;
pub mod error;
pub mod invoke;
pub mod json;
pub mod route;
