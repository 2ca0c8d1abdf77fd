//! `netweight decompress PACKED -o OUT`: writes a dense model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use checkpoint::{Companions, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{Bases, DENSE, Progress, Work, check_free, size};
use crate::text;

/// Decompress a packed model
///
/// Writes the dense files that were packed, under their names, with their headers, and the index of
/// a sharded model. Tensors of exact codecs come back bit for bit; others as their certificates
/// state. Every checksum and hash is compared. Of a model with quality levels, any level can be
/// written, from as many bytes of the beginning of the file as it needs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), an index of several, or a directory with one, whose other
    /// files are copied
    pub model: PathBuf,
    /// A directory; for a model that was one file also the name of that file (*.safetensors)
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub base: Bases,
    /// Quality level, 0 for the coarsest; `info` shows them. Without it all of them: the best
    #[arg(long, value_name = "N")]
    pub level: Option<usize>,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
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
    let progress = args.work.progress("decode", size(packed.tensors()));
    let find = || Companions::find(&args.model, &args.output, &packed.paths());
    let companions = || Ok(args.model.is_dir().then(find).transpose()?);
    args.work.pool()?.install(|| unpack(&packed, &args.output, args.force, companions, &progress))?;
    drop(progress);
    if !args.work.quiet {
        summarise(&packed, &args.output, begin, out)?;
    }
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

/// Prints what was written where.
///
/// # Errors
/// If the output cannot be written.
pub fn summarise(packed: &Packed, target: &Path, begin: Instant, out: &mut dyn Write) -> Result<()> {
    let exact = packed.tensors().filter(|tensor| tensor.certificate().exact).count();
    let shown = text::path(target);
    let tensors = text::count(packed.len(), "tensor");
    let lossy = packed.len() - exact;
    let loss = if lossy == 0 { "all bit for bit".to_owned() } else { format!("{lossy} with a loss") };
    let (weights, bytes) = size(packed.tensors());
    writeln!(out, "`{shown}`: {tensors}, {loss}, {weights} weights")?;
    let time = begin.elapsed().as_secs_f64();
    writeln!(out, "it took {time:.1} s, {:.0} MB/s", bytes as f64 / 1e6 / time.max(1e-3))?;
    Ok(())
}
