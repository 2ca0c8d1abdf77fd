//! Applies a recipe to tensors.

use std::sync::Arc;

use codec_api::{Codec, Need, Registry, TensorSpec, header};
use regex::Regex;
use serde_json::value::RawValue;

use super::{Recipe, Rule};
use crate::error::Error;

/// The codec for tensors that another one refuses, and for excluded ones.
pub(super) const FALLBACK: &str = "lossless";

/// A recipe whose patterns and codecs are made.
pub(crate) struct Chooser<'a> {
    /// Without repetition. The first is [`FALLBACK`].
    codecs: Vec<Arc<dyn Codec>>,
    headers: Vec<String>,
    exclude: Vec<Regex>,
    include: Vec<Regex>,
    /// With the pattern of the name and the number of the codec.
    rules: Vec<(&'a Rule, Option<Regex>, usize)>,
    default: usize,
}

impl<'a> Chooser<'a> {
    /// # Errors
    /// [`Error::Recipe`] for a pattern or a codec that cannot be made, and for a codec that needs
    /// more than the tensor.
    pub(crate) fn new(recipe: &'a Recipe, registry: &Registry) -> Result<Self, Error> {
        let patterns = |texts: &[String]| texts.iter().map(|text| pattern(text)).collect::<Result<Vec<_>, _>>();
        let (exclude, include) = (patterns(&recipe.exclude)?, patterns(&recipe.include)?);
        let mut chooser =
            Self { codecs: Vec::new(), headers: Vec::new(), exclude, include, rules: Vec::new(), default: 0 };
        chooser.codec(FALLBACK, registry)?;
        for rule in &recipe.rules {
            let codec = chooser.codec(&rule.codec, registry)?;
            chooser.rules.push((rule, rule.name.as_deref().map(pattern).transpose()?, codec));
        }
        chooser.default = chooser.codec(&recipe.default, registry)?;
        Ok(chooser)
    }

    /// The number of the codec of this spec.
    fn codec(&mut self, spec: &str, registry: &Registry) -> Result<usize, Error> {
        let wrong = |reason: String| Error::recipe(spec, reason);
        let codec = registry.parse_spec(spec).map_err(|e| wrong(e.to_string()))?;
        if codec.needs().base == Need::Requires || codec.needs().calibration == Need::Requires {
            return Err(wrong("the codec needs a base or calibration, which a recipe does not give".to_owned()));
        }
        let header = header(&*codec).map_err(|e| wrong(e.to_string()))?;
        if let Some(known) = self.headers.iter().position(|other| *other == header) {
            return Ok(known);
        }
        self.headers.push(header);
        self.codecs.push(codec);
        Ok(self.codecs.len() - 1)
    }

    /// The number of the codec for this tensor, and why it is not the one of the recipe.
    pub(crate) fn choose(&self, name: &str, spec: &TensorSpec) -> (usize, Option<String>) {
        let any = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(name));
        if any(&self.exclude) || !self.include.is_empty() && !any(&self.include) {
            return (0, None);
        }
        let matching = self.rules.iter().find(|(rule, pattern, _)| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)) && rule.fits(spec)
        });
        let chosen = matching.map_or(self.default, |(_, _, codec)| *codec);
        match self.codecs[chosen].accepts(spec) {
            Ok(()) => (chosen, None),
            Err(error) => (0, Some(error.to_string())),
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
