//! The `netweight` command line, as a library: a program with more codecs is a line longer for each crate.
//!
//! ```no_run
//! use codecs as _;
//! // use codec_x as _;
//!
//! fn main() -> std::process::ExitCode {
//!     cli::main()
//! }
//! ```
//!
//! Results go to standard output, everything else to standard error. The exit code is 0 if all went well, 1 if
//! the work found failures or regressions, 2 for wrong usage or unreadable input.
//!
//! The library installs the program's allocator, [`heap::Counting`]: `bench` measures scratch memory
//! with it, and nothing else counts.

mod args;
mod bench;
mod info;
mod list;
mod text;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use codec_api::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::Command;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// How a command that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing to complain of.
    Clean,
    /// A cell failed, or got worse.
    Found,
}

/// Runs the program on its command line.
pub fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(error) => {
            // If this cannot be printed, there is nobody to tell.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    start_log(args.verbose);
    match run(&args.command, &mut io::stdout().lock()) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {}", with_causes(&error)));
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command, out: &mut dyn Write) -> Result<Outcome> {
    let registry = Registry::linked()?;
    let outcome = match command {
        Command::List(args) => list::run(args, &registry, out),
        Command::Info(args) => info::run(args, &registry, out),
        Command::Bench(args) => bench::run(args, &registry, out),
    }?;
    out.flush()?;
    Ok(outcome)
}

/// `RUST_LOG` decides if it is set.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// The reader of the output has seen enough, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// The message and its causes, without those that the message already tells. They may quote names out of files.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = text::printable(&error.to_string());
    for cause in error.chain().skip(1).map(|cause| text::printable(&cause.to_string())) {
        if !text.contains(&cause) {
            let _ = write!(text, "\n  because: {cause}");
        }
    }
    text
}
