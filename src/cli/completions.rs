//! `hearth completions`: a completion script for a shell, made from the flags themselves.

use clap::CommandFactory;

use crate::cli::args::Cli;
use crate::cli::error::Error;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash:  hearth completions bash > /etc/bash_completion.d/hearth
zsh:   hearth completions zsh > \"${fpath[1]}/_hearth\"
fish:  hearth completions fish > ~/.config/fish/completions/hearth.fish")]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub fn run(args: Args, output: &mut Output) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hearth", &mut script);
    Ok(output.bytes(&script)?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::output::captured;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in clap_complete::Shell::value_variants() {
            let (mut output, out, _) = captured::output(false);
            run(Args { shell: *shell }, &mut output).expect("written");
            assert!(out.text().contains("deploy"), "{shell}");
        }
    }
}
