//! The forms of a model that are measured, as files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::{Checkpoint, PACKED_EXTENSION, Plan, Recipe};
use codec_api::{Dtype, NoProgress, Registry};
use indicatif::ProgressBar;
use tempfile::TempDir;

use super::Args;
use crate::running::copy_beside;

/// What stands for the recipe of a model that is packed already.
pub(super) const PACKED: &str = "packed";
/// What stands for the recipe of a model of expressions.
const COMPUTED: &str = "computed";

/// A new temporary directory.
///
/// # Errors
/// If it cannot be made.
pub(super) fn folder() -> Result<TempDir> {
    let failed = || format!("cannot make a directory in `{}`", std::env::temp_dir().display());
    tempfile::tempdir().with_context(failed)
}

/// Writes the model in each form that it does not have yet; returns recipes and paths.
///
/// # Errors
/// For a recipe that is not known, a model that cannot be read, and a full disk.
pub(super) fn prepare(
    args: &Args,
    model: &Path,
    folder: &Path,
    registry: &Registry,
    bar: &ProgressBar,
) -> Result<Vec<(String, PathBuf)>> {
    let dense = Checkpoint::open(model)?;
    if dense.is_packed() {
        return Ok(vec![(PACKED.to_owned(), model.to_owned())]);
    }
    if dense.is_computed() {
        return Ok(vec![(COMPUTED.to_owned(), model.to_owned())]);
    }
    let mut paths = Vec::new();
    for recipe in &args.recipes {
        let target = folder.join(paths.len().to_string());
        let path = match dtype(recipe) {
            Some(dtype) if is_of(&dense, dtype)? => model.to_owned(),
            Some(dtype) => {
                runtime::write_as(&dense, dtype, &target)?;
                target
            }
            None => pack(model, &target, recipe, args.seed, registry)?,
        };
        dense.release();
        paths.push((recipe.clone(), path));
        bar.inc(1);
    }
    Ok(paths)
}

fn dtype(recipe: &str) -> Option<Dtype> {
    [("f32", Dtype::F32), ("bf16", Dtype::BF16), ("f16", Dtype::F16)]
        .into_iter()
        .find_map(|(name, dtype)| (name == recipe).then_some(dtype))
}

fn is_of(model: &Checkpoint, dtype: Dtype) -> Result<bool> {
    for name in model.names() {
        if model.spec(name)?.dtype() != dtype {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Packs a model with a recipe of `compress`.
fn pack(model: &Path, folder: &Path, recipe: &str, seed: u64, registry: &Registry) -> Result<PathBuf> {
    let known = Recipe::load(recipe).context("a recipe is f32, bf16, f16, or one of `compress`")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let target = folder.join(format!("model{PACKED_EXTENSION}"));
    let plan = Plan::new(model, &target, &known, seed, registry)?;
    plan.run(registry, &NoProgress)?;
    plan.commit(registry, None)?;
    copy_beside(&checkpoint::Model::open(model, &[], registry)?, folder)?;
    Ok(target)
}
