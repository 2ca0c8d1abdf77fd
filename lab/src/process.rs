//! Runs programs, and measures their time and memory.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::matrix::peak_rss;

/// The time between two looks at the memory of a program.
const INTERVAL: Duration = Duration::from_millis(10);

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub seconds: f64,
    /// The most memory that it held, in bytes; `None` where the system does not say.
    pub peak: Option<u64>,
}

/// Runs a program to its end.
///
/// # Errors
/// If it does not start, or fails.
pub fn run(command: &mut Command) -> Result<Taken> {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut peak = None;
    let status = loop {
        // The file is empty as soon as the program has ended.
        peak = peak_rss(&child.id().to_string()).or(peak);
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(INTERVAL),
        }
    };
    ensure!(status.success(), "{command:?} failed");
    Ok(Taken { seconds: begin.elapsed().as_secs_f64(), peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told() {
        assert!(run(&mut Command::new("true")).unwrap().seconds < 60.0);
        assert!(run(&mut Command::new("false")).unwrap_err().to_string().contains("false"));
        assert!(run(&mut Command::new("/no/such/program")).is_err());
    }
}
