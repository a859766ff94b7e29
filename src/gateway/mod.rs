//! HTTP in: connections, who may come in, and which face a request is for. Names no engine and no worker: a call goes to the
//! scheduler, everything else to the control API.

pub mod addresses;
pub mod body;
pub mod connection;
pub mod dashboard;
pub mod keys;
pub mod repoll;
pub mod route;
pub mod screen;
pub mod server;
pub mod service;
pub mod slowdown;
pub mod taking;
pub mod timer;
pub mod tls;
pub mod validity;
