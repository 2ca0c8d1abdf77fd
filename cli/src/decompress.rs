//! `netweight decompress PACKED -o OUT`: writes a dense model.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use checkpoint::{Companions, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{DENSE, Work, check_free};
use crate::text;

/// Decompress a packed model
///
/// Writes the dense files that were packed, under their names, with their headers, and the index of
/// a sharded model. Tensors of exact codecs come back bit for bit; others as their certificates
/// state. Every checksum and hash is compared.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), or a directory with one, whose other files are copied
    pub model: PathBuf,
    /// A directory; for a model that was one file also the name of that file (*.safetensors)
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
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
    let packed = Packed::open(&args.model, registry)?;
    check_free(&args.output, args.force)?;
    let weights: u64 = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
    let bytes = packed.tensors().map(|tensor| tensor.spec().byte_len() as u64).sum();
    let progress = args.work.progress("decode", (weights, bytes));
    let single = args.output.to_str().is_some_and(|name| name.ends_with(DENSE));
    let pool = args.work.pool()?;
    if single {
        pool.install(|| packed.unpack_single(&args.output, &progress))?;
    } else {
        let find = || Companions::find(&args.model, &args.output, &[packed.path().to_owned()]);
        let companions = args.model.is_dir().then(find).transpose()?;
        pool.install(|| packed.unpack(&args.output, &progress))?;
        companions.map_or(Ok(()), |companions| companions.copy())?;
    }
    drop(progress);
    if args.work.quiet {
        return Ok(Outcome::Clean);
    }
    let exact = packed.tensors().filter(|tensor| tensor.certificate().exact).count();
    let shown = text::printable(&args.output.display().to_string());
    let tensors = text::count(packed.len(), "tensor");
    let lossy = packed.len() - exact;
    let loss = if lossy == 0 { "all bit for bit".to_owned() } else { format!("{lossy} with a loss") };
    writeln!(out, "`{shown}`: {tensors}, {loss}, {weights} weights")?;
    let (time, bytes) = (begin.elapsed().as_secs_f64(), bytes as f64);
    writeln!(out, "it took {time:.1} s, {:.0} MB/s", bytes / 1e6 / time.max(1e-3))?;
    Ok(Outcome::Clean)
}
