//! What Hearth tells its operators.

pub mod exposition;
pub mod family;
pub mod histogram;
pub mod logging;
pub mod metrics;
pub mod often;
pub mod recorder;
pub mod traces;
