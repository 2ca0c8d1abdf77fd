//! Seed 001: the sparse storage of a model's delta, as positions and values.

use anyhow::Result;

use super::part::{Part, page};
use crate::tree::Tree;

const PARTS: [Part; 1] = [Part {
    title: "Delta compression: positions and values",
    text: "The report fine-tunes a 768 × 3072 layer of GPT-2 by adding 0.02·N(0,1), stores the differences above 0.001 as positions and values, and \
        gives a ratio of 1.00x. That was a clamp: 96 % of such differences are above the threshold, so there is nothing sparse about them, and \
        positions of 8 bytes beside values of 4 make 0.35x, an expansion. Below is what storing the same difference costs here. Codecs of sparse tensors \
        store a tensor as it is where positions would cost more than they save, so that none grows by more than a checksum.",
    suite: "seed001/gpt2-delta",
    tensor: "difference",
    rows: &[
        ("the seed's threshold, positions as u32", "sparse.prune(sparse.csr:index=u32):threshold=0.001", 1.0),
        ("the seed's threshold, smallest positions", "sparse.prune(sparse):threshold=0.001", 1.0),
        ("the seed's threshold, 8-bit values", "sparse.prune(sparse(quant.int:bits=8:group=128)):threshold=0.001", 1.0),
        ("the largest tenth", "sparse.prune(sparse):density=0.1", 1.0),
        ("the largest tenth, 4-bit values", "sparse.prune(sparse(quant.int:bits=4:group=128)):density=0.1", 1.0),
        ("the larger half of each four", "sparse.prune(sparse.nm(quant.int:bits=8:group=128)):pattern=2of4", 1.0),
        ("all of it in 8 bits", "quant.int:bits=8", 1.0),
        ("all of it in 4 bits", "quant.int:bits=4:group=128", 1.0),
    ],
}];

const MISSING: &str = "Sizes and errors are the same on every machine. What the report says about perplexity, cost, routing and datasets is not measured yet.";

/// Measures what the report says about storing a delta.
pub(super) fn measure(tree: &Tree) -> Result<String> {
    page(tree, &PARTS, MISSING)
}
