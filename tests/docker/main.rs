//! What can only be tested against a real Docker engine: the engine driver by itself, and the whole server as its users see it.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy exempts test functions by itself, but not the functions they share"
)]

mod engine;

#[path = "../built.rs"]
mod built;
mod client;
mod collector;
mod containers;
mod dockerd;
mod languages;
mod load;
mod proxy;
mod server;
mod sweep;
mod wait;

mod attacking;
mod batching;
mod benching;
mod breaking;
mod cli;
mod composed;
mod deploying;
mod destinations;
mod ending;
mod enduring;
mod failing;
mod holding;
mod hostile;
mod idempotency;
mod images;
mod jumping;
mod keys;
mod lacking;
mod later;
mod layering;
mod limiting;
mod metering;
mod multiplexing;
mod networking;
mod observing;
mod outage;
mod permits;
mod printing;
mod programs;
mod remembering;
mod routing;
mod secrets;
mod sharing;
mod starting;
mod streaming;
mod tls;
mod tracing;
mod updating;
mod versioning;
mod warming;
mod watching;
