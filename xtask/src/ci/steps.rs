//! The checks of a run and their durations.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Names and durations (seconds) of the checks that passed.
#[derive(Debug, Default)]
pub struct Steps(Vec<(String, f64)>);

impl Steps {
    /// Runs one check.
    ///
    /// # Errors
    /// If the check fails; the message contains the command.
    pub fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.time(name, command, |command| Ok(command.status()?.success()))
    }

    /// Runs a benchmark and looks for the new codec's row in its output.
    ///
    /// # Errors
    /// If the benchmark fails or its output does not show the codec.
    pub fn shows_demo(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.time(name, command, |command| {
            let output = command.stderr(Stdio::inherit()).output()?;
            let table = String::from_utf8_lossy(&output.stdout);
            print!("{table}");
            Ok(output.status.success() && table.contains("demo.absmax"))
        })
    }

    fn time(
        &mut self,
        name: &str,
        command: &mut Command,
        passes: impl FnOnce(&mut Command) -> io::Result<bool>,
    ) -> Result<()> {
        println!("\nci: {name}");
        let begin = Instant::now();
        if !passes(command).with_context(|| format!("cannot start {command:?}"))? {
            bail!("{name} failed; repeat it with\n  {command:?}");
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!("ci: {name}: passed in {seconds:.1} s");
        self.0.push((name.to_owned(), seconds));
        Ok(())
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: f64 = self.0.iter().map(|(_, seconds)| seconds).sum();
        for (name, seconds) in &self.0 {
            writeln!(f, "ci: {seconds:7.1} s  {name}")?;
        }
        write!(f, "ci: all passed in {total:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up_and_failures_name_their_command() {
        let mut steps = Steps::default();
        steps.run("good", &mut Command::new("true")).unwrap();
        let message = steps.run("bad", Command::new("false").arg("x")).unwrap_err().to_string();
        assert!(message.starts_with("bad failed") && message.contains("\"false\" \"x\""), "{message}");
        assert!(steps.run("absent", &mut Command::new("/no/such/program")).is_err());
        let steps = Steps(vec![("one".to_owned(), 61.25), ("two".to_owned(), 2.5)]);
        assert_eq!(steps.to_string(), "ci:    61.2 s  one\nci:     2.5 s  two\nci: all passed in 64 s");
    }
}
