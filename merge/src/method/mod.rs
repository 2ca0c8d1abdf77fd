//! The methods. A merge of one tensor has two stages: [`Method::prepare`] makes passes over the
//! whole inputs, block by block, for what the method needs to know of them (norms, dot products,
//! thresholds); [`Prepared::apply`] then computes any range of elements.
//!
//! Everything is computed in f32 and sums over a tensor in f64, in one order, so that the bits
//! depend neither on blocks nor on threads. The caller rounds once, to the output's dtype.

mod combine;
mod sphere;
mod task;
mod variance;

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blocks::{Inputs, Scratch, tiles};
use crate::error::{Error, Result};
use crate::rng::Draws;

use combine::Combination;
use task::Merged;
use variance::Selected;

/// Most steps towards a Karcher mean.
const MAX_STEPS: usize = 1_000_000;

/// A method with its parameters for one tensor. Parameters of models are in the order of
/// [`Inputs::models`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Method {
    /// `Σ wᵢ·Wᵢ`, divided by `Σ wᵢ` with `normalize`.
    Linear {
        /// `wᵢ`.
        weights: Vec<f64>,
        /// Whether to divide.
        normalize: bool,
    },
    /// Spherical interpolation between two models, seen as vectors; 0 is the first one.
    Slerp {
        /// The position, usually from 0 to 1.
        t: f64,
    },
    /// Spherical interpolation at the weights' ratio, of the models or of their differences from a
    /// base.
    NuSlerp {
        /// The weights of the two models.
        weights: [f64; 2],
        /// What a vector is.
        vectors: Vectors,
    },
    /// Differences from the base: sparsified, weighted, added to the base.
    Task(Task),
    /// Between the mean of the models and the base, at a ratio that their angles decide.
    ModelStock {
        /// Every row has a ratio of its own.
        filter_wise: bool,
    },
    /// The only model, multiplied by `scale`.
    Passthrough {
        /// The factor.
        scale: Option<f64>,
    },
    /// SCE: differences where the models vary most, weighted by their energy, with elected signs.
    Sce {
        /// The share of the elements that are kept.
        select_topk: f64,
    },
    /// The Karcher mean of the directions, at the mean length.
    Karcher {
        /// Most steps.
        max_iter: usize,
        /// A shorter step is the last one.
        tol: f64,
    },
    /// The weighted mean of the directions, on the sphere, at the mean length.
    MultiSlerp {
        /// The weights.
        weights: Vec<f64>,
        /// Whether to divide them by their sum.
        normalize: bool,
    },
    /// The base, drawn towards the model where the two are within about `t`.
    NearSwap {
        /// The distance.
        t: f64,
    },
}

/// The vectors that a method interpolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vectors {
    /// The whole tensor.
    Whole,
    /// Each row: the last axis.
    Rows,
    /// Each column: the first axis.
    Columns,
}

/// What the task arithmetic family has in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// One for each model.
    pub models: Vec<TaskModel>,
    /// How differences are sparsified.
    pub sparsify: Sparsify,
    /// Whether only differences with the elected sign count.
    pub consensus: bool,
    /// Whether to divide by the weights that count.
    pub normalize: bool,
    /// Whether sparse differences are scaled to the L1 norm that they had.
    pub rescale: bool,
    /// The factor of the sum.
    pub lambda: f64,
}

/// A model of a [`Task`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskModel {
    /// The weight.
    pub weight: f64,
    /// The share of differences that are kept.
    pub density: f64,
    /// The share of the largest differences that are removed, for [`Sparsify::Outliers`].
    pub gamma: f64,
    /// The half width of the probabilities, for [`Sparsify::Ranked`].
    pub epsilon: f64,
    /// Random draws, for [`Sparsify::Random`] and [`Sparsify::Ranked`].
    pub draws: Draws,
    /// Which differences to keep, in place of random draws. No file of a graph has it.
    #[serde(skip)]
    pub mask: Option<Arc<[bool]>>,
}

/// How differences are sparsified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sparsify {
    /// Not at all.
    Dense,
    /// The largest magnitudes stay (TIES).
    Magnitude,
    /// Each stays with the probability of the density (DARE).
    Random,
    /// The largest and the smallest magnitudes go (breadcrumbs).
    Outliers,
    /// Each stays with a probability that grows with the rank of its magnitude in the row (DELLA).
    Ranked,
}

/// A method that knows what it needs of the whole tensors.
#[derive(Debug)]
pub struct Prepared(Kind);

#[derive(Debug)]
enum Kind {
    Combination(Combination),
    Task(Merged),
    Selected(Selected),
    NearSwap(f32),
}

impl Method {
    /// Reads the inputs as often as the method needs.
    ///
    /// # Errors
    /// [`Error::Method`] for inputs and parameters that do not fit the method; those of the inputs;
    /// cancellation.
    pub fn prepare(&self, inputs: &Inputs<'_>) -> Result<Prepared> {
        self.check(inputs)?;
        Ok(Prepared(match self {
            Self::Task(task) => Kind::Task(Merged::new(task, inputs)?),
            Self::Sce { select_topk } => Kind::Selected(Selected::new(*select_topk, inputs)?),
            Self::NearSwap { t } => Kind::NearSwap(*t as f32),
            _ => Kind::Combination(Combination::new(self, inputs)?),
        }))
    }

    /// How many models the method takes, without the base.
    pub fn arity(&self) -> Range<usize> {
        match self {
            Self::Slerp { .. } | Self::NuSlerp { .. } => 2..3,
            Self::Passthrough { .. } | Self::NearSwap { .. } => 1..2,
            Self::ModelStock { .. } => 2..usize::MAX,
            Self::Linear { weights, .. } | Self::MultiSlerp { weights, .. } => weights.len()..weights.len() + 1,
            Self::Task(task) => task.models.len()..task.models.len() + 1,
            Self::Sce { .. } | Self::Karcher { .. } => 1..usize::MAX,
        }
    }

    /// Whether the method takes differences from a base.
    pub fn is_based(&self) -> bool {
        matches!(self, Self::Task(_) | Self::ModelStock { .. } | Self::Sce { .. } | Self::NearSwap { .. })
    }

    fn check(&self, inputs: &Inputs<'_>) -> Result<()> {
        self.check_models(inputs.models.len(), inputs.base.is_some()).map_err(Error::Method)?;
        match inputs.all().find(|source| source.spec().shape() != inputs.shape()) {
            Some(other) => {
                let shapes = (inputs.shape(), other.spec().shape());
                Err(Error::Method(format!("shapes differ: {:?} and {:?}", shapes.0, shapes.1)))
            }
            None => Ok(()),
        }
    }

    /// Checks the number of models, and that there is a base if the method wants one.
    ///
    /// # Errors
    /// What the method wants.
    pub(crate) fn check_models(&self, models: usize, base: bool) -> Result<(), String> {
        if !self.arity().contains(&models) || models == 0 {
            return Err(format!("{models} models, but the method takes {:?}", self.arity()));
        }
        if let Self::Karcher { max_iter, .. } = self
            && *max_iter > MAX_STEPS
        {
            return Err(format!("`max_iter` is {max_iter}; at most {MAX_STEPS} steps are made"));
        }
        if self.is_based() && !base {
            return Err("the method takes differences from a base model, and there is none".to_owned());
        }
        Ok(())
    }
}

impl Prepared {
    /// Computes the elements from `start` on, on this thread. The inputs are those of
    /// [`Method::prepare`].
    ///
    /// # Errors
    /// Those of the inputs.
    pub fn apply(&self, inputs: &Inputs<'_>, start: usize, out: &mut [f32]) -> Result<()> {
        self.apply_in(inputs, start, out, &mut Scratch::default())
    }

    /// As [`Self::apply`], with buffers of an earlier call.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) fn apply_in(
        &self,
        inputs: &Inputs<'_>,
        start: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let range = start..start + out.len();
        if let Kind::Task(task) = &self.0 {
            return task.apply(inputs, range, out, scratch);
        }
        for tile in tiles(range) {
            let out = &mut out[tile.start - start..tile.end - start];
            match &self.0 {
                Kind::Combination(combination) => combination.apply(inputs, tile.start, out, scratch)?,
                Kind::Selected(selected) => selected.apply(inputs, &tile, out, scratch)?,
                Kind::NearSwap(t) => near_swap(*t, inputs, tile.start, out, scratch)?,
                Kind::Task(_) => {}
            }
        }
        Ok(())
    }
}

/// `w·W + (1 − w)·W_b`, `w = clamp(t/max(|W_b − W|, 1e-6), 0, 1)`.
fn near_swap(t: f32, inputs: &Inputs<'_>, start: usize, out: &mut [f32], scratch: &mut Scratch) -> Result<()> {
    let buffers = scratch.take(1, out.len());
    inputs.models[0].read(start, &mut buffers[0])?;
    if let Some(base) = inputs.base {
        base.read(start, out)?;
    }
    for (out, x) in out.iter_mut().zip(&buffers[0]) {
        let weight = (t / (*out - x).abs().max(1e-6)).clamp(0.0, 1.0);
        *out = weight * x + (1.0 - weight) * *out;
    }
    Ok(())
}
