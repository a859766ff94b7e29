//! What Hearth tells its operators.

pub mod metrics;
