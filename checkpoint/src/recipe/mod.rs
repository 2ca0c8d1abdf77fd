//! Recipes: which codec encodes which tensor.

mod best;
mod builtin;
mod choose;

use std::path::Path;

use codec_api::Dtype;
use serde::{Deserialize, Serialize};

use crate::error::Error;
pub(crate) use best::{Candidate, Goal};
pub(crate) use choose::{Choice, Chooser, FALLBACK, exact_codec};

/// Which codec encodes which tensor. As a file it is TOML, or JSON with the same keys:
///
/// ```
/// # let text = r#"
/// default = "lossless"        # codec spec for all other tensors; this is its default
/// exclude = ["lm_head"]       # tensors stored exactly, whatever the rules say
/// include = ["layers"]        # if there are any, tensors without a match are stored exactly
/// candidates = ["lossless", "trellis:error={nmse}"]   # what `best` tries
///
/// [[rule]]                    # the first rule that matches a tensor counts
/// name = 'mlp\.(up|down)'     # regular expression, found anywhere in the name
/// min_rank = 2                # number of axes: min_rank, max_rank
/// min_weights = 4096          # number of weights: min_weights, max_weights
/// dtype = ["F32", "BF16"]     # one of these dtypes
/// codec = "quant.int:bits=4:group=64"
///
/// [[rule]]
/// name = 'attn'
/// codec = "best:error=0.01"   # the smallest candidate with at most this ‖w − ŵ‖/‖w‖
/// # "#;
/// # let recipe = checkpoint::Recipe::from_toml("example", text)?;
/// # assert_eq!(recipe.rules[0].min_weights, Some(4096));
/// # Ok::<(), checkpoint::Error>(())
/// ```
///
/// A condition that is left out holds for every tensor. A tensor that its codec refuses is stored
/// with `lossless`. If the model is packed relative to a base, tensors with a base are stored with
/// `delta.exact`, unless their codec uses a base itself, such as `delta.sign`.
///
/// `best` is chosen by trial for each tensor: `best:error=E` is the smallest candidate whose
/// measured `‖w − ŵ‖/‖w‖`, in the stored dtype, is at most `E`, or `lossless` if none
/// is. `best:bits=B` is the candidate with the least error that takes at most `B` bits per weight,
/// or the smallest if none does. In the specs of candidates, `{error}` stands for the error that
/// `E` allows before the rounding to the dtype, `{nmse}` for its square, `{bits}` for `B`, and
/// `{bytes}` for the bytes of `B`. Candidates with a number that the goal does not give are left
/// out. Without a list, integers, trellises, low rank and sparse forms are tried.
///
/// `method = "feedback"`, `"importance"` or `"scaling"` makes a recipe that needs calibration
/// ([`Method`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// Codec spec for tensors that no rule matches.
    #[serde(default = "Recipe::lossless")]
    pub default: String,
    /// Regular expressions for the names of tensors that are stored exactly, before any rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Regular expressions for names: if there are any, tensors without a match are stored exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Codec specs that `best` tries; none for the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// What is done with calibration, if the recipe needs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// blake3 of the statistics that tensors were encoded with. A recipe file does not have it:
    /// `compress --calibration` adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// The first rule that matches counts.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What is done with the statistics of a calibration. A recipe with a method packs a model with
/// `compress --calibration` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// Errors are fed forward through each matrix, and layers make up for those of earlier ones.
    Feedback,
    /// Codecs weight squared errors by the mean squares of the inputs.
    Importance,
    /// Channels of inputs are scaled so that rounding changes the outputs least; then as
    /// [`Self::Importance`].
    Scaling,
}

/// A rule of a [`Recipe`]: a codec for the tensors that fulfil all conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rule {
    /// Regular expression that occurs in the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Least number of axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rank: Option<usize>,
    /// Largest number of axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rank: Option<usize>,
    /// Least number of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_weights: Option<usize>,
    /// Largest number of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weights: Option<usize>,
    /// The dtypes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Vec<Dtype>>,
    /// Codec spec, or `best:error=E` or `best:bits=B`.
    pub codec: String,
}

impl Rule {
    /// A rule for the tensors with this regular expression in their names.
    pub fn of_names(pattern: &str, codec: &str) -> Self {
        Self { name: Some(pattern.to_owned()), codec: codec.to_owned(), ..Self::default() }
    }

    /// A rule for float tensors of at most one axis, such as norms and biases.
    pub fn for_vectors(codec: &str) -> Self {
        let floats = vec![Dtype::F32, Dtype::F16, Dtype::BF16];
        Self { max_rank: Some(1), dtype: Some(floats), codec: codec.to_owned(), ..Self::default() }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        let (default, [exclude, include, candidates]) = (Self::lossless(), [(); 3].map(|()| Vec::new()));
        Self { default, exclude, include, candidates, method: None, calibration: None, rules: Vec::new() }
    }
}

impl Recipe {
    /// The codec that stores every tensor, and stands in for codecs that refuse one.
    fn lossless() -> String {
        choose::FALLBACK.to_owned()
    }

    /// This codec for the float tensors of at least two axes: linear layers, embeddings,
    /// convolutions. All others, such as norms and biases, are stored exactly.
    pub fn for_matrices(codec: &str) -> Self {
        let floats = vec![Dtype::F32, Dtype::F16, Dtype::BF16];
        let rule = Rule { min_rank: Some(2), dtype: Some(floats), codec: codec.to_owned(), ..Rule::default() };
        Self { rules: vec![rule], ..Self::default() }
    }

    /// The built-in recipe of this name, else the recipe in this file: JSON if its name ends with
    /// `.json`, else TOML.
    ///
    /// # Errors
    /// [`Error::Recipe`] if there is neither, or the file is no recipe.
    pub fn load(name_or_file: &str) -> Result<Self, Error> {
        if let Some(recipe) = Self::built_in(name_or_file) {
            return Ok(recipe);
        }
        let text = std::fs::read_to_string(name_or_file).map_err(|error| {
            let known = Self::names().collect::<Vec<_>>().join(", ");
            Error::recipe(name_or_file, format!("it is no built-in recipe ({known}) and no readable file: {error}"))
        })?;
        let json = Path::new(name_or_file).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        if json { Self::from_json(name_or_file, &text) } else { Self::from_toml(name_or_file, &text) }
    }

    /// Reads TOML; `name` is for the error message.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the line of the fault.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Error> {
        toml_edit::de::from_str(text).map_err(|e| Error::recipe(name, e.to_string()))
    }

    /// Reads JSON; `name` is for the error message.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_json(name: &str, text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|e| Error::recipe(name, e.to_string()))
    }
}
