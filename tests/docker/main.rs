//! What can only be tested against a real Docker engine.

mod engine;
