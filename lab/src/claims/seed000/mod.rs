//! Seed 000: how the weight store stores a weight and its versions, and its lazy graph.

mod graphs;

use anyhow::Result;

use super::part::{Part, page};
use super::versions;
use crate::lab::Lab;

const PARTS: [Part; 6] = [
    Part {
        title: "SVD compression",
        text: "\
The report claims savings of 90 % for low-rank weights, 10x. The matrix is U·V + 0.01·N(0,1), of
1000 × 1000, and U has 50 columns. `lowrank.svd` finds the rank from its default, 0.9999 of the
energy. The noise alone, which the rank leaves out, is an error of 0.0014.",
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
        text: "\
The report claims 10x for pruned weights. The matrix has 2000 × 2000 places; 5 % of them hold
N(0,1), the rest zeros. Codecs that store the values unchanged restore every bit.",
        suite: "seed000/sparse",
        instead: None,
        rows: &[
            ("CSR, 32-bit indices, as in the report", "sparse.csr:index=u32", 10.0),
            ("CSR, the narrowest indices that the rows allow", "sparse.csr:index=narrow", 10.0),
            ("CSR, gaps as bytes", "sparse.csr:index=gap", 10.0),
            ("flat coordinates", "sparse.coo", 10.0),
            ("bitmap", "sparse.bitmap", 10.0),
            ("the smallest of them", "sparse", 10.0),
            ("the same, 8-bit values", "sparse(quant.int:bits=8:group=128)", 10.0),
            ("the same, 4-bit values", "sparse(quant.int:bits=4:group=128)", 10.0),
        ],
    },
    Part {
        title: "Quantization",
        text: "\
The report claims 4x with 8 bits and 8x with 4 bits; it stored one 4-bit code per byte. The matrix
is N(0,1), of 1000 × 1000, clipped to ±3.",
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
        text: "\
The report claims savings of 90 % and more, 10x, and a perfect reconstruction for a fine-tune
stored as its delta. Its benchmark adds 0.01·N(0,1) to a matrix of 1000 × 1000, here N(0,1). A rerun
of that benchmark stored more bytes than the dense matrix has. Adding a float difference to the base
does not restore every bit, since difference and sum are both rounded. Codecs with an error of 0
restore every bit.",
        suite: "seed000/delta",
        instead: None,
        rows: &versions::rows(10.0),
    },
    Part {
        title: "Training checkpoints",
        text: "\
The report claims savings of 70 to 90 %, at least 3.3x. Its benchmark has five checkpoints of
1000 × 1000. Each is 0.1·0.01·N(0,1) from the checkpoint before, which is its base here. A rerun of
that benchmark stored more bytes than the dense matrices have. The first checkpoint, N(0,1), has no
base: every row stores it with `lossless:level=max`, and bytes and ratio are those of all five. The
base is the original of the checkpoint before. Only the rows with an error of 0 can therefore store
a whole chain; the errors of the others would add up along it.",
        suite: "seed000/checkpoints",
        instead: Some(versions::ALONE),
        rows: &versions::rows(3.3),
    },
    Part {
        title: "Model ensembles",
        text: "\
The report claims savings of 70 to 90 %, at least 3.3x. Its benchmark has five members of six
layers, each with four matrices of 512 × 512 and two of 512 × 2048, and noise of 0.02. A rerun of
that benchmark stored more bytes than the dense matrices have. The first member here is N(0,1) and
the base of the others, each 0.02·N(0,1) from it. Every row stores the first with
`lossless:level=max`, and bytes and ratio are those of all five.",
        suite: "seed000/ensemble",
        instead: Some(versions::ALONE),
        rows: &versions::rows(3.3),
    },
];

const REMARK: &str = "\
Sizes and errors are the same on every machine, except the last digits of the SVD's errors. The
report's claims about whole repositories are not measured yet.";

/// Measures the claims about a weight and its versions, and about graphs.
pub(super) fn measure(lab: &Lab) -> Result<String> {
    Ok([page(lab, &PARTS, REMARK)?, graphs::measure(lab)?].join("\n"))
}
