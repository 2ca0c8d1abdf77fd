//! `netweight decompress PACKED -o OUT`: writes a dense model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use checkpoint::{Companions, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{Bases, DENSE, Progress, check_free, pool};
use crate::text;

/// Decompress a packed model
///
/// Writes the dense files that were packed, under their names, with their headers, and the index of
/// a sharded model. Tensors of exact codecs come back bit for bit; others as their certificates
/// state. Every checksum and hash is compared. Of a model with quality levels, any level can be
/// written, from as many bytes of the beginning of the file as it needs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), or a directory with one, whose other files are copied
    pub model: PathBuf,
    /// A directory; for a model that was one file also the name of that file (*.safetensors)
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub base: Bases,
    /// Number of threads; by default one for each core
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Quality level, 0 for the coarsest; `info` shows them. Without it all of them: the best
    #[arg(long, value_name = "N")]
    pub level: Option<usize>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

/// Unpacks the model.
///
/// # Errors
/// For a packed file that is damaged or unreadable, or a target that exists or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let begin = Instant::now();
    let packed = Packed::open(&args.model, registry)?.with_bases(&args.base.bases, registry)?;
    packed.require_base()?;
    let packed = if let Some(level) = args.level { packed.at_level(level)? } else { packed };
    let progress = Progress::new(weights(&packed));
    let find = || Companions::find(&args.model, &args.output, &[packed.path().to_owned()]);
    let companions = || Ok(args.model.is_dir().then(find).transpose()?);
    pool(args.jobs)?.install(|| unpack(&packed, &args.output, args.force, companions, &progress))?;
    drop(progress);
    summarise(&packed, &args.output, begin, out)?;
    Ok(Outcome::Clean)
}

/// Writes the model as one file, or into a directory with its companions.
///
/// # Errors
/// If the target exists, unless `force`, or cannot be written; if the packed file is damaged.
pub fn unpack(
    packed: &Packed,
    target: &Path,
    force: bool,
    companions: impl FnOnce() -> Result<Option<Companions>>,
    progress: &Progress,
) -> Result<()> {
    check_free(target, force)?;
    if target.to_str().is_some_and(|name| name.ends_with(DENSE)) {
        return Ok(packed.unpack_single(target, progress)?);
    }
    // They are found before anything is written.
    let companions = companions()?;
    packed.unpack(target, progress)?;
    Ok(companions.map_or(Ok(()), |companions| companions.copy())?)
}

/// Number of weights of a packed model.
pub fn weights(packed: &Packed) -> u64 {
    packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum()
}

/// Prints what was written where.
///
/// # Errors
/// If the output cannot be written.
pub fn summarise(packed: &Packed, target: &Path, begin: Instant, out: &mut dyn Write) -> Result<()> {
    let exact = packed.tensors().filter(|tensor| tensor.certificate().exact).count();
    let shown = text::printable(&target.display().to_string());
    let tensors = text::count(packed.len(), "tensor");
    let lossy = packed.len() - exact;
    let loss = if lossy == 0 { "all bit for bit".to_owned() } else { format!("{lossy} with a loss") };
    writeln!(out, "`{shown}`: {tensors}, {loss}, {} weights", weights(packed))?;
    writeln!(out, "it took {:.1} s", begin.elapsed().as_secs_f64())?;
    Ok(())
}
