//! The faces: what Hearth says over HTTP. `invoke` answers calls and is reached without a router in between; `route` is plain HTTP to
//! functions at their own paths; `control` is the native REST API for everything else; `lambda` is AWS's API for the same things; `access`
//! says what each request needs of a key, `keys` which keys there are; `arriving` how bodies of calls are read, and `room` how much of them and of answers may be under way; `label` what every answer to a call says; `trace` reads which trace a call is part of; `sqs` asks the service that has queues, `messages` sends to one; `dashboard` is the pages for people, and their sessions. Called by
//! the gateway, which has read the head and found the key. Knows nothing of engines, containers or
//! sockets.

pub mod access;
pub mod arriving;
pub mod body;
pub mod collector;
pub mod control;
pub mod dashboard;
pub mod error;
pub mod idempotency;
pub mod invoke;
pub mod json;
pub mod keys;
pub mod label;
pub mod lambda;
pub mod messages;
pub mod room;
pub mod route;
pub mod sqs;
pub mod trace;
pub mod webhook;
