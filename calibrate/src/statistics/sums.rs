//! What is summed over the batches of a layer.

use std::collections::BTreeMap;

use runtime::{Observer, Place};

use super::gram::Gram;
use super::part::{Mean, Outputs, Part};
use super::tables::RARE;
use crate::error::{Error, Result};

/// Sums over all tokens so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By the first tensor of those with these inputs.
    inputs: BTreeMap<String, Gram>,
    /// The tensor whose inputs those of a tensor are.
    same: BTreeMap<String, String>,
    outputs: BTreeMap<String, Gram>,
    /// For each token of the vocabulary, the sum of `p·(1 − p)`.
    pub(super) variances: Vec<f64>,
}

impl Sums {
    /// The inputs of a tensor.
    ///
    /// # Errors
    /// [`Error::Usage`] if no inputs were shown.
    pub(super) fn inputs(&self, tensor: &str) -> Result<&Gram> {
        let found = self.inputs.get(self.same.get(tensor).map_or(tensor, String::as_str));
        found.ok_or_else(|| Error::Usage(format!("no inputs of `{tensor}`")))
    }

    /// The statistics of these linear layers: means over all tokens, of outputs over those that
    /// reached the layer. So an expert's share of the tokens is in the curvature of its inputs.
    /// Those in the pool have what it says.
    pub(super) fn part<'s>(&'s self, mut places: Vec<Place>, pool: &'s Pool, tokens: usize) -> Result<Part<'s>> {
        places.sort_by(|a, b| a.tensor.cmp(&b.tensor));
        let mut part = Part::default();
        for Place { tensor, axis, .. } in &places {
            let own = || -> Result<_> {
                let inputs = Mean(self.inputs(tensor)?, tokens.max(1) as f64);
                let outputs = self.outputs.get(tensor).map(|gram| Mean(gram, gram.vectors().max(1) as f64));
                Ok((inputs, outputs))
            };
            let (inputs, outputs) = pool.find(tensor).map_or_else(own, Ok)?;
            part.add(tensor, *axis, inputs, outputs.map(Outputs::Matrix))?;
        }
        Ok(part)
    }

    /// What experts of a layer use that fewer tokens reached than a matrix has inputs.
    pub(super) fn pool(&self, layer: usize, experts: &[Vec<Place>], tokens: usize) -> Result<Pool> {
        let mut pool = Pool::default();
        let Some(first) = experts.first() else { return Ok(pool) };
        let (mut reached, mut few) = (Vec::new(), Vec::new());
        for (number, places) in experts.iter().enumerate() {
            let grams = places.iter().map(|place| self.inputs(&place.tensor)).collect::<Result<Vec<_>>>()?;
            reached.push(grams[0].vectors());
            if grams.iter().any(|gram| gram.vectors() < gram.order()) {
                few.push(number);
            }
        }
        if few.is_empty() {
            return Ok(pool);
        }
        let names: Vec<String> = few.iter().map(|number| format!("{number} ({} tokens)", reached[*number])).collect();
        tracing::warn!(
            "layer {layer}: too few tokens reached these experts; they use the statistics of all experts of the \
             layer: {}; more --tokens give them their own",
            names.join(", ")
        );
        let all = reached.iter().sum::<usize>() as f64;
        for role in 0..first.len() {
            let names = || experts.iter().map(|places| &places[role].tensor);
            let earlier = (0..role).find(|q| self.same_inputs(&first[*q].tensor, &first[role].tensor));
            let inputs = earlier.map(|earlier| pool.inputs_of[earlier]);
            if inputs.is_none() {
                pool.inputs.push(sum(names().map(|name| self.inputs(name)).collect::<Result<Vec<_>>>()?));
            }
            pool.inputs_of.push(inputs.unwrap_or(pool.inputs.len() - 1));
            let outputs: Option<Vec<&Gram>> = names().map(|name| self.outputs.get(name)).collect();
            pool.outputs.push(outputs.map(sum));
        }
        for number in few {
            let share = (reached[number] as f64).max(RARE * all / experts.len() as f64) / tokens.max(1) as f64;
            for (role, place) in experts[number].iter().enumerate() {
                pool.members.insert(place.tensor.clone(), (role, share));
            }
        }
        pool.reached = all.max(1.0);
        Ok(pool)
    }

    fn same_inputs(&self, a: &str, b: &str) -> bool {
        let root = |tensor| self.same.get(tensor).map_or(tensor, String::as_str);
        root(a) == root(b)
    }
}

/// Sums over all experts of a layer, for those with too few tokens.
#[derive(Debug, Default)]
pub(super) struct Pool {
    inputs: Vec<Gram>,
    /// For each matrix of an expert, the number of its inputs: some matrices have the same.
    inputs_of: Vec<usize>,
    /// For each matrix of an expert, its outputs; `None` if only forward passes were made.
    outputs: Vec<Option<Gram>>,
    /// By the name of the tensor: its number in the expert, and the expert's share of the tokens.
    members: BTreeMap<String, (usize, f64)>,
    /// Tokens of all experts.
    reached: f64,
}

impl Pool {
    fn find(&self, tensor: &str) -> Option<(Mean<'_>, Option<Mean<'_>>)> {
        let (role, share) = *self.members.get(tensor)?;
        let outputs = self.outputs[role].as_ref().map(|gram| Mean(gram, self.reached));
        Some((Mean(&self.inputs[self.inputs_of[role]], self.reached / share), outputs))
    }
}

fn sum(grams: Vec<&Gram>) -> Gram {
    let mut all = Gram::new(grams.first().map_or(0, |gram| gram.order()));
    for gram in grams {
        all.add_sum(gram);
    }
    all
}

impl Observer for Sums {
    fn inputs(&mut self, tensors: &[&str], x: &[f32], width: usize) {
        let Some((first, others)) = tensors.split_first() else { return };
        for other in others {
            self.same.insert((*other).to_owned(), (*first).to_owned());
        }
        self.inputs.entry((*first).to_owned()).or_insert_with(|| Gram::new(width)).add(x);
    }

    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize) {
        self.outputs.entry(tensor.to_owned()).or_insert_with(|| Gram::new(width)).add(g);
    }

    fn predicted(&mut self, variances: &[f64]) {
        self.variances.resize(variances.len(), 0.0);
        self.variances.iter_mut().zip(variances).for_each(|(sum, variance)| *sum += variance);
    }
}
