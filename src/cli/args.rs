//! What may be typed: the flags every command takes, and the list of commands. Each command's own flags stand in its file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::{
    alias, bench, completions, dead_letters, delete, deploy, doctor, env, invocations, invoke, key,
    layer, list, logs, serve, starts, url, version,
};

/// Where an instance keeps its state unless it is told otherwise; the default of `state.dir`.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/hearth";

#[derive(Debug, Parser)]
#[command(
    name = "hearth",
    version,
    about = "Upload a function, call it over HTTP, and it is already warm.",
    after_help = "Exit codes: 0 done, 1 the operation failed, 2 the command line or the configuration is wrong.",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Address of the server [default: the running instance's, or http://127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        env = "HEARTH_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub url: Option<String>,
    /// API key [default: the one in the state directory, when it can be read]
    #[arg(
        long,
        global = true,
        env = "HEARTH_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<String>,
    /// Certificate authorities to trust, in PEM, when the address is https [default: the machine's]
    #[arg(
        long,
        global = true,
        env = "HEARTH_CA",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub ca: Option<PathBuf>,
    /// State directory of the instance on this machine [default: /var/lib/hearth]
    #[arg(
        long,
        global = true,
        env = "HEARTH_STATE_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,
    /// The state directory was named by a flag and not by the environment, which `serve` reads itself.
    #[arg(skip)]
    pub state_dir_is_flag: bool,
    /// Print JSON: the result to stdout, errors to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no colours
    #[arg(
        long,
        global = true,
        env = "NO_COLOR",
        value_parser = FalseyValueParser::new(),
        hide_env_values = true
    )]
    pub no_color: bool,
    /// Say more on stderr
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(serve::Args),
    /// Create or update a function from a directory, a source file, a zip or an image
    Deploy(deploy::Args),
    /// Call a function and print its answer
    Invoke(invoke::Args),
    /// List the functions
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show what a function printed
    Logs(logs::Args),
    /// Show which workers a function had started, and why
    Starts(starts::Args),
    /// List a function's latest calls, show what one was given and what it answered
    Invocations(invocations::Args),
    /// Delete a function
    Delete(delete::Args),
    /// Publish, list and delete versions of a function
    Version(version::Args),
    /// Point names at versions, list and delete them
    Alias(alias::Args),
    /// Give functions and aliases URLs of their own, list and delete them
    Url(url::Args),
    /// Publish, list and delete versions of layers
    Layer(layer::Args),
    /// List, show, queue again and discard asynchronous calls that failed for good
    DeadLetters(dead_letters::Args),
    /// Make, list and revoke keys
    Key(key::Args),
    /// Put a load on functions and say how fast they answer
    Bench(bench::Args),
    /// Print shell settings for the running instance: eval "$(hearth env)"
    Env(env::Args),
    /// Check Docker, mounts, images, disk and ports, and say how to mend each
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Cli {
    /// Parses a command line. The error is also how help and version come back; it prints itself and has an exit code.
    pub fn parse_line<I, T>(line: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Cli::command().try_get_matches_from(line)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        let source = matches
            .subcommand()
            .and_then(|(_, command)| command.value_source("state_dir"));
        cli.global.state_dir_is_flag = source == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

impl Global {
    pub fn state_dir(&self) -> &Path {
        self.state_dir
            .as_deref()
            .unwrap_or(Path::new(DEFAULT_STATE_DIR))
    }
}

#[cfg(test)]
mod tests;
