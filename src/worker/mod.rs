//! A running container as something callable.

pub mod frame;
