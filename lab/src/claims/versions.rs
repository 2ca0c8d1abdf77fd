//! Rows for versions of weights, which have a base.

use super::part::Row;

/// Codec of a version without a base.
pub(super) const ALONE: &str = "lossless:level=max";

/// Methods of the reports and obvious variants, exact codecs, then lossy ones.
pub(super) const fn rows(claim: f64) -> [Row; 11] {
    [
        ("float differences", "delta(lossless.raw)", claim),
        ("float differences, compressed", "delta(lossless:level=max)", claim),
        (
            "differences above 0.001, 32-bit positions",
            "delta(sparse.prune(sparse.csr:index=u32):threshold=0.001)",
            claim,
        ),
        ("8-bit differences", "delta(quant.int:bits=8)", claim),
        ("every bit, without the base", ALONE, claim),
        ("every bit, from the base", "delta.exact", claim),
        ("4-bit differences", "delta(quant.int:bits=4:group=128)", claim),
        ("the largest tenth of the differences", "delta(sparse.prune(sparse):density=0.1)", claim),
        ("the differences' signs", "delta.sign", claim),
        ("16 components of the differences", "delta(lowrank.svd:rank=16)", claim),
        ("nothing: the base itself", "delta(baseline.zeros)", claim),
    ]
}
