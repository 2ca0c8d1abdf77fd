//! `netweight profile MODEL`: what `optimize` and `route` decide from.

mod measure;
mod table;
pub mod timed;
mod variant;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Hash};
use codec_api::Registry;
use planner::{Profile, Profiles};
use profiler::{Depth, Subject};

pub use measure::{Measurement, profile};
pub use table::write as write_table;
pub use variant::{Statistics, Variant, place, short};

use crate::{Outcome, console, text};

/// Measure variants of a language model: size, memory, quality, speed, latency
///
/// Each variant is packed into a temporary directory, runs the text beside the dense model, and
/// answers requests in a process of its own. A file of profiles keeps the results: what it has of
/// the same model, recipe, machine and settings is not measured again. `netweight optimize` and
/// `netweight route` decide from profiles.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The dense model, or a packed model with --reference
    pub model: PathBuf,
    /// A variant: dense, a recipe of `compress`, a recipe file, or a codec spec for the matrices;
    /// by default dense
    #[arg(long, value_name = "NAME|FILE|SPEC", conflicts_with = "reference")]
    pub recipe: Vec<String>,
    /// The dense model of a packed MODEL
    #[arg(long, value_name = "DENSE")]
    pub reference: Option<PathBuf>,
    /// Files with text, as for `eval`; without them no quality is measured
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Statistics from `netweight calibrate`, for recipes that need them
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// The file of profiles (JSON lines)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Seed of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print the profiles as JSON lines
    #[arg(long)]
    pub json: bool,
    /// How it is measured.
    #[command(flatten)]
    pub measurement: Measurement,
}

const HELP: &str = "\
Figures:
  size: bytes of the files of weights. memory: the most that the process of the
  requests had. perplexity, its change against the dense model, KL divergence
  and top-1 agreement: as for `eval`; the file has their confidence intervals
  of 95 % over the windows of the text. prefill and decode: tokens of prompts
  and of outputs per second. p50 and p99: of the times of requests.

Examples:
  netweight profile my-model --recipe dense --recipe int8 --recipe q4 \\
      --text book.txt -o profiles.jsonl
  netweight profile packed --reference my-model --text book.txt
  netweight profile my-model --request 16+16,1000+200 --runs 100

docs/planner.md describes the file.";

/// Measures, stores and prints.
///
/// # Errors
/// For models that cannot run, recipes that do not fit, and files that cannot be read or written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let mut profiles = args.output.as_deref().map(Profiles::open).transpose()?;
    let dense = args.reference.as_deref().unwrap_or(&args.model);
    let variants = args.variants(registry)?;
    let subject = args.measurement.subject(dense, &args.text, registry)?;
    let requests = args.measurement.requests(&subject, args.measurement.runs)?;
    let depth = Depth { windows: None, requests: Some(requests) };
    let mut found = Vec::new();
    for variant in &variants {
        if variants.len() > 1 {
            console::line(&format!("profile: {}", text::printable(&variant.name)));
        }
        found.push(args.measure(variant, &subject, &depth, profiles.as_mut(), registry)?);
    }
    if args.reference.is_some() {
        let name = format!("packed {}", short(Hash(Checkpoint::open(&args.model)?.hash()?)));
        let place = || Ok(args.model.clone());
        found.push(profile(&subject, &name, &depth, profiles.as_mut(), registry, place)?);
    }
    print(&found, args.json, out)?;
    Ok(Outcome::Clean)
}

impl Args {
    /// All variants; none for a packed model, which is one.
    fn variants(&self, registry: &Registry) -> Result<Vec<Variant>> {
        if self.reference.is_some() {
            return Ok(Vec::new());
        }
        if Checkpoint::open(&self.model)?.is_packed() {
            let model = self.model.display();
            bail!("`{model}` is packed; --reference names the dense model with which it is compared");
        }
        if self.recipe.is_empty() {
            return Ok(vec![Variant::dense()]);
        }
        let statistics = self.calibration.as_deref().map(Statistics::open).transpose()?;
        let parse = |text: &String| Ok(Variant::parse(text, statistics.as_ref(), registry)?.with_seed(self.seed));
        self.recipe.iter().map(parse).collect()
    }

    /// Measures a variant, and packs it for that into a temporary directory.
    fn measure(
        &self,
        variant: &Variant,
        subject: &Subject,
        depth: &Depth,
        profiles: Option<&mut Profiles>,
        registry: &Registry,
    ) -> Result<Profile> {
        let work = tempfile::tempdir().context("cannot make a folder for packed models")?;
        let place = || {
            if variant.is_dense() {
                return Ok(self.model.clone());
            }
            let folder = work.path().join("packed");
            let packed = variant.write(&self.model, &folder, subject.options().threads, registry);
            packed.with_context(|| format!("recipe `{}`", variant.name)).map(|()| folder)
        };
        profile(subject, &variant.recipe(), depth, profiles, registry, place)
    }
}

fn print(found: &[Profile], json: bool, out: &mut dyn Write) -> Result<()> {
    if json {
        for profile in found {
            serde_json::to_writer(&mut *out, profile)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let rows: Vec<_> = found.iter().map(|profile| (&*profile.key.recipe, profile)).collect();
    Ok(write_table(&rows, out)?)
}
