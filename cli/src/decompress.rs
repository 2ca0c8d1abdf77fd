//! `netweight decompress PACKED -o OUT`: writes a dense model.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Companions, Model, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{Bases, DENSE, Progress, Work, check_free, size};
use crate::text;

/// Decompress a packed model, or compute one of expressions
///
/// Writes the dense files that were packed, under their names, with their headers, and the index of
/// a sharded model. Tensors of exact codecs come back bit for bit; others as their certificates
/// state. Every checksum and hash is compared. Of a model with quality levels, any level can be
/// written, from as many bytes of the beginning of the file as it needs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), an index of several, or a directory with one, whose other
    /// files are copied; or a model of expressions (`merge --lazy`)
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
    if Checkpoint::open(&args.model).is_ok_and(|model| model.is_computed()) {
        return compute(args, begin, registry, out);
    }
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

/// Writes a model of expressions as a dense one: one file, or a directory with its companions.
fn compute(args: &Args, begin: Instant, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if args.level.is_some() {
        bail!("`{}` is a model of expressions, which has no quality levels; leave `--level` out", args.model.display());
    }
    let Model::Computed(model) = Model::open(&args.model, &args.base.bases, registry)? else {
        bail!("`{}` is no model of expressions", args.model.display());
    };
    check_free(&args.output, args.force)?;
    let specs = || model.inner().tensors().iter().map(|(_, spec)| spec);
    let size = specs().fold((0, 0), |all, spec| (all.0 + spec.elements() as u64, all.1 + spec.byte_len() as u64));
    let single = args.output.to_str().is_some_and(|name| name.ends_with(DENSE));
    let own = [model.path().to_owned()];
    let find = || Companions::find(&args.model, &args.output, &own);
    let companions = (args.model.is_dir() && !single).then(find).transpose()?;
    let mut target = args.output.clone();
    if !single {
        fs::create_dir_all(&target).with_context(|| format!("cannot make `{}`", target.display()))?;
        target.push(model.path().file_name().unwrap_or_default());
    }
    let progress = args.work.progress("compute", size);
    args.work.pool()?.install(|| model.write(&target, &progress))?;
    companions.map_or(Ok(()), |companions| companions.copy())?;
    drop(progress);
    if !args.work.quiet {
        let (shown, tensors) = (text::path(&args.output), text::count(specs().count(), "tensor"));
        writeln!(out, "`{shown}`: {tensors}, computed, {} weights", size.0)?;
        let time = begin.elapsed().as_secs_f64();
        writeln!(out, "it took {time:.1} s, {:.0} MB/s", size.1 as f64 / 1e6 / time.max(1e-3))?;
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
