//! Applies a recipe to tensors.

use std::sync::Arc;

use codec_api::{Codec, Need, Registry, TensorSpec, header};
use regex::Regex;
use serde_json::value::RawValue;

use super::best::{Candidate, Candidates, Goal, codec};
use super::{Recipe, Rule};
use crate::error::Error;

/// The codec for tensors that another one refuses, and for excluded ones.
pub(crate) const FALLBACK: &str = "lossless";

/// The same for tensors that have a base.
const RELATIVE: &str = "delta.exact";

/// A recipe whose patterns and codecs are made.
pub(crate) struct Chooser<'a> {
    /// Without repetition. The first is [`FALLBACK`], and for a model with a base the second is
    /// [`RELATIVE`].
    codecs: Vec<Arc<dyn Codec>>,
    headers: Vec<String>,
    exclude: Vec<Regex>,
    include: Vec<Regex>,
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

/// The number of the exact codec that stands in for others: [`RELATIVE`] for tensors with a base,
/// else [`FALLBACK`].
pub(crate) fn exact_codec(based: bool) -> usize {
    usize::from(based)
}

impl<'a> Chooser<'a> {
    /// # Errors
    /// [`Error::Recipe`] for a pattern or a codec that cannot be made, and for a codec that needs
    /// calibration, or without `based` a base.
    pub(crate) fn new(recipe: &'a Recipe, based: bool, registry: &'a Registry) -> Result<Self, Error> {
        let patterns = |texts: &[String]| texts.iter().map(|text| pattern(text)).collect::<Result<Vec<_>, _>>();
        let mut chooser = Self {
            codecs: Vec::new(),
            headers: Vec::new(),
            exclude: patterns(&recipe.exclude)?,
            include: patterns(&recipe.include)?,
            rules: Vec::new(),
            default: Choice::Codec(0),
            candidates: Candidates::new(&recipe.candidates, registry)?,
        };
        chooser.choice(FALLBACK, based, registry)?;
        if based {
            chooser.choice(RELATIVE, based, registry)?;
        }
        for rule in &recipe.rules {
            let codec = chooser.choice(&rule.codec, based, registry)?;
            chooser.rules.push((rule, rule.name.as_deref().map(pattern).transpose()?, codec));
        }
        chooser.default = chooser.choice(&recipe.default, based, registry)?;
        Ok(chooser)
    }

    /// The choice of this spec, if a recipe can give what it needs.
    fn choice(&mut self, spec: &str, based: bool, registry: &Registry) -> Result<Choice, Error> {
        if let Some(goal) = Goal::parse(spec)? {
            return Ok(Choice::Best(goal));
        }
        let codec = codec(spec, based, registry).map_err(|reason| Error::recipe(spec, reason))?;
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

    /// The choice for this tensor, which may have a base, and why it is not the one of the recipe.
    /// Tensors with a base are stored as the exact difference, unless the recipe's codec uses a
    /// base too.
    pub(crate) fn choose(&self, name: &str, spec: &TensorSpec, based: bool) -> (Choice, Option<String>) {
        let exact = Choice::Codec(exact_codec(based));
        let any = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(name));
        if any(&self.exclude) || !self.include.is_empty() && !any(&self.include) {
            return (exact, None);
        }
        let matching = self.rules.iter().find(|(rule, pattern, _)| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)) && rule.fits(spec)
        });
        let chosen = matching.map_or(self.default, |(_, _, choice)| *choice);
        let Choice::Codec(number) = chosen else { return (if based { exact } else { chosen }, None) };
        let codec = &self.codecs[number];
        match codec.needs().base {
            Need::No if based => return (exact, None),
            Need::Requires if !based => return (exact, Some("it has no base".to_owned())),
            _ => {}
        }
        match codec.accepts(spec) {
            Ok(()) => (chosen, None),
            Err(error) => (exact, Some(error.to_string())),
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
