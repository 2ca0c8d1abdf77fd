//! A dense linear layer that runs in both directions.

use codec_api::InputAxis;
use codec_api::util::transpose;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::Place;

/// Tokens whose products one thread computes.
const SHARE: usize = 256;

/// `y = W·x + b`.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) tensor: String,
    pub(super) axis: InputAxis,
    /// `outputs × inputs`, row-major.
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

impl Dense {
    pub(super) fn place(&self) -> Place {
        Place { tensor: self.tensor.clone(), axis: self.axis }
    }

    /// Takes other weights, in the layout of the tensor.
    pub(super) fn replace(&mut self, values: &[f32]) {
        match self.axis {
            InputAxis::Rows => transpose((self.inputs, self.outputs), values, &mut self.weight),
            InputAxis::Columns => self.weight.copy_from_slice(values),
        }
    }

    fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.weight, self.outputs, self.inputs)
    }

    /// The outputs of each token.
    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.inputs * self.outputs];
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(self.outputs).for_each(|y| y.copy_from_slice(bias));
        }
        product(x, self.inputs, self.matrix().transpose(), &mut y);
        y
    }

    /// Adds the gradients at the inputs of each token to `into`.
    pub(super) fn backward(&self, g: &[f32], into: &mut [f32]) {
        product(g, self.outputs, self.matrix(), into);
    }
}

/// `y += x·w` for vectors `x` of `width` values.
fn product(x: &[f32], width: usize, w: MatRef<'_, f32>, y: &mut [f32]) {
    let outputs = w.ncols();
    let shares = x.par_chunks(SHARE * width).zip(y.par_chunks_mut(SHARE * outputs));
    shares.for_each(|(x, y)| {
        let tokens = x.len() / width;
        let x = MatRef::from_row_major_slice(x, tokens, width);
        let y = MatMut::from_row_major_slice_mut(y, tokens, outputs);
        matmul(y, Accum::Add, x, w, 1.0, Par::Seq);
    });
}
