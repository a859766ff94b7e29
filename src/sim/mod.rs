//! The scheduler, the pool and the worker code as they are, over a simulated engine, in virtual time, with faults from a seed.
//! Only the engine, what runs in its containers, the store and time are simulated; the sockets and log pipes are real ones.
//!
//! ```text
//!   plan (from a seed) ──▶ world: calls, deploys, outages ──▶ scheduler, pool, worker (the program's own code)
//!                                                                      │ trait Engine · Unix sockets
//!   oracle ◀── what really happened ── container, engine ◀── weather (what goes wrong, from the same seed)
//! ```
//!
//! The oracle knows what was promised and compares it with what the containers see; then the faults end, everybody must be
//! served, and nothing may be left. The same seed gives the same log, byte for byte. `SIM_SEED=n cargo test --lib sim::tests::one`
//! replays one. `permits` is a world of its own: several processes that share their limits through a ledger. The face's tests use the same
//! engine, without faults and in real time.

pub mod container;
pub mod engine;
pub mod oracle;
pub mod permits;
pub mod plan;
pub mod store;
mod tests;
pub mod time;
pub mod weather;
pub mod world;
