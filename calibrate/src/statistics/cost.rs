//! What a collection takes: memory, disk and multiplications.

use runtime::Sizes;

use super::collect::{Collection, Step};
use super::sequences::batches;

/// Bytes of the program, the tokens and what else does not depend on the sizes of layers.
const PROGRAM: u64 = 64 << 20;

/// Values of a token that a pass through a layer has for each input and output of its linear layers:
/// those of the way forward, their gradients, and one more on the way to these.
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
    /// Inputs and outputs.
    vectors: u64,
}

impl Layer {
    fn of(groups: &[Sizes]) -> Self {
        let mut all = Self::default();
        for Sizes { inputs, outputs, .. } in groups {
            let inputs = *inputs as u64;
            all.inputs += inputs * inputs;
            all.vectors += inputs;
            all.order = all.order.max(inputs);
            for outputs in outputs.iter().map(|outputs| *outputs as u64) {
                all.weights += inputs * outputs;
                all.matrix = all.matrix.max(inputs * outputs);
                all.outputs += outputs * outputs;
                all.vectors += outputs;
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
        let (config, layer) = (self.model.config(), Layer::of(&self.model.sizes()));
        let batches = batches(self.sequences());
        let batch = batches.iter().map(|batch| batch.iter().map(Vec::len).sum::<usize>()).max().unwrap_or(0) as u64;
        let longest = self.sequences().iter().map(Vec::len).max().unwrap_or(0) as u64;
        let threads = rayon::current_num_threads() as u64;
        // A matrix is read, and perhaps turned, before it is in its place. Half of a curvature is in
        // memory in f64, and one is whole when it is written.
        let curvatures = layer.inputs + if self.protocol.forward_only { 0 } else { layer.outputs };
        let attention = 2 * threads * longest * longest;
        let of_layer = layer.weights + 2 * layer.matrix + curvatures + layer.order * layer.order;
        let of_layer = of_layer + COPIES * batch * layer.vectors + attention;
        let table = (config.vocabulary * config.width) as u64;
        let of_head = table * 2 + 2 * LOGITS + 4 * batch * config.width as u64 + 2 * layer.inputs.min(table);
        PROGRAM + 4 * of_layer.max(of_head)
    }

    /// An estimate of the bytes on the disk at most, that of the output included.
    pub fn disk(&self) -> u64 {
        let (config, layer) = (self.model.config(), Layer::of(&self.model.sizes()));
        let (layers, vectors) = (config.layers as u64, 4 * (self.tokens() * config.width) as u64);
        let table = 4 * (2 * config.width * config.width + 2 * config.vocabulary) as u64;
        if self.protocol.forward_only {
            return (layers * 4 * layer.inputs + table) * 2 + 2 * vectors;
        }
        let statistics = layers * 4 * (layer.inputs + layer.outputs);
        let (below, above) = ((layers + 2) * vectors, statistics + 2 * vectors);
        below.max(above).max(2 * (statistics + table))
    }

    /// Multiplications of a step, about.
    pub(super) fn work(&self, step: Step) -> u64 {
        let (config, layer) = (self.model.config(), Layer::of(&self.model.sizes()));
        let each = match step {
            Step::Embed | Step::Tables => config.width as u64,
            Step::Write => 0,
            Step::Forward(_) if self.protocol.forward_only => layer.weights + layer.inputs / 2,
            Step::Forward(_) => layer.weights,
            Step::Head if self.protocol.forward_only => (config.vocabulary * config.width) as u64,
            Step::Head => 2 * (config.vocabulary * config.width) as u64,
            Step::Backward(_) => 2 * layer.weights + u64::midpoint(layer.inputs, layer.outputs),
        };
        each * self.tokens() as u64
    }
}
