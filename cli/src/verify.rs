//! `netweight verify PACKED`: decodes a packed model and compares every checksum and hash, and all
//! of it with its source.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use checkpoint::{Checkpoint, Model, Packed};
use codec_api::Registry;

use crate::Outcome;
use crate::packing::{Bases, Work, size};
use crate::text;

/// Verify a packed model, or what a model of expressions is computed of
///
/// Decodes every tensor and compares each section with its checksum and each decoded tensor with
/// its hash. Nothing is written. The exit code is 1 if something is damaged or, with --against, not
/// as in the source. It is also 1 if the file was cut off; then the quality levels that it still
/// holds are checked. Of a model of expressions, every tensor that it is computed of is compared
/// with its hash.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed file (*.nw.safetensors), an index of several, or a directory with one; or a model
    /// of expressions (`merge --lazy`)
    pub model: PathBuf,
    #[command(flatten)]
    pub base: Bases,
    /// Compare with the model that was packed: names, shapes, dtypes, tied tensors, headers, index
    /// and values within their certificates; of two directories also the other files
    #[arg(long, value_name = "SOURCE")]
    pub against: Option<PathBuf>,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
}

/// Prints what is damaged.
///
/// # Errors
/// If the file cannot be opened, or the output cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if Checkpoint::open(&args.model).is_ok_and(|model| model.is_computed()) {
        return computed(args, registry, out);
    }
    let packed = Packed::open(&args.model, registry)?.with_bases(&args.base.bases, registry)?;
    packed.require_base()?;
    let stored = packed.stored_tensors();
    let progress = args.work.progress("verify", size(stored));
    let faults = args.work.pool()?.install(|| match &args.against {
        None => Ok(packed.verify(&progress)),
        Some(source) => {
            let mut faults = packed.verify_against(source, registry, &progress)?;
            if args.model.is_dir() && source.is_dir() {
                faults.extend(packed.verify_companions(source)?);
            }
            Ok::<_, checkpoint::Error>(faults)
        }
    })?;
    drop(progress);
    for fault in &faults {
        writeln!(out, "{}", text::printable(&fault.to_string()))?;
    }
    let outcome = if faults.is_empty() { Outcome::Clean } else { Outcome::Found };
    if args.work.quiet {
        return Ok(outcome);
    }
    let (file, tensors) = (text::path(packed.path()), text::count(packed.len(), "tensor"));
    match &args.against {
        _ if !faults.is_empty() => writeln!(out, "`{file}`: {tensors}, {}", text::count(faults.len(), "fault"))?,
        None => writeln!(out, "`{file}`: {tensors}, every checksum and hash is right")?,
        Some(source) => {
            let source = text::path(source);
            writeln!(out, "`{file}`: {tensors}, every checksum and hash is right, and all is as in `{source}`")?;
        }
    }
    Ok(outcome)
}

/// Compares everything that a model of expressions names.
fn computed(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if let Some(other) = &args.against {
        let (model, other) = (text::path(&args.model), text::path(other));
        bail!("`{model}` is a model of expressions; `netweight diff {model} {other}` compares the values");
    }
    let Model::Computed(model) = Model::open(&args.model, &args.base.bases, registry)? else {
        bail!("`{}` is no model of expressions", args.model.display());
    };
    let progress = args.work.progress("verify", model.inner().size());
    let faults = args.work.pool()?.install(|| model.inner().verify(&progress));
    drop(progress);
    for fault in &faults {
        writeln!(out, "{}", text::printable(&fault.to_string()))?;
    }
    if !args.work.quiet {
        let (file, tensors) = (text::path(model.path()), text::count(model.inner().tensors().len(), "tensor"));
        let found = match faults.len() {
            0 => "everything that they are computed of is as it was".to_owned(),
            count => text::count(count, "fault"),
        };
        writeln!(out, "`{file}`: {tensors}, {found}")?;
    }
    Ok(if faults.is_empty() { Outcome::Clean } else { Outcome::Found })
}
