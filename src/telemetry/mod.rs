//! What Hearth tells its operators.

pub mod family;
pub mod logging;
pub mod metrics;
pub mod often;
pub mod traces;
