//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use codec_api::Dtype;
use regex::Regex;

/// Compresses neural-network weights with pluggable codecs, and measures every codec the same way.
#[derive(Debug, Parser)]
#[command(name = "netweight", bin_name = "netweight", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
pub struct Args {
    /// Tell what is done and how long it takes (-vv: everything); `RUST_LOG` overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    List(List),
    Info(Info),
    Bench(Bench),
}

/// List the codecs of this program and their presets
///
/// Every preset is shown as a codec spec that `bench --codecs` reads, with the bits per weight that the codec's
/// own estimate gives for a 1024x1024 f32 tensor.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SPECS)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Look into a model or an encoded tensor
///
/// A .safetensors file or a Hugging Face directory is shown as a table of its tensors, with totals, metadata and a
/// hash of the content. A file that holds one encoded tensor is shown with its codec, its certified error bound and its
/// sections.
#[derive(Debug, clap::Args)]
pub struct Info {
    /// A .safetensors file, a model directory, or a file with an encoded tensor
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Measure codecs on the tensors of a suite
///
/// Every cell really encodes the tensor, writes the result as bytes, reads these back, decodes, and checks the error
/// against the bound that the encoder certified. The table has one line per codec, --long one per cell. Speeds hold
/// for this run on this machine: compare them with the speed of memcpy printed above the table.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// What to measure on; the list is below
    #[arg(long, value_name = "NAME", default_value = "gaussian")]
    pub suite: String,
    /// Codec specs, separated by commas outside parentheses; every preset if left out
    #[arg(long, value_name = "SPEC,SPEC")]
    pub codecs: Option<String>,
    /// Only tensors whose name this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub include: Option<Regex>,
    /// The model that the suite's model was fine-tuned from: the base tensors of codecs that use one
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Round the float tensors to this dtype first
    #[arg(long, value_name = "DTYPE")]
    pub cast: Option<Cast>,
    /// Seed of made-up tensors and of codecs that draw random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print a line for every tensor and codec, too
    #[arg(long)]
    pub long: bool,
    /// Sort the tables by this column, ascending
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<SortColumn>,
    /// Write one line of JSON per cell
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line of CSV per cell
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    pub md: Option<PathBuf>,
    /// Overwrite report files
    #[arg(long)]
    pub force: bool,
    /// Compare with an earlier run's --json file; the exit code is 1 if a cell got worse
    #[arg(long, value_name = "OLD.jsonl")]
    pub compare: Option<PathBuf>,
}

/// A dtype to cast to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Cast {
    /// 8 bits of exponent, 7 of mantissa.
    Bf16,
    /// 5 bits of exponent, 10 of mantissa.
    F16,
    /// 8 bits of exponent, 23 of mantissa.
    F32,
}

impl From<Cast> for Dtype {
    fn from(cast: Cast) -> Self {
        match cast {
            Cast::Bf16 => Self::BF16,
            Cast::F16 => Self::F16,
            Cast::F32 => Self::F32,
        }
    }
}

/// A column of the table of codecs, a field of [`harness::report::Summary`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SortColumn {
    Codec,
    Preset,
    Bytes,
    BitsPerWeight,
    Ratio,
    Nmse,
    Mse,
    RelativeError,
    ErrorToBound,
    SnrDb,
    ShannonGapBits,
    EncodeMbPerS,
    DecodeMbPerS,
    TimingRuns,
    PeakScratchBytes,
    Weights,
    Coverage,
    Ok,
    Unsupported,
    Failed,
}

impl SortColumn {
    /// The name of the field.
    pub fn key(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well
  1  the work found failures or regressions
  2  wrong usage or unreadable input

`netweight help COMMAND` tells more about a command.";

const SPECS: &str = "\
Codec specs:
  A spec is an id, then `:key=value` as often as wanted; keys left out have their defaults:
      quant.int:bits=4:group=128
  `preset=NAME` starts from a preset instead of the defaults:
      quant.int:preset=int4
  A codec that is made of others has them in parentheses, in its own order: `id(spec,spec):key=value`.
  Wrong ids, keys and values are answered with the right ones.";

const BENCH_EXAMPLES: &str = "\
Examples:
  netweight bench
      every preset on one Gaussian matrix
  netweight bench --suite model:my-model --include 'layers\\.0\\.' --long
      every preset on the first layer of a model, tensor by tensor
  netweight bench --codecs quant.int:bits=4:group=128,quant.nf4 --sort nmse
      two codecs, the more exact one first
  netweight bench --suite model:my-model --json now.jsonl --compare before.jsonl
      keep the figures, and fail if they are worse than before

--compare calls a cell worse if its status is, or if bytes, header or NMSE grew by more than 0.1 % (of the header,
more than 64 bytes); speeds and memory differ between runs and are not compared.

Exit code: 1 if a cell failed or, with --compare, got worse.";

/// Reads the program's arguments.
///
/// # Errors
/// What clap wants printed: a complaint, or help that was asked for.
pub fn parse() -> Result<Args, clap::Error> {
    let matches = command().try_get_matches()?;
    Args::from_arg_matches(&matches)
}

fn command() -> clap::Command {
    let suites = harness::suite::catalogue();
    let width = suites.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let suites: Vec<_> = suites.iter().map(|(name, what)| format!("\n  {name:width$}  {what}")).collect();
    let help = format!("Suites:{}\n\n{SPECS}\n\n{BENCH_EXAMPLES}", suites.concat());
    Args::command().mut_subcommand("bench", |bench| bench.after_long_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
