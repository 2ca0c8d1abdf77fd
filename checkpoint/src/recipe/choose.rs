//! Applies a recipe to tensors.

use std::sync::Arc;

use codec_api::{Codec, Need, Registry, TensorSpec, header};
use regex::Regex;
use serde_json::value::RawValue;

use super::{Recipe, Rule};
use crate::error::Error;

/// The codec for tensors that another one refuses, and for excluded ones.
pub(super) const FALLBACK: &str = "lossless";

/// The same for tensors that have a base.
const RELATIVE: &str = "delta.exact";

/// A recipe whose patterns and codecs are made.
pub(crate) struct Chooser<'a> {
    /// Without repetition. The first is [`FALLBACK`], and for a model with a base the second is
    /// [`RELATIVE`].
    codecs: Vec<Arc<dyn Codec>>,
    headers: Vec<String>,
    exclude: Vec<Regex>,
    /// With the pattern of the name and the number of the codec.
    rules: Vec<(&'a Rule, Option<Regex>, usize)>,
    default: usize,
}

/// The number of the exact codec that stands in for others: [`RELATIVE`] for tensors with a base,
/// else [`FALLBACK`].
pub(crate) fn exact_codec(based: bool) -> usize {
    usize::from(based)
}

impl<'a> Chooser<'a> {
    /// # Errors
    /// [`Error::Recipe`] for a pattern or a codec that cannot be made, and for a codec that needs
    /// calibration, or without `based` a base.
    pub(crate) fn new(recipe: &'a Recipe, based: bool, registry: &Registry) -> Result<Self, Error> {
        let mut chooser =
            Self { codecs: Vec::new(), headers: Vec::new(), exclude: Vec::new(), rules: Vec::new(), default: 0 };
        chooser.codec(FALLBACK, registry)?;
        if based {
            chooser.codec(RELATIVE, registry)?;
        }
        chooser.exclude = recipe.exclude.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?;
        for rule in &recipe.rules {
            let codec = chooser.checked(&rule.codec, based, registry)?;
            chooser.rules.push((rule, rule.name.as_deref().map(pattern).transpose()?, codec));
        }
        chooser.default = chooser.checked(&recipe.default, based, registry)?;
        Ok(chooser)
    }

    /// The number of the codec of this spec, if a recipe can give what it needs.
    fn checked(&mut self, spec: &str, based: bool, registry: &Registry) -> Result<usize, Error> {
        let number = self.codec(spec, registry)?;
        let needs = self.codecs[number].needs();
        if needs.calibration == Need::Requires {
            return Err(Error::recipe(spec, "the codec needs calibration, which a recipe does not give".to_owned()));
        }
        if needs.base == Need::Requires && !based {
            return Err(Error::recipe(spec, "the codec needs a base; give one with `--base`".to_owned()));
        }
        Ok(number)
    }

    /// The number of the codec of this spec.
    fn codec(&mut self, spec: &str, registry: &Registry) -> Result<usize, Error> {
        let wrong = |reason: String| Error::recipe(spec, reason);
        let codec = registry.parse_spec(spec).map_err(|e| wrong(e.to_string()))?;
        let header = header(&*codec).map_err(|e| wrong(e.to_string()))?;
        if let Some(known) = self.headers.iter().position(|other| *other == header) {
            return Ok(known);
        }
        self.headers.push(header);
        self.codecs.push(codec);
        Ok(self.codecs.len() - 1)
    }

    /// The number of the codec for this tensor, which may have a base, and why it is not the one of
    /// the recipe. Tensors with a base are stored as the exact difference, unless the recipe's
    /// codec uses a base too.
    pub(crate) fn choose(&self, name: &str, spec: &TensorSpec, based: bool) -> (usize, Option<String>) {
        let exact = exact_codec(based);
        if self.exclude.iter().any(|pattern| pattern.is_match(name)) {
            return (exact, None);
        }
        let matching = self.rules.iter().find(|(rule, pattern, _)| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)) && rule.fits(spec)
        });
        let chosen = matching.map_or(self.default, |(_, _, codec)| *codec);
        match self.codecs[chosen].needs().base {
            Need::No if based => return (exact, None),
            Need::Requires if !based => return (exact, Some("it has no base".to_owned())),
            _ => {}
        }
        match self.codecs[chosen].accepts(spec) {
            Ok(()) => (chosen, None),
            Err(error) => (exact, Some(error.to_string())),
        }
    }

    pub(crate) fn codecs(&self) -> &[Arc<dyn Codec>] {
        &self.codecs
    }

    /// The headers of [`Self::codecs`].
    pub(crate) fn headers(&self) -> Result<Vec<Box<RawValue>>, Error> {
        let raw = |header: &String| RawValue::from_string(header.clone());
        self.headers.iter().map(raw).collect::<Result<_, _>>().map_err(|e| Error::recipe("", e.to_string()))
    }
}

impl Rule {
    /// Whether the tensor fulfils the conditions other than the name.
    fn fits(&self, spec: &TensorSpec) -> bool {
        let within = |number: usize, least: Option<usize>, most: Option<usize>| {
            least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
        };
        within(spec.shape().len(), self.min_rank, self.max_rank)
            && within(spec.elements(), self.min_weights, self.max_weights)
            && self.dtype.as_ref().is_none_or(|dtypes| dtypes.contains(&spec.dtype()))
    }
}

fn pattern(text: &str) -> Result<Regex, Error> {
    Regex::new(text).map_err(|e| Error::recipe(text, e.to_string()))
}
