//! The program in a `provided` worker: process 1 of the container. Outside it speaks `hearth-worker/1` over the Unix socket
//! (runtimes/PROTOCOL.md); inside it starts the function's `bootstrap` and serves it the AWS Lambda Runtime API on loopback.
//!
//! Started with `--image PROGRAM…`, it is the entry point of an image that knows nothing of it, and PROGRAM takes the bootstrap's place.
//!
//! `wire` is the frames, `worker` the life of the worker and what Hearth may say when, `api` what the bootstrap may ask,
//! `bootstrap` its process, `settings` what INIT and INVOKE said, `fault` what went wrong as JSON.
//!
//! One thread and no locks: whatever happens, happens between two awaits.

mod api;
mod bootstrap;
mod fault;
mod settings;
mod wire;
mod worker;

use std::ffi::OsString;
use std::fs::File;
use std::process::ExitCode;
use std::rc::Rc;

use nix::unistd::{dup2_stderr, dup2_stdout};
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::task::LocalSet;

use crate::worker::Worker;

/// Where Hearth listens, unless the environment says otherwise.
const SOCKET: &str = "/hearth/worker.sock";
/// Where what is printed goes.
const LOG: &str = "/hearth/log";
const IMAGE: &str = "--image";

fn main() -> ExitCode {
    // The bootstrap runs as the same user. It must not get at our connection by tracing us, or through /proc.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        fault::say(&format!(
            "hearth shim: cannot be protected from the function: {error}"
        ));
        return ExitCode::FAILURE;
    }
    let mut arguments = std::env::args_os().skip(1);
    let program = match arguments.next() {
        Some(first) if first == IMAGE => Some(arguments.collect()),
        _ => None,
    };
    // The images of runtimes have a shell that does this; here there may be none.
    if program.is_some()
        && let Err(error) = print_to_log()
    {
        fault::say(&format!("hearth shim: cannot print to {LOG}: {error}"));
        return ExitCode::FAILURE;
    }
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            fault::say(&format!("hearth shim: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    LocalSet::new().block_on(&runtime, serve(program))
}

fn print_to_log() -> std::io::Result<()> {
    let log = File::options().write(true).open(LOG)?;
    dup2_stdout(&log)?;
    dup2_stderr(&log)?;
    Ok(())
}

async fn serve(program: Option<Vec<OsString>>) -> ExitCode {
    let path = std::env::var_os("HEARTH_SOCKET").unwrap_or_else(|| SOCKET.into());
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) => {
            fault::say(&format!(
                "hearth shim: cannot connect to {}: {error}",
                path.display()
            ));
            return ExitCode::FAILURE;
        }
    };
    let (input, output) = stream.into_split();
    let worker = Rc::new(Worker::new(output, program));
    let status = worker.clone().serve(wire::Reader::new(input)).await;
    worker.end(status)
}
