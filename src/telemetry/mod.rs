//! What Hearth tells its operators.

pub mod logging;
pub mod metrics;
pub mod traces;
