//! Seed 001: a model's delta as positions and values, and in codecs that use the base; perplexity;
//! presets; routing among models.

mod perplexity;
mod planned;
mod routing;

use anyhow::Result;

use super::part::{Part, page};
use super::versions;
use crate::lab::Lab;

const PARTS: [Part; 3] = [
    Part {
        title: "Delta compression: positions and values",
        text: "\
The report fine-tunes a 768 × 3072 layer of GPT-2 by adding 0.02·N(0,1), stores the differences
above 0.001 as positions and values, and states a ratio of 1.00x. That value was clamped: 96 % of
the differences are above the threshold, so they are not sparse, and positions of 8 bytes with
values of 4 bytes make 0.35x, an expansion. The table shows the cost of the same difference here.
Codecs for sparse tensors store a tensor dense if positions would cost more than they save, so no
tensor grows by more than a checksum.",
        suite: "seed001/gpt2-delta",
        instead: None,
        rows: &[
            ("the seed's threshold, positions as u32", "sparse.prune(sparse.csr:index=u32):threshold=0.001", 1.0),
            ("the seed's threshold, smallest positions", "sparse.prune(sparse):threshold=0.001", 1.0),
            (
                "the seed's threshold, 8-bit values",
                "sparse.prune(sparse(quant.int:bits=8:group=128)):threshold=0.001",
                1.0,
            ),
            ("the largest tenth", "sparse.prune(sparse):density=0.1", 1.0),
            ("the largest tenth, 4-bit values", "sparse.prune(sparse(quant.int:bits=4:group=128)):density=0.1", 1.0),
            ("the two larger of each four", "sparse.prune(sparse.nm(quant.int:bits=8:group=128)):pattern=2of4", 1.0),
            ("the whole difference in 8 bits", "quant.int:bits=8", 1.0),
            ("the whole difference in 4 bits", "quant.int:bits=4:group=128", 1.0),
        ],
    },
    Part {
        title: "Delta compression: the layer and its base",
        text: "\
The same fine-tune as a layer and its base. The report calls it a 2 % weight delta of GPT-2. The
base here is N(0,1), and 0.02·N(0,1) is 2 % of it. The report claims 1.00x and an error of 0.001.
Ratio and error below are those of the fine-tuned layer.",
        suite: "seed001/gpt2-fine-tune",
        instead: None,
        rows: &versions::rows(1.0),
    },
    Part {
        title: "Full workflow",
        text: "\
The report sends three layers of DistilGPT-2 through its workflow. It prints an average compression
of 1.00x, but sizes of 27.00 MB before and 49.71 MB after: the same clamp shows an expansion as
1.00x. The layers here are 768 × 3072, 0.01·N(0,1) from bases of N(0,1).",
        suite: "seed001/distilgpt2-workflow",
        instead: None,
        rows: &versions::rows(1.0),
    },
];

const REMARK: &str = "\
Sizes and errors are the same on every machine, except the last digits of the SVD's errors. The
report's claims about datasets are not measured yet.";

/// Measures the claims about storing a delta, perplexity, presets and routing.
pub(super) fn measure(lab: &Lab) -> Result<String> {
    let (parts, perplexity) = (page(lab, &PARTS, REMARK)?, perplexity::section(lab)?);
    Ok(format!("{parts}\n{perplexity}\n{}\n{}", planned::section(lab)?, routing::section()?))
}
