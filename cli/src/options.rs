//! What to pack and how: the options of `compress` and `plan`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use checkpoint::{Plan, Recipe, Rule};
use codec_api::Registry;
use regex::Regex;

use crate::packing::refuse;

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
    /// Write several files of at most this size and their index, if the packed model is larger:
    /// 5GB, 500MB, 100kB, or a number of bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_shard_size: Option<u64>,
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
        let plan = Plan::relative(&self.model, target, &self.bases, &self.recipe()?, self.seed, registry)?;
        Ok(match self.max_shard_size {
            Some(bytes) => plan.with_max_shard_size(bytes)?,
            None => plan,
        })
    }

    /// The rules of `--rule`.
    pub(crate) fn rules_of_names(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for rule in &self.rules {
            match rule.split_once('=') {
                Some((pattern, codec)) if !pattern.is_empty() => rules.push(Rule::of_names(pattern, codec)),
                _ => bail!("`--rule {rule}` is not REGEX=SPEC, such as `--rule lm_head=lossless`"),
            }
        }
        Ok(rules)
    }

    /// The recipe, with the rules of options before its own.
    ///
    /// # Errors
    /// For wrong options, and recipes that cannot be read.
    pub fn recipe(&self) -> Result<Recipe> {
        let error = self.max_rel_error.map(|error| format!("best:error={error}"));
        let bits = self.target_bpw.map(|bits| format!("best:bits={bits}"));
        let mut recipe = match self.codec.as_ref().or(error.as_ref()).or(bits.as_ref()) {
            Some(codec) => Recipe::for_matrices(codec),
            None => Recipe::load(&self.recipe)?,
        };
        let rules = self.rules_of_names()?;
        recipe.rules.splice(0..0, rules);
        let texts = |patterns: &[Regex]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>();
        recipe.include.extend(texts(&self.include));
        recipe.exclude.extend(texts(&self.exclude));
        Ok(recipe)
    }
}

/// Refuses a packed model that exists at the target, unless `force`. What an interrupted run has
/// left is not in the way.
///
/// # Errors
/// With the path and the remedy.
pub fn check_target(plan: &Plan, target: &Path, force: bool) -> Result<()> {
    refuse(if force { None } else { plan.obstacle(target)? })
}

/// A number of bytes, as transformers writes `max_shard_size`: a unit is a power of 1000.
///
/// # Errors
/// What a size is.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("TB", 12), ("GB", 9), ("MB", 6), ("KB", 3), ("B", 0), ("", 0)];
    let upper = text.to_ascii_uppercase();
    let parse = |(unit, power): (&str, u32)| {
        let number: u64 = upper.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(10u64.pow(power))
    };
    let size = units.into_iter().find_map(parse);
    size.ok_or_else(|| "a size is a whole number with TB, GB, MB, kB or B behind, such as 5GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        let sizes = [("5GB", 5_000_000_000), ("500 mb", 500_000_000), ("100kB", 100_000), ("7B", 7), ("12345", 12_345)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "1.5GB", "-1", "5GiB", "5 apples", "99999999999TB", "+ 5"] {
            assert!(parse_size(text).unwrap_err().contains("such as 5GB"), "{text}");
        }
    }
}
