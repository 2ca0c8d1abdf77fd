//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use codec_api::Dtype;
use regex::Regex;

use crate::packing::Bases;
use crate::{apply, compress, decompress, diff, lora, merge, route, shell, steps, verify};
#[cfg(feature = "runtime")]
use crate::{calibrate, eval, generate, graph, optimize, profile, speed};

/// Compress neural-network weights with pluggable codecs, and measure every codec the same way
#[derive(Debug, Parser)]
#[command(name = "netweight", bin_name = "netweight", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
pub struct Args {
    /// Log the steps and their times (-vv: everything); `RUST_LOG` overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Write the log as JSON to standard error, one object a line, with the steps of the work;
    /// errors and progress too
    #[arg(long, global = true)]
    pub log_json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    List(List),
    Info(Info),
    Compress(Box<compress::Args>),
    Decompress(decompress::Args),
    Verify(verify::Args),
    Apply(apply::Args),
    Diff(diff::Args),
    Merge(merge::Args),
    Lora(lora::Args),
    #[cfg(feature = "runtime")]
    Graph(graph::Args),
    Plan(Box<steps::Plan>),
    Run(steps::Run),
    Commit(steps::Commit),
    #[cfg(feature = "runtime")]
    Profile(profile::Args),
    #[cfg(feature = "runtime")]
    Optimize(Box<optimize::Args>),
    Route(Box<route::Args>),
    #[cfg(feature = "runtime")]
    TimeRequests(profile::timed::Args),
    Bench(Box<Bench>),
    #[cfg(feature = "runtime")]
    Calibrate(calibrate::Args),
    #[cfg(feature = "runtime")]
    Eval(eval::Args),
    #[cfg(feature = "runtime")]
    Generate(generate::Args),
    #[cfg(feature = "runtime")]
    Speed(speed::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// List the codecs of this program and their presets
///
/// Every preset has a line with its name, the codec's own estimate of the bits per weight (bits/w)
/// for a 1024x1024 f32 tensor, and the codec spec with all keys. `bench --codecs` accepts the spec
/// or `ID:preset=NAME`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print whole specs at any width, and the crate of each codec
    #[arg(long)]
    pub wide: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Show the contents of a model, of a packed model or of an encoded tensor
///
/// For a packed model: codec, bits per weight and error of each tensor, and totals. For another
/// .safetensors file or a Hugging Face directory: a table of the tensors, totals, metadata and a
/// hash of the content. For a model of expressions: the tensors, and the files that they are
/// computed of; nothing is computed. For a file with one encoded tensor: its codec, its certificate
/// (the error of the decoded weights) and its sections.
#[derive(Debug, clap::Args)]
#[command(after_long_help = WIDTH)]
pub struct Info {
    /// A .safetensors file, an index, a model directory, a packed model, or a file with an encoded
    /// tensor
    pub file: PathBuf,
    #[command(flatten)]
    pub base: Bases,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Measure codecs on the tensors of a model or a suite
///
/// For each tensor and codec (a cell), the program encodes the tensor, writes the result as bytes,
/// reads them back, decodes, rounds the weights to the tensor's dtype and measures their error. The
/// certificate in the file must state the same. The table has one line per codec; --long adds one
/// with a line per cell. Speeds hold for this run on this machine: compare them with the speed of
/// memcpy above the table.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Bench {
    /// Model to measure on: a .safetensors file or a model directory; the same as
    /// --suite model:MODEL
    #[arg(conflicts_with = "suite")]
    pub model: Option<PathBuf>,
    /// Suite to measure on; --help lists all
    #[arg(long, value_name = "NAME", default_value = "gaussian")]
    pub suite: String,
    /// Codec specs, separated by commas outside parentheses; without this option, every preset
    #[arg(long, value_name = "SPEC,SPEC")]
    pub codecs: Option<String>,
    /// Measure only tensors with a name that matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub include: Option<Regex>,
    /// The model before fine-tuning: its tensors are the bases of codecs that encode a difference
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Give calibration to every codec that uses it, not only to those that require it; --help
    /// describes the file
    #[arg(long)]
    pub calibrated: bool,
    /// Convert the float tensors (also F64 and 8-bit floats) to this dtype first
    #[arg(long, value_name = "DTYPE")]
    pub cast: Option<Cast>,
    /// Seed of generated tensors and of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Also print a table with a line for every tensor and codec
    #[arg(long)]
    pub long: bool,
    /// Print all columns at full width
    #[arg(long)]
    pub wide: bool,
    /// Sort the tables by this column, ascending
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<SortColumn>,
    /// Write one line of JSON per cell, when the cell ends
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line of CSV per cell
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    pub md: Option<PathBuf>,
    /// Go on with the interrupted run in the --json file: measure only the cells that it lacks
    #[arg(long, requires = "json")]
    pub resume: bool,
    /// Overwrite report files
    #[arg(long)]
    pub force: bool,
    /// Compare with an earlier run's --json file; the exit code is 1 if a cell got worse
    #[arg(long, value_name = "OLD.jsonl")]
    pub compare: Option<PathBuf>,
    #[cfg(feature = "runtime")]
    #[command(flatten)]
    pub language: crate::bench::recipes::Options,
}

/// The dtypes of `--cast`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Cast {
    /// 8 bits of exponent, 7 bits of mantissa.
    Bf16,
    /// 5 bits of exponent, 10 bits of mantissa.
    F16,
    /// 8 bits of exponent, 23 bits of mantissa.
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
    HeaderBytes,
    BitsPerWeight,
    Ratio,
    Nmse,
    Mse,
    RelativeError,
    MaxAbsError,
    SnrDb,
    ShannonGapBits,
    EncodeMbPerS,
    DecodeMbPerS,
    TimingRuns,
    PeakScratchBytes,
    Weights,
    Coverage,
    Ok,
    Calibrated,
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
  0  success
  1  the work found failures, differences or regressions
  2  wrong usage or unreadable input
  130  Ctrl-C

`netweight help COMMAND` explains a command. NO_COLOR=1 switches colours off.";

const WIDTH: &str = "\
Width:
  On a terminal, long names and codec specs are shortened in the middle (`…`)
  so that each line fits. COLUMNS=120 sets another width. Output to a file or
  a pipe is not shortened unless COLUMNS is set.";

const SPECS: &str = "\
Codec specs:
  A spec is an id and any number of `:key=value`; other keys have defaults:
      quant.int:bits=4:group=128
  `preset=NAME` starts from a preset instead of the defaults:
      quant.int:preset=int4
  Some codecs combine others. Their specs follow in parentheses:
      residual(quant.int:bits=4,quant.int:bits=4)
  An error about an id, a key or a value lists the valid ones.";

const BENCH_EXAMPLES: &str = "\
Examples:
  netweight bench
      every preset on one Gaussian matrix
  netweight bench my-model --include 'layers\\.0\\.' --long
      every preset on the first layer of a model, tensor by tensor
  netweight bench --codecs quant.int:bits=4:group=128,quant.nf4 --sort nmse
      two codecs, the one with the smaller error first
  netweight bench my-model --json now.jsonl --compare before.jsonl
      save the figures, and fail if they are worse than before
  netweight bench my-model --json now.jsonl --resume
      go on with a run that Ctrl-C or a crash has ended
  netweight bench --model my-model --text book.txt --recipes int8,q4,quant.nf4
      a language model, packed in three ways, beside the dense one

The table shows the main columns; --wide, --md, --csv and --json have all.
`covered` is the share of the weights in tensors that the codec supports; the
table of --long shows `unsup.` for the other tensors. Below the table, each
codec says why it does not support them.

With --compare, a cell is worse if its status is worse, if its bytes or NMSE
grew by more than 0.1 %, or if its header grew by more than 0.1 % and 64 bytes.
Speeds and memory vary between runs and are not compared.";

const CALIBRATION: &str = "\
Calibration:
  Some codecs give better results if they know the inputs of a layer. The file
  `calibration.safetensors` beside the model has an F32 vector for each tensor,
  under the tensor's name: the mean of x² of each input. Inputs are the columns
  of a tensor; with the metadata `axis`: `rows` they are its rows (GPT-2
  `Conv1D`). With --calibrated, the tables say `(calibrated)` behind a codec.";

const BENCH_EXIT: &str = "\
Exit code: 1 if a cell failed or, with --compare, got worse; 130 after Ctrl-C.";

/// Reads the program's arguments.
///
/// # Errors
/// The error or the help text that clap prints.
pub fn parse() -> Result<Args, clap::Error> {
    let matches = command().try_get_matches()?;
    Args::from_arg_matches(&matches)
}

/// The command line, with the texts that are put together at run time.
pub fn command() -> clap::Command {
    let suites = harness::suite::catalogue();
    let suites: Vec<_> = suites.iter().map(|(name, what)| format!("\n  {name}\n      {what}")).collect();
    let help = format!(
        "Suites:{}\n\n{SPECS}\n\n{CALIBRATION}\n\n{BENCH_EXAMPLES}\n\n{WIDTH}\n\n{BENCH_EXIT}",
        suites.concat()
    );
    Args::command()
        .mut_subcommand("bench", |bench| bench.after_long_help(help))
        .mut_subcommand("list", |list| list.after_long_help(format!("{SPECS}\n\n{WIDTH}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
