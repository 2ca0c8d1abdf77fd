//! `netweight route FLEET`: which model of a fleet answers a request, and a day of such requests.

mod decisions;
mod simulated;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use planner::{Aim, Batching, Class, Decision, Fleet, History, Lengths, Need, Request, seed001};

use crate::Outcome;

/// Choose the model of a fleet that answers a request, and simulate their traffic
///
/// The fleet is a TOML file with variants of models, hardware and prices. A request is answered by
/// the variant that is good enough for it, fast enough for its lengths and fits into memory, and
/// costs least. The others are listed with the reason why not. With --simulate or --trace, requests
/// wait in queues and run in batches; the result is beside that of the largest model alone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A fleet file, or seed001 for the table of models of an earlier system
    pub fleet: PathBuf,
    /// A file of requests, one JSON object a line; --help describes it
    #[arg(long, value_name = "FILE", required_unless_present_any = ["prompt", "trace"])]
    pub requests: Option<PathBuf>,
    /// The prompt of one request
    #[arg(long, value_name = "TEXT", requires = "max_tokens", conflicts_with = "requests")]
    pub prompt: Option<String>,
    /// The most tokens of its output
    #[arg(long, value_name = "N", requires = "prompt")]
    pub max_tokens: Option<u64>,
    /// Least quality of requests that state none, between 0 and 1, in place of that of their class
    #[arg(long, value_name = "Q")]
    pub quality: Option<f64>,
    /// Most p99 in ms of requests that state none
    #[arg(long, value_name = "MS")]
    pub max_p99: Option<f64>,
    /// Objective to minimise
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Objective::Cost)]
    pub objective: Objective,
    /// The model whose tokenizer counts the tokens of prompts
    #[cfg(feature = "runtime")]
    #[arg(long, value_name = "MODEL", conflicts_with = "bytes_per_token")]
    pub model: Option<PathBuf>,
    /// Bytes of a token, if no tokenizer counts them
    #[arg(long, value_name = "B", default_value_t = 4.0)]
    pub bytes_per_token: f64,
    /// Requests of the past with their `output_tokens`: they predict how long outputs will be
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    #[command(flatten)]
    pub traffic: Traffic,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a simulation does.
#[derive(Debug, clap::Args)]
pub struct Traffic {
    /// Simulate a day of so many of these requests, drawn at random, that arrive at random
    #[arg(long, value_name = "PER_DAY", value_parser = clap::value_parser!(u64).range(1..=planner::MAX_REQUESTS as u64))]
    pub simulate: Option<u64>,
    /// Simulate the requests of this file at their `arrival_s`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["simulate", "requests", "prompt"])]
    pub trace: Option<PathBuf>,
    /// Most requests of a batch
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_batch: usize,
    /// Most time in ms that a request waits for others, if a machine is free
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    pub max_wait: f64,
    /// Seed of random arrivals
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Objective to minimise.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Objective {
    /// Dollars per million tokens
    Cost,
    /// The p99 of the request
    Latency,
}

const HELP: &str = "\
Fleet:
  [hardware.T4]
  price_per_hour = 0.50
  memory_gb = 16
  [[variant]]
  name = \"my-model-int8\"
  quality = 0.88
  [variant.on.T4]
  latency_ms = 100
  tokens_per_s = 50

Requests:
  {\"prompt\": \"What is 2+2?\", \"max_tokens\": 10}
  Other keys: prompt_tokens in place of prompt; context, output_tokens, quality,
  max_p99_ms, arrival_s.

Examples:
  netweight route fleet.toml --prompt 'What is 2+2?' --max-tokens 10
  netweight route fleet.toml --requests day.jsonl --simulate 1000000

Exit code: 1 if nothing answers a request.

docs/planner.md describes the files, the decision and the simulation.";

/// A request, and what it needs.
#[derive(Debug)]
struct Routed {
    request: Request,
    lengths: Lengths,
    need: Need,
}

impl Routed {
    fn class(&self) -> Class {
        Class::of(self.lengths)
    }
}

/// Routes requests.
///
/// # Errors
/// For files that cannot be read, and values that cannot be right.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    let fleet = fleet(&args.fleet)?;
    let batching = Batching::new(args.traffic.max_batch, args.traffic.max_wait / 1e3).context("--max-wait")?;
    let routed = args.routed(&fleet)?;
    let aim = match args.objective {
        Objective::Cost => Aim::Cost,
        Objective::Latency => Aim::Latency,
    };
    if args.traffic.simulate.is_some() || args.traffic.trace.is_some() {
        let traffic = simulated::Traffic::new(&args.traffic, &routed, batching)?;
        return traffic.run(&fleet, aim, args.json, out);
    }
    decisions::run(&fleet, &routed, aim, args.json, out)
}

fn fleet(path: &Path) -> Result<Fleet> {
    Ok(if path == Path::new("seed001") { seed001::fleet()? } else { Fleet::read(path)? })
}

impl Args {
    /// The requests, with what each needs.
    fn routed(&self, fleet: &Fleet) -> Result<Vec<Routed>> {
        let past = self.history.as_deref().map(Request::read).transpose()?.unwrap_or_default();
        let (history, count) = (History::of(&past), self.count()?);
        let routed = self.read()?.into_iter().map(|mut request| {
            request.quality = request.quality.or(self.quality);
            request.max_p99_ms = request.max_p99_ms.or(self.max_p99);
            let lengths = request.lengths(&*count, &history)?;
            let need = request.need(lengths, fleet.classes());
            Ok(Routed { request, lengths, need })
        });
        routed.collect()
    }

    fn read(&self) -> Result<Vec<Request>> {
        let defaults = Request {
            prompt: Some(String::new()),
            quality: self.quality,
            max_p99_ms: self.max_p99,
            ..Request::default()
        };
        if let Err(reason) = defaults.check() {
            bail!("options: {reason}");
        }
        match (&self.prompt, self.requests.as_ref().or(self.traffic.trace.as_ref())) {
            (Some(prompt), _) => {
                let max_tokens = self.max_tokens.unwrap_or_default();
                Ok(vec![Request { prompt: Some(prompt.clone()), max_tokens, ..Request::default() }])
            }
            (None, Some(file)) => Ok(Request::read(file)?),
            (None, None) => bail!("--requests, --prompt or --trace is needed"),
        }
    }

    /// How tokens are counted.
    #[expect(clippy::type_complexity, reason = "the trait has the same function type")]
    fn count(&self) -> Result<Box<dyn Fn(&str) -> Result<u64, String>>> {
        #[cfg(feature = "runtime")]
        if let Some(model) = &self.model {
            // Its weights are not read: the tokenizer is beside them.
            let directory = if model.is_dir() { model.as_path() } else { model.parent().unwrap_or(Path::new("")) };
            let tokenizer = runtime::Tokenizer::open(directory)?;
            return Ok(Box::new(move |text| {
                tokenizer.encode(text).map(|ids| ids.len() as u64).map_err(|error| error.to_string())
            }));
        }
        let bytes = self.bytes_per_token;
        ensure!(bytes.is_finite() && bytes > 0.0, "--bytes-per-token {bytes} is no number above 0");
        Ok(Box::new(move |text| Ok((text.len() as f64 / bytes).ceil() as u64)))
    }
}

/// The best offer of what a request needs, as its place in the fleet.
fn placed(fleet: &Fleet, need: &Need, aim: Aim) -> Option<usize> {
    Decision::new(fleet, need, aim).chosen().map(|offer| offer.index)
}
