//! `netweight apply BASE PATCH -o OUT`: writes the model that a patch makes of its base.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use checkpoint::{Checkpoint, Companions, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::decompress::{summarise, unpack};
use crate::packing::{Work, size};

/// Apply a patch to its base
///
/// A patch is a model that was packed with `compress --base`. Every tensor of the base is compared
/// with the hash in the patch, and every new tensor with its own. The headers of the new files are
/// those of the model that was packed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model that the patch was made for
    pub base: PathBuf,
    /// A packed file (*.nw.safetensors), an index of several, or a directory with one
    pub patch: PathBuf,
    /// A directory, which also gets the other files of the patch's or else of the base's directory;
    /// for a model of one file also the name of that file (*.safetensors)
    #[arg(short, long, value_name = "OUT", required_unless_present = "in_place")]
    pub output: Option<PathBuf>,
    /// Replace the base, a model of one file; it stays as it is until the new file is whole
    #[arg(long, conflicts_with_all = ["output", "force"])]
    pub in_place: bool,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

/// Applies the patch.
///
/// # Errors
/// For a base that is not the one of the patch, a damaged patch, or a target that exists or cannot
/// be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let begin = Instant::now();
    let packed = Packed::open(&args.patch, registry)?.with_bases(&[&args.base], registry)?;
    let progress = args.work.progress("decode", size(packed.tensors()));
    let written: Result<PathBuf> = args.work.pool()?.install(|| match &args.output {
        None => Ok(packed.unpack_in_place(&progress)?),
        Some(target) => {
            unpack(&packed, target, args.force, || companions(args, &packed, target), &progress)?;
            Ok(target.clone())
        }
    });
    drop(progress);
    let written = written?;
    if !args.work.quiet {
        summarise(&packed, &written, begin, out)?;
    }
    Ok(Outcome::Clean)
}

/// The files beside the patch, or else beside the base.
fn companions(args: &Args, packed: &Packed, target: &Path) -> Result<Option<Companions>> {
    let (from, mut model) = match (&args.patch, &args.base) {
        (patch, _) if patch.is_dir() => (patch, Vec::new()),
        (_, base) if base.is_dir() => {
            let model = Checkpoint::open(base)?;
            (base, model.files().iter().cloned().chain(model.index().map(Path::to_owned)).collect())
        }
        _ => return Ok(None),
    };
    model.extend(packed.paths());
    Ok(Some(Companions::find(from, target, &model)?))
}
