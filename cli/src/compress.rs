//! `netweight compress MODEL -o OUT`: packs a model.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Error, Result, anyhow};
use checkpoint::{PACKED_EXTENSION, Plan, TensorEncoder};
use codec_api::{Progress, Registry};
use rayon::ThreadPool;

use crate::options::{Options, check_target};
use crate::packing::Work;
use crate::{Outcome, estimate, steps, summary};

/// Compress a model
///
/// Every tensor is encoded by the codec that the recipe chooses, and a tensor that its codec
/// refuses is stored exactly. The result is one safetensors file, `*.nw.safetensors`, or with
/// --max-shard-size several and an index. It is opened and decoded before it gets its name. A run
/// that was interrupted goes on where it was when the same command is given again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Model and recipe.
    #[command(flatten)]
    pub options: Options,
    /// The packed file (*.nw.safetensors), or a directory for it; with a model directory, its other
    /// files are copied there
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Feedback of errors.
    #[cfg(feature = "runtime")]
    #[command(flatten)]
    pub calibration: crate::calibrated::CalibrationOptions,
    /// Leave out the check of the packed file
    #[arg(long)]
    pub no_verify: bool,
    /// Estimate size, time and memory from a sample of the model; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

const HELP: &str = "\
Recipes:
  lossless      every tensor exactly; `decompress` restores every file byte for
                byte
  int8          8 bits per weight, a scale per row
  q4            4 bits per weight, scale and zero point for 128 weights
  nf4           4 bits per weight, levels of a normal distribution, blocks of 64
  quanto_int8, quanto_int4
                8 bits as int8; 4 bits, 128 weights from the least to the largest
  trellis-4bit, trellis-3bit, trellis-2bit
                entropy-coded trellis quantisation: slower, smaller error
  seedlm-4bit   seeds of a shift register
  progressive   quality levels of 2, 3 and 4 bits per weight: the first bytes of
                the file are a coarse model; `info` shows how many
  With --calibration, from `netweight calibrate`; 4 bits per weight:
  gptq_quality, gptq_balanced, gptq_size
                groups of 128, 256, 512 weights, errors are fed forward
  awq_quality, awq_balanced
                groups of 128, 256 weights, input channels are scaled
  imatrix:q4_k  formats of ggml, squared errors weighted by input: q2_k, q3_k,
                q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, iq4_nl, iq4_xs
  All but the first encode float tensors of two or more axes (linear layers,
  embeddings) and store the rest exactly, such as norms and biases.

Recipe files are TOML, or JSON with the same keys (*.json):
  default = \"lossless\"                for tensors without a rule
  exclude = ['lm_head']               names of tensors to store exactly
  include = ['layers']                if given, all others are stored exactly
  [[rule]]                            the first rule that matches counts
  name = 'mlp\\.(up|down)'             regular expression
  min_rank = 2                        also max_rank, min_weights, max_weights
  dtype = [\"F32\", \"BF16\"]
  codec = \"quant.int:bits=4:group=64\"

Chosen by trial:
  `best:error=0.01` as a codec, here, in rules and in recipe files, tries several
  codecs on each tensor and takes the smallest whose measured ‖w − ŵ‖/‖w‖ is at
  most .01; `best:bits=3` takes the one with the least error of those with at
  most 3 bits per weight. `candidates = [...]` in a recipe file lists the codecs
  to try. `info` shows what was tried.

Examples:
  netweight compress my-model -o packed
      without loss, and the configuration and tokenizer copied
  netweight compress my-model -o packed --recipe int8 --exclude lm_head
      8 bits, the head exactly
  netweight compress my-model --recipe trellis-4bit --dry-run
      size, time and memory, from a sample
  netweight compress model.safetensors -o m.nw.safetensors --codec quant.q4_k
      one codec for all matrices
  netweight compress fine-tune -o patch.nw.safetensors --base my-model
      only the exact differences; `netweight apply my-model
      patch.nw.safetensors -o fine-tune` gives the fine-tune back";

/// Packs the model and prints what was saved and lost.
///
/// # Errors
/// For wrong arguments, an unreadable model, or a target that exists or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let nowhere = PathBuf::from(format!("model{PACKED_EXTENSION}"));
    let target = args.output.as_ref().unwrap_or(&nowhere);
    let pool = args.work.pool()?;
    let begin = Instant::now();
    #[cfg(feature = "runtime")]
    if let Some(statistics) = &args.calibration.calibration {
        return crate::calibrated::run(args, statistics, &pool, registry, out);
    }
    let plan = pool.install(|| args.options.plan(target, registry))?;
    if args.dry_run {
        estimate::print(&plan, begin.elapsed(), &pool, registry, out)?;
        return Ok(Outcome::Clean);
    }
    check_target(&plan, target, args.force)?;
    pack(&args.work, !args.no_verify, &plan, None, &pool, registry)?;
    if !args.work.quiet {
        summary::print(
            &plan,
            [&args.options.model, target],
            &args.options.bases,
            !args.no_verify,
            begin.elapsed(),
            registry,
            out,
        )?;
    }
    Ok(Outcome::Clean)
}

/// Runs the plan, with an encoder for some tensors if one is given, and commits it; `verify` checks
/// the packed file.
pub(crate) fn pack(
    work: &Work,
    verify: bool,
    plan: &Plan,
    by: Option<&dyn TensorEncoder>,
    pool: &ThreadPool,
    registry: &Registry,
) -> Result<()> {
    let size = plan.size(&steps::all(plan));
    let packed = pool.install(|| {
        let progress = work.progress("encode", size);
        match by {
            Some(by) => plan.run_with(by, registry, &progress)?,
            None => plan.run(registry, &progress)?,
        }
        let check = verify.then(|| work.progress("check", size));
        plan.commit(registry, check.as_ref().map(|check| check as &dyn Progress))
    });
    packed.map_err(|error| with_parts(error, plan))
}

/// The error, and where the finished parts are.
fn with_parts(error: checkpoint::Error, plan: &Plan) -> Error {
    if !plan.parts().exists() {
        return error.into();
    }
    anyhow!("{error}; finished parts are in `{}`, and the same command goes on with them", plan.parts().display())
}
