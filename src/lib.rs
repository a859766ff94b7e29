#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod router;
pub mod runtime;
pub mod scheduler;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod worker;
