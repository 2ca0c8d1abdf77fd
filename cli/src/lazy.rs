//! Merges whose tensors are computed when they are read: written as expressions, and packed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use checkpoint::Recipe;
use codec_api::Registry;
use merge::Plan;

use crate::merge::{Options, notes};
use crate::options::check_target;
use crate::packing::check_free;
use crate::{Outcome, compress, summary, text};

/// Writes the expressions of a merge.
///
/// # Errors
/// For unreadable models, and a target that exists or cannot be written.
pub fn write_graph(
    plan: &Plan,
    target: &Path,
    options: &Options,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<Outcome> {
    check_free(target, options.force)?;
    let begin = Instant::now();
    let bytes = options.work.pool()?.install(|| merge::write_graph(plan, target, registry))?;
    if options.work.quiet {
        return Ok(Outcome::Clean);
    }
    notes(plan, out)?;
    let (shown, tensors) = (text::path(target), text::count(plan.tensors().len(), "tensor"));
    let (weights, dense) = plan.size();
    writeln!(
        out,
        "`{shown}`: {tensors}, {weights} weights, {} as expressions in {}",
        text::size(dense),
        text::size(bytes)
    )?;
    writeln!(
        out,
        "it took {:.1} s; it is computed of the models when it is read, so keep them",
        begin.elapsed().as_secs_f64()
    )?;
    Ok(Outcome::Clean)
}

/// Packs a merge: its expressions are written beside the target, packed as a model, and removed. An
/// interrupted run goes on with them.
///
/// # Errors
/// As [`write_graph`], and those of packing.
pub fn write_packed(
    plan: &Plan,
    target: &Path,
    options: &Options,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let (begin, pool) = (Instant::now(), options.work.pool()?);
    let recipe = match (&options.codec, &options.pack) {
        (Some(codec), _) => Recipe::for_matrices(codec),
        (None, recipe) => Recipe::load(recipe.as_deref().unwrap_or("lossless"))?,
    };
    let place = beside(target);
    if !merge::has_graph(plan, &place) {
        check_free(&place, options.force)?;
        pool.install(|| merge::write_graph(plan, &place, registry))?;
    }
    let packing = pool.install(|| checkpoint::Plan::new(&place, target, &recipe, 0, registry))?;
    let packing = match options.max_shard_size {
        Some(bytes) => packing.with_max_shard_size(bytes)?,
        None => packing,
    };
    check_target(&packing, target, options.force)?;
    compress::pack(&options.work, true, &packing, None, &pool, registry)?;
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove `{}`", place.display()))?;
    if !options.work.quiet {
        notes(plan, out)?;
        summary::print_made(&packing, target, &[], true, begin.elapsed(), registry, out)?;
    }
    Ok(Outcome::Clean)
}

/// The directory of the expressions while they are packed.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.components().as_path().as_os_str().to_owned();
    name.push(".lazy");
    name.into()
}
