//! Seed 000: the weight store's ways to store a weight, and versions of one.

use anyhow::Result;

use super::part::{Part, page};
use super::versions;
use crate::tree::Tree;

const PARTS: [Part; 6] = [
    Part {
        title: "SVD compression",
        text: "The report claims 90 % savings for low-rank weights, 10x. The matrix is U·V + 0.01·N(0,1) of 1000 × 1000 with 50 \
            columns in U; `lowrank.svd` finds the rank from its default, 0.9999 of the energy. The noise alone has an \
            error of 0.0014: what the rank leaves out.",
        suite: "seed000/svd",
        instead: None,
        rows: &[
            ("F32 factors, as in the report", "lowrank.svd(lossless.raw)", 10.0),
            ("F16 factors", "lowrank.svd", 10.0),
            ("8-bit factors", "lowrank.svd(quant.int:bits=8)", 10.0),
            (
                "8-bit factors, and 3 bits for the rest",
                "residual(lowrank.svd(quant.int:bits=8),quant.int:bits=3)",
                10.0,
            ),
        ],
    },
    Part {
        title: "Sparse compression",
        text: "The report claims 10x for pruned weights. The matrix has 2000 × 2000 places, 5 % of them taken by N(0,1). Where the \
            values are stored as they are, every bit comes back.",
        suite: "seed000/sparse",
        instead: None,
        rows: &[
            ("CSR, 32-bit indices, as in the report", "sparse.csr:index=u32", 10.0),
            ("CSR, indices as narrow as the rows allow", "sparse.csr:index=narrow", 10.0),
            ("CSR, bytes for gaps", "sparse.csr:index=gap", 10.0),
            ("flat coordinates", "sparse.coo", 10.0),
            ("bitmap", "sparse.bitmap", 10.0),
            ("the smallest of them", "sparse", 10.0),
            ("the same, 8-bit values", "sparse(quant.int:bits=8:group=128)", 10.0),
            ("the same, 4-bit values", "sparse(quant.int:bits=4:group=128)", 10.0),
        ],
    },
    Part {
        title: "Quantization",
        text: "The report claims 4x with 8 bits and 8x with 4; its 4-bit codes were one to a byte. The matrix is N(0,1) of 1000 × 1000, \
            clipped to ±3.",
        suite: "seed000/quant8",
        instead: None,
        rows: &[
            ("8 bits, one scale", "quant.int:bits=8:group=tensor", 4.0),
            ("8 bits, a scale for each row", "quant.int:bits=8", 4.0),
            ("4 bits, a scale for each row", "quant.int:bits=4", 8.0),
            ("4 bits, a scale for 32 weights", "quant.int:bits=4:group=32", 8.0),
        ],
    },
    Part {
        title: "Delta encoding",
        text: "The report claims savings of 90 % and more for a fine-tune that is stored as its delta, 10x, and a perfect reconstruction. Its benchmark \
            adds 0.01·N(0,1) to a matrix of 1000 × 1000, here N(0,1); run again, what it stored had grown. A float difference, added to the base, does not restore \
            every bit, since difference and sum are both rounded. Codecs with an error of 0 do.",
        suite: "seed000/delta",
        instead: None,
        rows: &versions::rows(10.0),
    },
    Part {
        title: "Training checkpoints",
        text: "The report claims savings of 70 to 90 %, 3.3x at least. Its benchmark has five checkpoints of 1000 × 1000, each 0.1·0.01·N(0,1) from the \
            one before, which is its base here; run again, what it stored had grown. The first, N(0,1), has no base: in every row it is stored by `lossless:level=max`, and \
            bytes and ratio are of all five. The base is the checkpoint before as it was, so that only the rows with an error of 0 are a store by themselves: \
            in a chain of the others, errors add up.",
        suite: "seed000/checkpoints",
        instead: Some(versions::ALONE),
        rows: &versions::rows(3.3),
    },
    Part {
        title: "Model ensembles",
        text: "The report claims savings of 70 to 90 %, 3.3x at least. Its benchmark has five members of six layers, each of four matrices of 512 × 512 and two of 512 × 2048, and \
            noise of 0.02; run again, what it stored had grown. Here the first member is N(0,1) and the base of the others, each 0.02·N(0,1) from it. In every row the first is stored by \
            `lossless:level=max`, and bytes and ratio are of all five.",
        suite: "seed000/ensemble",
        instead: Some(versions::ALONE),
        rows: &versions::rows(3.3),
    },
];

const MISSING: &str = "\
Sizes and errors are the same on every machine, but for the last digits of the SVD's errors. What the report says about graphs, memory and whole repositories is \
not measured yet.";

/// Measures what the report says about a weight and versions of one.
pub(super) fn measure(tree: &Tree) -> Result<String> {
    page(tree, &PARTS, MISSING)
}
