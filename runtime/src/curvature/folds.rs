//! Scales that cancel between linear layers and what their inputs come from.

use codec_api::InputAxis;

use super::dense::Dense;
use super::layer::{FeedForward, Layer};
use super::network::Network;
use super::{Differentiable, Place};
use crate::config::{Activation, Attention};

/// Linear layers with the same inputs, and the tensors that these inputs are proportional to.
///
/// Each input belongs to a channel, and each channel may have a positive scale: if the weights of
/// the channel's inputs are multiplied by it and the entries of the channel in the other tensors
/// are divided by it, the model computes the same function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fold {
    /// The matrices of the linear layers.
    pub readers: Vec<Place>,
    /// The tensors that are divided.
    pub writers: Vec<Writer>,
    /// The channel of each input.
    pub channels: Vec<usize>,
}

/// A tensor whose entries are proportional to the inputs of linear layers: a norm, or a linear
/// layer and its bias.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Writer {
    /// The name of the tensor.
    pub tensor: String,
    /// The axis of the tensor that channels run along.
    pub axis: usize,
    /// The index of the first channel on this axis.
    pub first: usize,
}

impl Fold {
    /// Number of channels.
    pub fn width(&self) -> usize {
        self.channels.iter().max().map_or(0, |last| last + 1)
    }

    /// Multiplies the weights of a reader, a matrix of `columns` columns, by the scales of the
    /// channels of its inputs.
    pub fn multiply(&self, axis: InputAxis, columns: usize, weights: &mut [f32], scales: &[f32]) {
        for (row, weights) in weights.chunks_exact_mut(columns.max(1)).enumerate() {
            for (column, weight) in weights.iter_mut().enumerate() {
                let input = if axis == InputAxis::Rows { row } else { column };
                *weight *= scales[self.channels[input]];
            }
        }
    }
}

impl Writer {
    /// Divides the entries of the channels by their scales. `shape` is that of the tensor.
    pub fn divide(&self, shape: &[usize], values: &mut [f32], scales: &[f32]) {
        let inner: usize = shape.iter().skip(self.axis + 1).product();
        let length = shape.get(self.axis).copied().unwrap_or(1);
        for (number, values) in values.chunks_exact_mut(inner.max(1)).enumerate() {
            let channel = (number % length.max(1)).checked_sub(self.first);
            if let Some(scale) = channel.and_then(|channel| scales.get(channel)) {
                for value in values {
                    *value /= scale;
                }
            }
        }
    }
}

impl Differentiable {
    /// All scales that cancel, in the order in which tokens go through the layers: between a norm
    /// and the linear layers behind it, between values and the output of attention, and between up
    /// and down if the activation does not lie between them, or is a rectifier. Between a norm and
    /// a mixture of experts there are none.
    pub fn folds(&self) -> Vec<Fold> {
        let mut folds: Vec<Fold> = (0..self.layers.len()).flat_map(|number| self.folds_of(number)).collect();
        if !self.config.tied {
            let norm = self.norm_writers(&self.name(self.config.names.norm));
            folds.push(fold(&[&self.head.linear], norm, (0..self.config.width).collect()));
        }
        folds
    }

    fn folds_of(&self, number: usize) -> Vec<Fold> {
        let (config, names, layer) = (&self.config, self.config.names, &self.layers[number]);
        let norm = |of: &str| self.norm_writers(&self.name(&names.layer(number, of)));
        let straight = |width: usize| (0..width).collect::<Vec<_>>();
        let Layer { inputs, output, .. } = layer;
        let mut folds =
            vec![fold(&inputs.iter().collect::<Vec<_>>(), norm(names.attention_norm), straight(config.width))];
        let (values, first) = match (&names.attention, &**inputs) {
            (Attention::Apart(_), [.., values]) => (values, 0),
            (Attention::Fused(_), [all, ..]) => (all, config.query_width() + config.kv_width()),
            _ => return folds,
        };
        // Heads of the queries share heads of the values.
        let (width, sharing) = (config.head_width, config.heads / config.kv_heads);
        let channels = (0..output.inputs).map(|input| input / width / sharing * width + input % width).collect();
        folds.push(fold(&[output], writers(values, first), channels));
        let networks = match &layer.feed_forward {
            FeedForward::One(network) => {
                let wide: Vec<&Dense> = network.gate.iter().chain([&network.up]).collect();
                folds.push(fold(&wide, norm(names.feed_forward_norm), straight(config.width)));
                std::slice::from_ref(network)
            }
            // The norm before has the router and all experts behind it, each with its own tokens.
            FeedForward::Experts(mixture) => &*mixture.experts,
        };
        for Network { gate, up, down } in networks {
            if gate.is_some() || config.activation == Activation::Relu {
                folds.push(fold(&[down], writers(up, 0), straight(down.inputs)));
            }
        }
        folds
    }

    /// A name behind the prefix of this model.
    fn name(&self, name: &str) -> String {
        let own = format!("{}.weight", self.config.names.embedding);
        format!("{}{name}", self.embedding.0.strip_suffix(&own).unwrap_or_default())
    }

    fn norm_writers(&self, norm: &str) -> Vec<Writer> {
        let bias = self.config.norm.centred.then(|| format!("{norm}.bias"));
        let tensors = [format!("{norm}.weight")].into_iter().chain(bias);
        tensors.map(|tensor| Writer { tensor, axis: 0, first: 0 }).collect()
    }
}

fn fold(readers: &[&Dense], writers: Vec<Writer>, channels: Vec<usize>) -> Fold {
    Fold { readers: readers.iter().map(|reader| reader.place()).collect(), writers, channels }
}

/// A linear layer from the output `first` on, and its bias.
fn writers(linear: &Dense, first: usize) -> Vec<Writer> {
    let axis = usize::from(linear.axis == InputAxis::Rows);
    let bias = linear.bias.as_ref().and(linear.tensor.strip_suffix("weight")).map(|stem| format!("{stem}bias"));
    let bias = bias.map(|tensor| Writer { tensor, axis: 0, first });
    [Writer { tensor: linear.tensor.clone(), axis, first }].into_iter().chain(bias).collect()
}
