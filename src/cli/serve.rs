//! `hearth serve`: from flags to the configuration the server runs with. Running it is `main`'s, which sizes the runtime by it.

use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cli::args::Global;
use crate::cli::error::Error;
use crate::cli::output::Output;
use crate::config::Config;
use crate::config::load::{self, Loaded};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub settings: Settings,
    /// Print the effective configuration with the origin of each value, and exit
    #[arg(long)]
    dump_config: bool,
}

/// Flags that make a configuration; `doctor` takes the same, to look at what `serve` would use.
#[derive(Debug, Default, clap::Args)]
pub struct Settings {
    /// Configuration file [env: HEARTH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where definitions are kept: "embedded" is a file in the state directory, redis://HOST:PORT is shared
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Folder with one folder per runtime
    #[arg(long, value_name = "DIR")]
    runtimes: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = load::pair)]
    set: Vec<(String, String)>,
}

impl Settings {
    pub fn load(self, global: &Global) -> Result<Loaded, Error> {
        let state_dir = global
            .state_dir
            .as_ref()
            .filter(|_| global.state_dir_is_flag);
        let named = [
            ("server.listen", self.listen),
            ("state.dir", state_dir.map(|dir| dir.display().to_string())),
            ("store.url", self.store),
            ("runtimes.dir", self.runtimes),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        load::from_process(self.config, named.chain(self.set).collect()).map_err(Error::Config)
    }
}

/// Lets this process open as many files as it may: every connection is one, and the usual limit of 1,024 is a default for programs
/// that cannot count further.
pub fn raise_open_files() -> nix::Result<()> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now == most {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// Half of the processors: the other half is the functions'. More threads wake each other up for what one of them would have done by itself.
pub fn usual_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors / 2).max(1)
}

/// The configuration to serve with, or `None` when it was only to be shown.
pub fn configure(
    args: Args,
    global: &Global,
    output: &mut Output,
) -> Result<Option<Config>, Error> {
    let loaded = args.settings.load(global)?;
    if args.dump_config {
        output.bytes(load::dump(&loaded.values).as_bytes())?;
        return Ok(None);
    }
    Ok(Some(loaded.config))
}
