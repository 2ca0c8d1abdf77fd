//! `cargo xtask mutate`: decodes damaged files of every codec, for as long as one likes.
//!
//! A process of its own attacks each codec, so that an abort does not end the run. The number of a
//! mutant and the seed determine the mutant: a failure can be repeated, and its file is kept.

mod attack;
mod source;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use codec_api::Registry;

use self::attack::{Report, attack, probe};
use self::source::Source;

/// Time beyond its own that a process gets to end.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Attack this codec only
    id: Option<String>,
    /// Seconds for all codecs together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the mutants
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Decode only the mutant of this number, in this process
    #[arg(long, value_name = "NUMBER", requires = "id")]
    mutant: Option<u64>,
    /// Attack in this process, and write the number of each mutant here
    #[arg(long, hide = true, requires = "id")]
    journal: Option<PathBuf>,
}

/// Attacks, and returns the table.
pub fn page(options: &Options) -> Result<String> {
    let registry = Registry::linked()?;
    if let (Some(id), Some(number)) = (&options.id, options.mutant) {
        let taken = probe(&Source::new(&registry, id)?, options.seed, number)?;
        return Ok(format!("{}\n", taken.failure().unwrap_or_else(|| "no failure".to_owned())));
    }
    if let (Some(id), Some(journal)) = (&options.id, &options.journal) {
        let source = Source::new(&registry, id)?;
        let report = attack(&source, options.seed, Duration::from_secs(options.seconds), journal)?;
        return Ok(serde_json::to_string(&report)?);
    }
    let ids: Vec<&str> = match &options.id {
        Some(id) => vec![id],
        None => registry.entries().map(|entry| entry.id).collect(),
    };
    let each = (options.seconds / ids.len() as u64).max(1);
    let mut table = String::from(Report::HEADINGS);
    for id in ids {
        table.push_str(&in_a_process(&registry, id, each, options.seed)?.row(id));
    }
    Ok(table)
}

/// Attacks one codec in another process.
fn in_a_process(registry: &Registry, id: &str, seconds: u64, seed: u64) -> Result<Report> {
    let directory = tempfile::tempdir()?;
    let journal = directory.path().join("mutant");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["mutate", id, "--seconds", &seconds.to_string(), "--seed", &seed.to_string(), "--journal"]);
    let mut child = command.arg(&journal).stdout(Stdio::piped()).spawn()?;
    let found = match wait(&mut child, Duration::from_secs(seconds) + GRACE)? {
        Some(text) => match serde_json::from_str::<Report>(&text) {
            Ok(report) => match &report.failure {
                None => return Ok(report),
                Some(failure) => failure.clone(),
            },
            Err(_) => format!("the process ended with {}", child.wait()?),
        },
        None => "a decode hangs".to_owned(),
    };
    let index = number(&journal)?;
    let path = PathBuf::from(format!("mutant-{id}-{seed}-{index}.safetensors"));
    fs::write(&path, Source::new(registry, id)?.mutant(seed, index))?;
    bail!("{id}: {found}; the file is {}, and `{id} --seed {seed} --mutant {index}` decodes it again", path.display())
}

/// The output of a process that ends in time; the process is killed if it does not.
fn wait(child: &mut Child, most: Duration) -> Result<Option<String>> {
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > most {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut text)?;
    }
    Ok(Some(text))
}

/// The number of the last mutant.
fn number(journal: &Path) -> Result<u64> {
    let bytes = fs::read(journal).context("no mutant was decoded")?;
    let number = bytes.first_chunk().context("the number of the mutant was not written")?;
    Ok(u64::from_le_bytes(*number))
}
