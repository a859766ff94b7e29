//! The program: flags → runtime → server or command → exit code.

use std::process::ExitCode;

use hearth::cli::args::{Cli, Command, Global};
use hearth::cli::error::{self, Error};
use hearth::cli::output::Output;
use hearth::cli::serve;

/// Calls of many connections free what others allocated, which this one does in fewer steps than the system's, and it gives back what a burst
/// of large answers took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::parse_line(std::env::args_os()) {
        Ok(cli) => cli,
        // Help and version come this way too.
        Err(asked) => {
            let printed = asked.print();
            return ExitCode::from(printed.map_or(1, |()| asked.exit_code() as u8));
        }
    };
    let mut output = Output::of_process(&global);
    let done = match command {
        Command::Serve(args) => serve_with(args, &global, &mut output),
        command => ask(command, &global, &mut output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reported = error::report(&error, &mut output);
            ExitCode::from(reported.map_or(1, |()| error.exit_code()))
        }
    }
}

fn serve_with(args: serve::Args, global: &Global, output: &mut Output) -> Result<(), Error> {
    // Where the kernel gives them unasked, room for what has not come yet would be memory. A kernel without them refuses.
    nix::sys::prctl::set_thp_disable(true).ok();
    let Some(config) = serve::configure(args, global, output)? else {
        return Ok(());
    };
    serve::raise_open_files().map_err(|e| Error::Serve(e.into()))?;
    let threads = config.server.threads.unwrap_or_else(serve::usual_threads);
    // One thread has nobody to share its work with, and need not be ready to.
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Error::Serve(e.into()))?;
    let ended = runtime.block_on(hearth::app::run(config));
    // What still blocks a thread now is an engine or a disk that hangs; the end does not wait for it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended.map_err(Error::Serve)
}

fn ask(command: Command, global: &Global, output: &mut Output) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| Error::Serve(e.into()))?;
    runtime.block_on(hearth::cli::run(command, global, output))
}
