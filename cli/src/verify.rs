//! `netweight verify PACKED`: decodes a packed model and compares every checksum and hash.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use checkpoint::Packed;
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{Bases, Progress, pool};
use crate::text;

/// Verify a packed model
///
/// Decodes every tensor and compares each section with its checksum and each decoded tensor with
/// its hash. Nothing is written. The exit code is 1 if something is damaged, or if the file was cut
/// off; then the quality levels that it still holds are checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), or a directory with one
    pub model: PathBuf,
    #[command(flatten)]
    pub base: Bases,
    /// Number of threads; by default one for each core
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
}

/// Prints what is damaged.
///
/// # Errors
/// If the file cannot be opened, or the output cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let packed = Packed::open(&args.model, registry)?.with_bases(&args.base.bases, registry)?;
    packed.require_base()?;
    let stored = packed.tensors().filter(|tensor| tensor.same_as().is_none());
    let progress = Progress::new(stored.map(|tensor| tensor.spec().elements() as u64).sum());
    let faults = pool(args.jobs)?.install(|| packed.verify(&progress));
    drop(progress);
    for fault in &faults {
        writeln!(out, "{}", text::printable(&fault.to_string()))?;
    }
    let (file, tensors) = (text::printable(&packed.path().display().to_string()), text::count(packed.len(), "tensor"));
    if faults.is_empty() {
        writeln!(out, "`{file}`: {tensors}, every checksum and hash is right")?;
        return Ok(Outcome::Clean);
    }
    writeln!(out, "`{file}`: {tensors}, {}", text::count(faults.len(), "fault"))?;
    Ok(Outcome::Found)
}
