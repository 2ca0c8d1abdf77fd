//! `netweight optimize MODEL`: the best way to compress a model within limits.

mod candidates;
mod folder;
mod limits;
mod measured;
mod report;
mod texts;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use checkpoint::{Checkpoint, Hash};
use codec_api::Registry;
use harness::models::{Mark, picture};
use harness::report::write_file;
use planner::{Found, Objective, Profile, Profiles, Search};
use profiler::Subject;

use crate::bench::interrupt;
use crate::packing::check_free;
use crate::profile::{Measurement, Statistics, Variant};
use crate::{Outcome, text};
use limits::Limits;
use measured::Measured;

/// Find the best way to compress a language model within limits, by measurement
///
/// Candidates are packed, run on growing parts of the text and timed; those that miss a limit are
/// dropped early. The best one that keeps all limits, measured in full, is written with its
/// profile.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The dense model: a directory or a .safetensors file
    pub model: PathBuf,
    /// Files with text, as for `eval`. Without --calibration, the first quarter of each calibrates
    /// and the rest measures
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Statistics from `netweight calibrate`, made with other texts
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// The directory for the winner; it does not exist yet
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Candidates, separated by commas: names of the usual ones, recipes, recipe files, codec specs
    #[arg(long, value_name = "NAME,NAME")]
    pub candidates: Option<String>,
    /// Measure every candidate in full
    #[arg(long)]
    pub exhaustive: bool,
    /// Minutes after which only the most promising candidate is measured
    #[arg(long, value_name = "MIN")]
    pub budget: Option<f64>,
    /// The file of profiles; by default OUT.profiles.jsonl
    #[arg(long, value_name = "FILE")]
    pub profiles: Option<PathBuf>,
    /// Draw KL divergence against bits per weight
    #[arg(long, value_name = "FILE", requires = "text")]
    pub svg: Option<PathBuf>,
    /// Seed of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Limits and objective.
    #[command(flatten)]
    pub limits: Limits,
    /// How candidates are measured.
    #[command(flatten)]
    pub measurement: Measurement,
}

const HELP: &str = "\
Candidates:
  fp16, gptq_quality, gptq_balanced, gptq_size, awq_quality, awq_balanced,
  bnb_int8, bnb_nf4
      the presets of other tools, as `compress` has them: bnb_int8 is int8,
      bnb_nf4 is nf4, fp16 casts
  dense, lossless, imatrix:q6_k, imatrix:q4_k, imatrix:q3_k
  mixed 6 bits, mixed 5 bits, mixed 4 bits
      integers of 2 to 8 bits, as many for each matrix as it needs
  trellis 5 bits, 4, 3.5, 3, 2.5, 2
      entropy-coded: the smallest files at a given quality, slower to run

Search:
  A candidate that misses a limit even by the optimistic bound of what is
  measured is dropped, and one that another one surely beats. The better half of
  the rest goes on; the other half returns unless a winner, measured in full,
  surely beats it. The folder OUT.search has packed candidates, and the file of profiles
  has what was measured: the same command goes on where it was interrupted, and
  other limits use them again.

Exit code: 1 if no candidate keeps all limits.

Examples:
  netweight optimize my-model --text book.txt --max-ppl-delta 2% -o small
  netweight optimize my-model --text book.txt --max-kl 0.01 \\
      --max-latency-p99 100ms --price 0.50 -o cheap --svg front.svg";

/// Requests of a first look, of each kind.
const QUICK: u64 = 3;

/// Searches, prints, writes the winner.
///
/// # Errors
/// For wrong arguments, a model that cannot run, a text that is too short, and files that cannot be
/// written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let (begin, search) = (Instant::now(), args.search()?);
    check_free(&args.output, false)?;
    let profiles = Profiles::open(&args.beside(args.profiles.as_deref(), ".profiles.jsonl"))?;
    let folder = args.beside(None, ".search");
    let given = [&args.calibration, &args.svg].into_iter().flatten().chain(&args.text).map(PathBuf::as_path);
    folder::make(&folder, given.chain([&*args.model, profiles.path()]))?;
    let (variants, subject) = args.prepare(&folder, registry)?;
    let requests = args.measurement.requests(&subject, args.measurement.runs)?;
    let quick = args.measurement.requests(&subject, QUICK.min(args.measurement.runs))?;
    let search = Search { windows: subject.windows(), ..search };
    let source = Checkpoint::open(&args.model)?;
    let candidate = |variant: &Variant| candidates::candidate(variant, &source, &args.model, registry);
    let candidates = variants.iter().map(candidate).collect::<Result<Vec<_>>>()?;
    let (model, variants) = (&*args.model, &*variants);
    let mut bench = Measured {
        model,
        subject: &subject,
        variants,
        folder: &folder,
        profiles,
        quick,
        requests,
        registry,
        begin,
        out,
        packing: measured::Spent::default(),
        full: measured::Spent::default(),
    };
    let found = match search.run(&candidates, &mut bench) {
        Ok(found) => found,
        Err(_) if interrupt::watch().check().is_err() => {
            writeln!(out, "interrupted; the same command goes on")?;
            return Ok(Outcome::Interrupted);
        }
        Err(error) => return Err(error),
    };
    finish(args, &search, &found, &mut bench)
}

impl Args {
    /// The search, without the number of windows.
    fn search(&self) -> Result<Search> {
        let (constraints, objective) = self.limits.read(!self.text.is_empty())?;
        let budget = self.budget.map(|minutes| 60.0 * minutes);
        ensure!(budget.is_none_or(|budget| budget.is_finite() && budget >= 0.0), "--budget is no number of minutes");
        Ok(Search { constraints, objective, windows: 0, exhaustive: self.exhaustive, budget })
    }

    /// A path, or the output's with this end.
    fn beside(&self, path: Option<&Path>, end: &str) -> PathBuf {
        let usual = || {
            let mut name = self.output.file_name().unwrap_or_default().to_owned();
            name.push(end);
            self.output.with_file_name(name)
        };
        path.map_or_else(usual, Path::to_owned)
    }

    /// The candidates, and the dense model with the texts that measure.
    fn prepare(&self, folder: &Path, registry: &Registry) -> Result<(Vec<Variant>, Subject)> {
        let (mut statistics, mut texts) = (self.calibration.clone(), self.text.clone());
        if statistics.is_none() && !texts.is_empty() && candidates::need_statistics(self.candidates.as_deref()) {
            let model = Checkpoint::open(&self.model)?;
            model.require_stored()?;
            let (parts, hash) = (texts::Parts::write(&texts, folder)?, Hash(model.hash()?));
            let threads = self.measurement.execution.threads();
            let calibrate = || parts.statistics((&self.model, &hash), folder, threads, registry);
            statistics = interrupt::resumable(calibrate)?;
            texts = parts.evaluation;
        }
        let subject = self.measurement.subject(&self.model, &texts, registry)?;
        let statistics = statistics.as_deref().map(Statistics::open).transpose()?;
        let variants = candidates::all(self.candidates.as_deref(), statistics.as_ref(), registry)?;
        Ok((variants.into_iter().map(|variant| variant.with_seed(self.seed)).collect(), subject))
    }
}

/// Prints what was found, and writes the winner and the picture.
fn finish(args: &Args, search: &Search, found: &Found, bench: &mut Measured<'_>) -> Result<Outcome> {
    let variants = bench.variants;
    report::front(search, found, variants, bench.out)?;
    report::cost(found, bench)?;
    if let Some(file) = &args.svg {
        write_picture(file, args, found, variants)?;
    }
    let Some(winner) = found.winner else {
        report::nearest(found, &search.constraints, variants, bench.out)?;
        let (profiles, folder) = (text::path(bench.profiles.path()), text::path(bench.folder));
        writeln!(bench.out, "`{profiles}` and `{folder}` have what was measured, for a search with other limits")?;
        return Ok(Outcome::Found);
    };
    let profile = found.profiles[winner].clone().context("the winner was measured")?;
    write_winner(args, bench, winner, &profile)?;
    fs::remove_dir_all(bench.folder).with_context(|| format!("cannot remove `{}`", bench.folder.display()))?;
    let value = search.objective.value(&profile).unwrap_or(f64::NAN);
    let shown = match search.objective {
        Objective::Cost { .. } => format!("${value:.4} per million tokens"),
        Objective::Size => text::size(profile.bytes_on_disk),
        Objective::Latency => format!("p99 {value:.2} ms"),
        Objective::Quality => format!("KL divergence {value:.3e} nats"),
    };
    let (name, output) = (text::printable(&variants[winner].name), text::path(&args.output));
    writeln!(bench.out, "`{output}`: {name}, {shown}; its profile is in `profile.jsonl` there")?;
    Ok(Outcome::Clean)
}

/// The winner's directory gets its profile, and the name of the output.
fn write_winner(args: &Args, bench: &Measured<'_>, winner: usize, profile: &Profile) -> Result<()> {
    let folder = bench.place(winner).unwrap_or_else(|| bench.folder.join("dense"));
    if !folder.exists() {
        let threads = bench.subject.options().threads;
        bench.variants[winner].write(&args.model, &folder, threads, bench.registry)?;
    }
    Profiles::open(&folder.join("profile.jsonl"))?.append(profile.clone())?;
    if args.output.exists() {
        // It is empty.
        fs::remove_dir(&args.output).with_context(|| format!("cannot replace `{}`", args.output.display()))?;
    }
    fs::rename(&folder, &args.output).with_context(|| format!("cannot write `{}`", args.output.display()))
}

fn write_picture(file: &Path, args: &Args, found: &Found, variants: &[Variant]) -> Result<()> {
    let weights = Checkpoint::open(&args.model)?.weights();
    let measured = variants.iter().zip(&found.profiles).filter_map(|(variant, profile)| {
        let profile = profile.as_ref()?;
        let bits = 8.0 * profile.bytes_on_disk as f64 / weights.max(1) as f64;
        Some(Mark { name: &variant.name, bits, kl: profile.kl?.value })
    });
    let picture = picture(&args.model.display().to_string(), &measured.collect::<Vec<_>>());
    Ok(write_file(file, |out| out.write_all(picture.as_bytes()))?)
}
