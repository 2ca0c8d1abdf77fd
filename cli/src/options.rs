//! What to pack and how: the options of `compress` and `plan`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use checkpoint::{Plan, Recipe, Rule};
use codec_api::Registry;
use regex::Regex;

use crate::packing::check_free;

/// The model and the codecs for its tensors.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A .safetensors file, an index, or a model directory
    pub model: PathBuf,
    /// A built-in recipe or a recipe file; --help describes both
    #[arg(long, value_name = "NAME|FILE", default_value = "lossless", conflicts_with = "codec")]
    pub recipe: String,
    /// Codec spec for the float tensors of two or more axes; all others are stored exactly
    #[arg(long, value_name = "SPEC")]
    pub codec: Option<String>,
    /// Choose the smallest codec for each of these tensors with at most this measured
    /// ‖w − ŵ‖/‖w‖; the same as --codec best:error=E
    #[arg(long, value_name = "E", conflicts_with_all = ["codec", "recipe"])]
    pub max_rel_error: Option<f64>,
    /// Choose the codec with the least error for each of these tensors that takes at most so many
    /// bits per weight; the same as --codec best:bits=B
    #[arg(long, value_name = "B", conflicts_with_all = ["codec", "recipe", "max_rel_error"])]
    pub target_bpw: Option<f64>,
    /// Codec spec for tensors with a name that matches; goes before the recipe, the first match
    /// counts
    #[arg(long = "rule", value_name = "REGEX=SPEC")]
    pub rules: Vec<String>,
    /// Encode only tensors with a name that matches, and store all others exactly
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<Regex>,
    /// Store tensors with a name that matches exactly, whatever the recipe says
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<Regex>,
    /// Store tensors relative to this model, dense or packed, where they are similar; a second
    /// --base is the base of a packed base
    #[arg(long = "base", value_name = "PATH")]
    pub bases: Vec<PathBuf>,
    /// Seed of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Options {
    /// Plans to pack the model at this target, on rayon's current pool.
    ///
    /// # Errors
    /// For wrong options, an unreadable model, or a target that does not fit.
    pub fn plan(&self, target: &Path, registry: &Registry) -> Result<Plan> {
        Ok(Plan::relative(&self.model, target, &self.bases, &self.recipe()?, self.seed, registry)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        let error = self.max_rel_error.map(|error| format!("best:error={error}"));
        let bits = self.target_bpw.map(|bits| format!("best:bits={bits}"));
        let mut recipe = match self.codec.as_ref().or(error.as_ref()).or(bits.as_ref()) {
            Some(codec) => Recipe::for_matrices(codec),
            None => Recipe::load(&self.recipe)?,
        };
        let mut rules = Vec::new();
        for rule in &self.rules {
            match rule.split_once('=') {
                Some((pattern, codec)) if !pattern.is_empty() => rules.push(Rule::of_names(pattern, codec)),
                _ => bail!("`--rule {rule}` is not REGEX=SPEC, such as `--rule lm_head=lossless`"),
            }
        }
        recipe.rules.splice(0..0, rules);
        let texts = |patterns: &[Regex]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>();
        recipe.include.extend(texts(&self.include));
        recipe.exclude.extend(texts(&self.exclude));
        Ok(recipe)
    }
}

/// Refuses a target that exists, unless `force`. What an interrupted run has left is not in the
/// way.
///
/// # Errors
/// With the path and the remedy.
pub fn check_target(plan: &Plan, target: &Path, force: bool) -> Result<()> {
    let is_directory = plan.target().parent() == std::path::absolute(target).ok().as_deref();
    if is_directory && !plan.parts().exists() {
        check_free(target, force)?;
    }
    check_free(plan.target(), force)
}
