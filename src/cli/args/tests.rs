//! The command line as people meet it: its help, and what it takes.

use clap::CommandFactory;

use super::*;
use crate::config::raw::Values;

#[test]
fn the_help_is_what_it_is_meant_to_be() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut help = format!("{}\n", command.render_help());
    for sub in command.get_subcommands_mut() {
        let line = "=".repeat(100);
        help.push_str(&format!("{line}\n{}\n", sub.render_help()));
    }
    insta::assert_snapshot!("help", help);
}

#[test]
fn the_flags_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_state_directory_is_the_servers() {
    let values = Values::defaults();
    let default = values.get("state.dir").value.as_str();
    assert_eq!(default, Some(DEFAULT_STATE_DIR));
}

#[test]
fn a_state_directory_from_a_flag_is_told_from_one_of_the_environment() {
    let parse = |line: &[&str]| Cli::parse_line(line).expect("good flags").global;
    for line in [
        ["hearth", "serve", "--state-dir", "/x"],
        ["hearth", "--state-dir", "/x", "serve"],
    ] {
        let global = parse(&line);
        assert!(global.state_dir_is_flag, "{line:?}");
        assert_eq!(global.state_dir(), Path::new("/x"));
    }
    assert!(!parse(&["hearth", "list"]).state_dir_is_flag);
}

#[test]
fn help_is_asked_for_and_a_mistake_is_made() {
    let code = |line: &[&str]| Cli::parse_line(line).expect_err("no command").exit_code();
    assert_eq!(code(&["hearth", "--help"]), 0);
    assert_eq!(code(&["hearth", "--version"]), 0);
    assert_eq!(code(&["hearth"]), 2);
    assert_eq!(code(&["hearth", "invoke"]), 2);
    assert_eq!(code(&["hearth", "list", "--no-such-flag"]), 2);
}
