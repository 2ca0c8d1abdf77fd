//! What a collection takes: memory, disk and multiplications.

use runtime::Sizes;

use super::collect::{Collection, Step};
use super::sequences::batches;

/// Bytes of the program, the tokens and what else does not depend on the sizes of layers.
const PROGRAM: u64 = 64 << 20;

/// Values of a token that a pass through a layer has for each input and output of its linear
/// layers: those of the way forward, their gradients, and one more on the way to these.
const COPIES: u64 = 3;

/// The logits that the head computes at a time.
const LOGITS: u64 = 1 << 22;

/// Sizes of a layer.
#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    weights: u64,
    /// The most of one matrix.
    matrix: u64,
    /// Entries of the curvatures of inputs, and of outputs.
    inputs: u64,
    outputs: u64,
    /// Rows of the largest curvature.
    order: u64,
    /// Weights, inputs and outputs that a token meets.
    met: u64,
    vectors: u64,
}

impl Layer {
    fn of(groups: &[Sizes]) -> Self {
        let mut all = Self::default();
        for Sizes { inputs, outputs, share, .. } in groups {
            let inputs = *inputs as u64;
            let met = |all: u64| (share * all as f64).ceil() as u64;
            all.inputs += inputs * inputs;
            all.vectors += met(inputs);
            all.order = all.order.max(inputs);
            for outputs in outputs.iter().map(|outputs| *outputs as u64) {
                all.weights += inputs * outputs;
                all.met += met(inputs * outputs);
                all.matrix = all.matrix.max(inputs * outputs);
                all.outputs += outputs * outputs;
                all.vectors += met(outputs);
                all.order = all.order.max(outputs);
            }
        }
        all
    }
}

impl Collection<'_> {
    /// An estimate of the most memory that [`Self::run`] takes on rayon's current pool, in bytes:
    /// the largest layer and its statistics, or the head.
    pub fn memory(&self) -> u64 {
        let config = self.model.config();
        let batches = batches(self.sequences());
        let batch = batches.iter().map(|batch| batch.iter().map(Vec::len).sum::<usize>()).max().unwrap_or(0) as u64;
        let longest = self.sequences().iter().map(Vec::len).max().unwrap_or(0) as u64;
        let threads = rayon::current_num_threads() as u64;
        // A matrix is read, and perhaps turned, before it is in its place. Half of a curvature is
        // in memory in f64, and one is whole when it is written.
        let of_layer = |layer: Layer| {
            let curvatures = layer.inputs + if self.protocol.forward_only { 0 } else { layer.outputs };
            let weights = layer.weights + 2 * layer.matrix;
            weights + curvatures + layer.order * layer.order + COPIES * batch * layer.vectors
        };
        let of_layer = self.layers().map(of_layer).max().unwrap_or(0) + 2 * threads * longest * longest;
        let table = (config.vocabulary * config.width) as u64;
        let of_head =
            table * 2 + 2 * LOGITS + 4 * batch * config.width as u64 + 2 * (config.width * config.width) as u64;
        PROGRAM + 4 * of_layer.max(of_head)
    }

    /// An estimate of the bytes on the disk at most, that of the output included.
    pub fn disk(&self) -> u64 {
        let config = self.model.config();
        let (layers, vectors) = (config.layers as u64, 4 * (self.tokens() * config.width) as u64);
        let table = 4 * (2 * config.width * config.width + 2 * config.vocabulary) as u64;
        let inputs: u64 = self.layers().map(|layer| 4 * layer.inputs).sum();
        if self.protocol.forward_only {
            return (inputs + table) * 2 + 2 * vectors;
        }
        let statistics = inputs + self.layers().map(|layer| 4 * layer.outputs).sum::<u64>();
        let (below, above) = ((layers + 2) * vectors, statistics + 2 * vectors);
        below.max(above).max(2 * (statistics + table))
    }

    fn layers(&self) -> impl Iterator<Item = Layer> {
        (0..self.model.config().layers).map(|number| Layer::of(&self.model.sizes(number)))
    }

    /// Multiplications of a step, about.
    pub(super) fn work(&self, step: Step) -> u64 {
        let config = self.model.config();
        let layer = match step {
            Step::Forward(number) | Step::Backward(number) => Layer::of(&self.model.sizes(number)),
            _ => Layer::default(),
        };
        let each = match step {
            Step::Embed | Step::Tables => config.width as u64,
            Step::Write => 0,
            Step::Forward(_) if self.protocol.forward_only => layer.met + layer.inputs / 2,
            Step::Forward(_) => layer.met,
            Step::Head if self.protocol.forward_only => (config.vocabulary * config.width) as u64,
            Step::Head => 2 * (config.vocabulary * config.width) as u64,
            Step::Backward(_) => 2 * layer.met + u64::midpoint(layer.inputs, layer.outputs),
        };
        each * self.tokens() as u64
    }
}
