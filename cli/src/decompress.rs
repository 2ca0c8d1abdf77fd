//! `netweight decompress PACKED -o OUT`: writes a dense model.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use checkpoint::{Companions, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{DENSE, Progress, check_free, pool};
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
    let packed = Packed::open(&args.model, registry)?;
    let packed = if let Some(level) = args.level { packed.at_level(level)? } else { packed };
    check_free(&args.output, args.force)?;
    let weights: u64 = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
    let progress = Progress::new(weights);
    let single = args.output.to_str().is_some_and(|name| name.ends_with(DENSE));
    let pool = pool(args.jobs)?;
    if single {
        pool.install(|| packed.unpack_single(&args.output, &progress))?;
    } else {
        let find = || Companions::find(&args.model, &args.output, &[packed.path().to_owned()]);
        let companions = args.model.is_dir().then(find).transpose()?;
        pool.install(|| packed.unpack(&args.output, &progress))?;
        companions.map_or(Ok(()), |companions| companions.copy())?;
    }
    drop(progress);
    let exact = packed.tensors().filter(|tensor| tensor.certificate().exact).count();
    let shown = text::printable(&args.output.display().to_string());
    let tensors = text::count(packed.len(), "tensor");
    let lossy = packed.len() - exact;
    let loss = if lossy == 0 { "all bit for bit".to_owned() } else { format!("{lossy} with a loss") };
    writeln!(out, "`{shown}`: {tensors}, {loss}, {weights} weights")?;
    writeln!(out, "it took {:.1} s", begin.elapsed().as_secs_f64())?;
    Ok(Outcome::Clean)
}
