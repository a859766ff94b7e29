//! A running container as something callable.

pub mod call;
pub mod frame;
pub mod logs;
