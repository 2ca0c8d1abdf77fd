//! One function for each operation.

use std::ops::Range;
use std::sync::Arc;

use codec_api::{Codec, Dtype};

use crate::error::Result;
use crate::graph::{Graph, Node};
use crate::operations::elementwise::{Binary, Cast, Function, Pair, Scale, Threshold, Unary};
use crate::operations::matmul::Matmul;
use crate::operations::norms::{LayerNorm, RmsNorm, Softmax};
use crate::operations::quantise::Quantise;
use crate::operations::sums::WeightedSum;
use crate::operations::views::{Concat, Reshape, Slice, Transpose};

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident $function:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As [`Graph::apply`].
        pub fn $name(&self, x: Node) -> Result<Node> {
            self.apply(Function { function: Unary::$function }, &[x])
        }
    )*};
}

macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident $function:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As [`Graph::apply`].
        pub fn $name(&self, a: Node, b: Node) -> Result<Node> {
            self.apply(Binary { function: Pair::$function }, &[a, b])
        }
    )*};
}

/// Results of operations are F32. Reshape, transpose, slice and concatenation keep the dtype.
impl Graph {
    functions! {
        /// `−x`.
        neg Neg;
        /// `|x|`.
        abs Abs;
        /// −1, 0 or 1.
        sign Sign;
        /// GELU with the error function.
        gelu Gelu;
        /// GELU with the hyperbolic tangent.
        gelu_tanh GeluTanh;
        /// `x / (1 + e⁻ˣ)`.
        silu Silu;
    }

    pairs! {
        /// `a + b`, with broadcasting.
        add Add;
        /// `a − b`, with broadcasting.
        sub Sub;
        /// `a·b` of each pair of values, with broadcasting: a vector scales columns.
        mul Mul;
    }

    /// `factor·x`.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn scale(&self, x: Node, factor: f32) -> Result<Node> {
        self.apply(Scale { factor }, &[x])
    }

    /// Zero for each value whose magnitude is below `least`.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn threshold(&self, x: Node, least: f32) -> Result<Node> {
        self.apply(Threshold { least }, &[x])
    }

    /// Each row of a matrix times its factor, from a vector.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn scale_rows(&self, x: Node, factors: Node) -> Result<Node> {
        let mut shape = self.spec(factors)?.shape().to_vec();
        shape.push(1);
        let column = self.reshape(factors, shape)?;
        self.mul(x, column)
    }

    /// Rounds to BF16, F16 or F32: nearest, ties to even.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn cast(&self, x: Node, dtype: Dtype) -> Result<Node> {
        self.apply(Cast { dtype }, &[x])
    }

    /// What a codec makes of `x`: encoded, decoded, and rounded to the dtype of `x`.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn quantise(&self, x: Node, codec: Arc<dyn Codec>, seed: u64) -> Result<Node> {
        self.apply(Quantise { codec, seed }, &[x])
    }

    /// The product of the last two axes; the others are broadcast.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn matmul(&self, a: Node, b: Node) -> Result<Node> {
        self.apply(Matmul { transposed: false }, &[a, b])
    }

    /// `a·bᵀ`: what a linear layer with the weights `b` makes of `a`.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn matmul_transposed(&self, a: Node, b: Node) -> Result<Node> {
        self.apply(Matmul { transposed: true }, &[a, b])
    }

    /// `w + s·b·a`: a matrix with a LoRA adapter in it. `a` is `r × inputs`, `b` is `outputs × r`,
    /// and `s` is alpha/r.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn lora(&self, w: Node, a: Node, b: Node, s: f32) -> Result<Node> {
        let delta = self.matmul(b, a)?;
        self.weighted_sum(&[w, delta], &[1.0, s])
    }

    /// `x·w + s·(x·a)·b`: the forward product with a LoRA adapter. `w` is `inputs × outputs`, `a`
    /// is `inputs × r` and `b` is `r × outputs`.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn lora_forward(&self, x: Node, w: Node, a: Node, b: Node, s: f32) -> Result<Node> {
        let (dense, inner) = (self.matmul(x, w)?, self.matmul(x, a)?);
        let delta = self.matmul(inner, b)?;
        self.weighted_sum(&[dense, delta], &[1.0, s])
    }

    /// `Σ wᵢ·xᵢ`, added in the order of the operands.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn weighted_sum(&self, x: &[Node], weights: &[f32]) -> Result<Node> {
        self.apply(WeightedSum { weights: weights.to_vec() }, x)
    }

    /// The softmax of each row.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn softmax(&self, x: Node) -> Result<Node> {
        self.apply(Softmax {}, &[x])
    }

    /// `x / √(mean(x²) + ε) · weight` of each row.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn rms_norm(&self, x: Node, weight: Node, epsilon: f32) -> Result<Node> {
        self.apply(RmsNorm { epsilon }, &[x, weight])
    }

    /// `(x − mean(x)) / √(var(x) + ε) · weight + bias` of each row.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn layer_norm(&self, x: Node, weight: Node, bias: Node, epsilon: f32) -> Result<Node> {
        self.apply(LayerNorm { epsilon }, &[x, weight, bias])
    }

    /// The same values in another shape.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn reshape(&self, x: Node, shape: impl Into<Vec<usize>>) -> Result<Node> {
        self.apply(Reshape { shape: shape.into() }, &[x])
    }

    /// The last two axes exchanged.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn transpose(&self, x: Node) -> Result<Node> {
        self.apply(Transpose {}, &[x])
    }

    /// A range of each axis.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn slice(&self, x: Node, ranges: &[Range<usize>]) -> Result<Node> {
        self.apply(Slice { ranges: ranges.iter().map(|range| [range.start, range.end]).collect() }, &[x])
    }

    /// One after the other on an axis.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn concat(&self, x: &[Node], axis: usize) -> Result<Node> {
        let (mut starts, mut next) = (Vec::with_capacity(x.len()), 0usize);
        for node in x {
            starts.push(next);
            next = next.saturating_add(self.spec(*node)?.shape().get(axis).copied().unwrap_or(0));
        }
        self.apply(Concat { axis, starts }, x)
    }
}
