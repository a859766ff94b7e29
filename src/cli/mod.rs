//! The command line: what a person types, turned into calls of the control API and into text. Owns the flags, the exit codes
//! and every word printed; `main` calls `parse` and `run`. It knows the REST API as any client does, and nothing of how the
//! server keeps its promises: only `serve` and `doctor` look past the API. `bench` has the load generator beside it.

pub mod alias;
pub mod args;
pub mod bench;
pub mod client;
pub mod completions;
pub mod dead_letters;
pub mod delete;
pub mod deploy;
pub mod doctor;
pub mod env;
pub mod error;
pub mod instance;
pub mod invocations;
pub mod invoke;
pub mod key;
pub mod layer;
pub mod list;
pub mod logs;
pub mod output;
pub mod package;
#[cfg(test)]
mod scripted;
pub mod serve;
pub mod starts;
pub mod url;
pub mod version;

use crate::cli::args::{Command, Global};
use crate::cli::client::Client;
use crate::cli::error::Error;
use crate::cli::output::Output;

/// Runs every command but `serve`, which `main` gives a runtime of its own size.
pub async fn run(command: Command, global: &Global, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Serve(_) => Err(Error::Usage("serve is not a client command".into())),
        Command::Deploy(args) => deploy::run(args, &connect(global)?, output).await,
        Command::Invoke(args) => invoke::run(args, &connect(global)?, output).await,
        Command::List(args) => list::run(args, &connect(global)?, output).await,
        Command::Logs(args) => logs::run(args, &connect(global)?, output).await,
        Command::Starts(args) => starts::run(args, &connect(global)?, output).await,
        Command::Invocations(args) => invocations::run(args, &connect(global)?, output).await,
        Command::Delete(args) => delete::run(args, &connect(global)?, output).await,
        Command::Version(args) => version::run(args, &connect(global)?, output).await,
        Command::Alias(args) => alias::run(args, &connect(global)?, output).await,
        Command::Url(args) => url::run(args, &connect(global)?, output).await,
        Command::Layer(args) => layer::run(args, &connect(global)?, output).await,
        Command::DeadLetters(args) => dead_letters::run(args, &connect(global)?, output).await,
        Command::Key(args) => key::run(args, &connect(global)?, output).await,
        Command::Bench(args) => bench::run(args, global, output).await,
        Command::Env(args) => env::run(args, global, output).await,
        Command::Doctor(args) => doctor::run(args, global, output).await,
        Command::Completions(args) => completions::run(args, output),
    }
}

fn connect(global: &Global) -> Result<Client, Error> {
    let target = instance::target(global);
    Ok(Client::trusting(
        &target.url,
        target.key,
        global.ca.as_deref(),
    )?)
}
