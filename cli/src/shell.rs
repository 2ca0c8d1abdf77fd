//! `netweight completions` and `netweight man`: made from the command line's own description.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::{Outcome, args};

/// Print a shell's completions of this command line
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  netweight completions bash > ~/.local/share/bash-completion/completions/netweight
  netweight completions fish > ~/.config/fish/completions/netweight.fish
  netweight completions zsh > \"${fpath[1]}/_netweight\"";

/// Print the manual page, or write one for each command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write netweight.1 and a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints completions.
///
/// # Errors
/// If the output cannot be written.
pub fn completions(args: &Completions, out: &mut dyn Write) -> Result<Outcome> {
    let mut command = args::command();
    let name = command.get_name().to_owned();
    // The generator panics if its writer fails, as at a closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    out.write_all(&text)?;
    Ok(Outcome::Clean)
}

/// Prints the manual page, or writes all pages.
///
/// # Errors
/// If the output or a file cannot be written.
pub fn man(args: &Man, out: &mut dyn Write) -> Result<Outcome> {
    let Some(folder) = &args.dir else {
        clap_mangen::Man::new(args::command()).render(out)?;
        return Ok(Outcome::Clean);
    };
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(args::command(), folder));
    written.with_context(|| format!("cannot write manual pages into `{}`", folder.display()))?;
    Ok(Outcome::Clean)
}
