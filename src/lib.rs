#![doc = include_str!("ARCHITECTURE.md")]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "the fences are for the program; a test may spawn, read the clock and the environment"
    )
)]

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod engine;
pub mod gateway;
pub mod load;
pub mod pool;
pub mod queue;
pub mod router;
pub mod runtime;
pub mod scheduler;
pub mod secrets;
#[cfg(test)]
pub mod sim;
pub mod sources;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod worker;
