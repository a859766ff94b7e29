//! The load generator: sends calls to an HTTP server on this machine, on a plan (open loop) or as fast as answers come (closed
//! loop), and says what became of them. Used by `hearth bench` and the benches; no part of the server. It knows HTTP and the headers
//! Hearth answers with, and nothing else of Hearth, so that the same load can be put on anything a number is compared with.
//!
//! `plan` and `trace` decide when calls are due and do nothing else; `driver` sends them over a fixed number of `connection`s;
//! `tally` and `series` count, `omission` adds what a closed loop left out; `report` is what a person or a program reads of one run. `scenario` is what is asked of a whole
//! bench, `bench` carries it out, `threshold` judges it, and `document` is what is written of it, which `page` and `plot` draw.

pub mod bench;
pub mod connection;
pub mod document;
pub mod driver;
mod omission;
pub mod origin;
pub mod pace;
pub mod page;
pub mod plan;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod series;
pub mod tally;
pub mod threshold;
pub mod trace;
pub mod usage;

use std::net::SocketAddr;

/// Why no load can be put on anything. What goes wrong with single calls is no error but a result, and counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url:?} is not an address to put load on: {reason}")]
    BadUrl { url: String, reason: &'static str },
    #[error("{0} is not on this machine; load is sent over loopback only")]
    NotLoopback(SocketAddr),
    #[error("a call cannot be built: {0}")]
    Request(#[source] http::Error),
    #[error("there is nothing to call")]
    NoCalls,
    #[error("the timer that calls are sent by cannot be made")]
    Timer(#[source] std::io::Error),
    #[error("the processor time of process {pid} cannot be read")]
    Process {
        pid: u32,
        #[source]
        source: std::io::Error,
    },
    #[error("{function} has no answer: {failure}")]
    Silent {
        function: String,
        failure: &'static str,
    },
    #[error("{function} cannot be called, the answer is {status}: {answer}")]
    Refused {
        function: String,
        status: u16,
        answer: String,
    },
    #[error("line {line} of the trace: {what}")]
    Trace { line: usize, what: &'static str },
}
