//! The requests of a profile run in a process of their own, whose memory is that of the variant.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use codec_api::Registry;
use planner::Lengths;
use profiler::{Requests, Timing};

use crate::Outcome;
use crate::running::Execution;

/// Time requests to a model, and print JSON; `profile` runs this command
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// A model.
    pub model: PathBuf,
    /// Lengths of prompts and outputs
    #[arg(long, required = true, value_name = "P+N", value_delimiter = ',', value_parser = parse_lengths)]
    pub request: Vec<Lengths>,
    /// Requests of each kind
    #[arg(long, value_name = "N")]
    pub runs: u64,
    #[command(flatten)]
    pub execution: Execution,
}

/// Times the requests.
///
/// # Errors
/// Those of [`Requests::time`].
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let requests = Requests::new(args.request.clone(), args.runs)?;
    serde_json::to_writer(&mut *out, &requests.time(&args.model, args.execution.options(), registry)?)?;
    writeln!(out)?;
    Ok(Outcome::Clean)
}

/// Lengths as `128+32`: tokens of the prompt and of the output.
///
/// # Errors
/// What is wanted.
pub fn parse_lengths(text: &str) -> Result<Lengths, String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|tokens| *tokens > 0);
    let parsed = text.split_once('+').and_then(|(prompt, output)| Some((number(prompt)?, number(output)?)));
    let wanted = || "lengths are tokens of the prompt + tokens of the output, such as 128+32".to_owned();
    parsed.map(|(prompt, output)| Lengths { prompt, output }).ok_or_else(wanted)
}

/// Times requests in a new process of this program.
///
/// # Errors
/// If it cannot be started, or fails.
pub fn in_new_process(model: &Path, requests: &Requests, options: runtime::Options) -> Result<Timing> {
    let program = std::env::current_exe().context("this program has no file to start again")?;
    let lengths: Vec<_> = requests.lengths.iter().map(|one| format!("{}+{}", one.prompt, one.output)).collect();
    let resident = match options.resident {
        runtime::Resident::Packed => "packed",
        runtime::Resident::Dense => "dense",
    };
    let (runs, threads) = (requests.runs.to_string(), options.threads.to_string());
    let mut command = Command::new(&program);
    command.args(["time-requests", "--request", &lengths.join(","), "--runs", &runs]);
    command.args(["--threads", &threads, "--resident", resident]).arg("--").arg(model);
    let output = command.stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("cannot start `{}`", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("error: ");
        ensure!(!said.is_empty(), "the process that timed `{}` ended with {}", model.display(), output.status);
        bail!("{said}");
    }
    serde_json::from_slice(&output.stdout).context("the process that timed requests gave no result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_two_numbers() {
        assert_eq!(parse_lengths("128+32"), Ok(Lengths { prompt: 128, output: 32 }));
        for text in ["", "128", "128+", "+1", "0+1", "1+0", "1+2+3", "a+b", "-1+2"] {
            assert!(parse_lengths(text).unwrap_err().contains("such as 128+32"), "{text}");
        }
    }
}
