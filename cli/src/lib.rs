//! The `netweight` command line as a library. A program with further codecs consists of these lines
//! and one `use` line for each codec crate.
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
//! Results go to standard output, everything else to standard error. The exit code is 0 on success,
//! 1 if the work found failures, differences or regressions, 2 for wrong usage or unreadable input,
//! 130 after Ctrl-C.
//!
//! The library installs the program's allocator, [`heap::Counting`]. `bench` measures scratch
//! memory with it; in other commands it counts nothing.

mod apply;
mod args;
mod bench;
#[cfg(feature = "runtime")]
mod calibrate;
#[cfg(feature = "runtime")]
mod calibrated;
mod compress;
mod console;
mod decompress;
mod diff;
mod estimate;
#[cfg(feature = "runtime")]
mod eval;
#[cfg(feature = "runtime")]
mod generate;
#[cfg(feature = "runtime")]
mod graph;
mod info;
#[cfg(feature = "runtime")]
mod lazy;
mod list;
mod lora;
mod merge;
#[cfg(feature = "runtime")]
mod optimize;
mod options;
mod packing;
#[cfg(feature = "runtime")]
mod profile;
mod route;
#[cfg(feature = "runtime")]
mod running;
mod shell;
#[cfg(feature = "runtime")]
mod speed;
mod steps;
mod suggest;
mod summary;
mod text;
mod verify;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
#[cfg(unix)]
use std::sync::{Arc, atomic::AtomicBool};

use anyhow::Result;
use codec_api::Registry;

use crate::args::Command;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// The result of a command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// No failures.
    Clean,
    /// A cell failed or got worse.
    Found,
    /// Ctrl-C ended the run before its last cell.
    Interrupted,
}

/// Runs the program on its command line.
pub fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(error) => {
            // Without a reader there is nothing else to do.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    console::start(args.verbose, args.log_json);
    #[cfg(unix)]
    survive_size_limits();
    match run(&args.command, &mut io::stdout().lock()) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(bench::interrupt::EXIT),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&with_causes(&error));
            ExitCode::from(2)
        }
    }
}

/// A write beyond the largest file that the system allows (`ulimit -f`) becomes an error, as on a
/// full disk. Without a handler, its signal would end the process.
#[cfg(unix)]
fn survive_size_limits() {
    let received = Arc::new(AtomicBool::new(false));
    drop(signal_hook::flag::register(signal_hook::consts::SIGXFSZ, received));
}

fn run(command: &Command, out: &mut dyn Write) -> Result<Outcome> {
    let registry = Registry::linked()?;
    let outcome = match command {
        Command::List(args) => list::run(args, &registry, out),
        Command::Info(args) => info::run(args, &registry, out),
        Command::Compress(args) => compress::run(args, &registry, out),
        Command::Decompress(args) => decompress::run(args, &registry, out),
        Command::Verify(args) => verify::run(args, &registry, out),
        Command::Apply(args) => apply::run(args, &registry, out),
        Command::Plan(args) => steps::plan(args, &registry, out),
        Command::Run(args) => steps::run(args, &registry, out),
        Command::Commit(args) => steps::commit(args, &registry, out),
        Command::Diff(args) => diff::run(args, &registry, out),
        Command::Merge(args) => merge::run(args, &registry, out),
        Command::Lora(args) => lora::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Graph(args) => graph::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Profile(args) => profile::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Optimize(args) => optimize::run(args, &registry, out),
        Command::Route(args) => route::run(args, out),
        #[cfg(feature = "runtime")]
        Command::TimeRequests(args) => profile::timed::run(args, &registry, out),
        Command::Bench(args) => bench::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Calibrate(args) => calibrate::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Eval(args) => eval::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Generate(args) => generate::run(args, &registry, out),
        #[cfg(feature = "runtime")]
        Command::Speed(args) => speed::run(args, &registry, out),
        Command::Completions(args) => shell::completions(args, out),
        Command::Man(args) => shell::man(args, out),
    }?;
    out.flush()?;
    Ok(outcome)
}

/// Whether the reader of the output, such as `head`, has closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// The message and its causes, except those that the message already contains. They may quote names
/// from files.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = text::printable(&error.to_string());
    for cause in error.chain().skip(1).map(|cause| text::printable(&cause.to_string())) {
        if !text.contains(&cause) {
            let _ = write!(text, "\n  because: {cause}");
        }
    }
    text
}
