//! Applies a recipe to tensors.

use std::sync::Arc;

use codec_api::{Codec, Registry, TensorSpec, header};
use regex::Regex;
use serde_json::value::RawValue;

use super::best::{Candidate, Candidates, Goal, codec};
use super::{Recipe, Rule};
use crate::error::Error;

/// The codec for tensors that another one refuses, and for excluded ones.
pub(crate) const FALLBACK: &str = "lossless";

/// A recipe whose patterns and codecs are made.
pub(crate) struct Chooser<'a> {
    /// Without repetition. The first is [`FALLBACK`].
    codecs: Vec<Arc<dyn Codec>>,
    headers: Vec<String>,
    exclude: Vec<Regex>,
    /// With the pattern of the name.
    rules: Vec<(&'a Rule, Option<Regex>, Choice)>,
    default: Choice,
    candidates: Candidates<'a>,
}

/// What a recipe chooses for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// The codec of this number.
    Codec(usize),
    /// The candidate that suits this goal best.
    Best(Goal),
}

impl<'a> Chooser<'a> {
    /// # Errors
    /// [`Error::Recipe`] for a pattern or a codec that cannot be made, and for a codec that needs
    /// more than the tensor.
    pub(crate) fn new(recipe: &'a Recipe, registry: &'a Registry) -> Result<Self, Error> {
        let mut chooser = Self {
            codecs: Vec::new(),
            headers: Vec::new(),
            exclude: Vec::new(),
            rules: Vec::new(),
            default: Choice::Codec(0),
            candidates: Candidates::new(&recipe.candidates, registry)?,
        };
        chooser.choice(FALLBACK, registry)?;
        chooser.exclude = recipe.exclude.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?;
        for rule in &recipe.rules {
            let codec = chooser.choice(&rule.codec, registry)?;
            chooser.rules.push((rule, rule.name.as_deref().map(pattern).transpose()?, codec));
        }
        chooser.default = chooser.choice(&recipe.default, registry)?;
        Ok(chooser)
    }

    /// The choice of this spec.
    fn choice(&mut self, spec: &str, registry: &Registry) -> Result<Choice, Error> {
        if let Some(goal) = Goal::parse(spec)? {
            return Ok(Choice::Best(goal));
        }
        let codec = codec(spec, registry).map_err(|reason| Error::recipe(spec, reason))?;
        self.number(codec).map(Choice::Codec)
    }

    /// The number of a codec, which is added if there is no equal one.
    pub(crate) fn number(&mut self, codec: Arc<dyn Codec>) -> Result<usize, Error> {
        let header = header(&*codec).map_err(|e| Error::recipe(codec.typetag_name(), e.to_string()))?;
        if let Some(known) = self.headers.iter().position(|other| *other == header) {
            return Ok(known);
        }
        self.headers.push(header);
        self.codecs.push(codec);
        Ok(self.codecs.len() - 1)
    }

    /// The choice for this tensor, and why it is not the one of the recipe.
    pub(crate) fn choose(&self, name: &str, spec: &TensorSpec) -> (Choice, Option<String>) {
        if self.exclude.iter().any(|pattern| pattern.is_match(name)) {
            return (Choice::Codec(0), None);
        }
        let matching = self.rules.iter().find(|(rule, pattern, _)| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)) && rule.fits(spec)
        });
        match matching.map_or(self.default, |(_, _, choice)| *choice) {
            Choice::Codec(number) => match self.codecs[number].accepts(spec) {
                Ok(()) => (Choice::Codec(number), None),
                Err(error) => (Choice::Codec(0), Some(error.to_string())),
            },
            best @ Choice::Best(_) => (best, None),
        }
    }

    /// The candidates for a tensor.
    pub(crate) fn candidates(&self, goal: Goal, spec: &TensorSpec) -> Vec<Candidate> {
        self.candidates.of(goal, spec)
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
