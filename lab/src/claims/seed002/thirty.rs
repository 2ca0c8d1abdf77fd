//! 30x: the points of every method, the curve of the best, and the cases where 30x is real.

use std::collections::BTreeSet;

use anyhow::Result;

use super::gaussian::{SIX_WEIGHTS, TENSOR, TWO_BIT};
use super::{ABSMEAN, FOUR_BIT, LEAST_SQUARES, LEGACY, THREE_BIT, code};
use crate::lab::LAYERS;
use crate::measure::{Bench, Measured, Table, least_nmse, ratio, significant};

const THIRTY: &str = "trellis:preset=30x";
const THIRTY_FAST: &str = "trellis:states=8:bits=1.0666";
/// 30x without padding: 8 + 4 + 2·2 bits for 15 weights.
const THIRTY_SEEDS: &str = "seedlm:k=8:c=15:p=2:mantissa_bits=2";
const TWENTY_EIGHT_SEEDS: &str = "seedlm:k=12:c=16:p=1:mantissa_bits=2";

/// Points on Gaussian weights, most bits first.
const POINTS: [&str; 11] = [
    SIX_WEIGHTS,
    FOUR_BIT.spec,
    LEGACY.spec,
    THREE_BIT.spec,
    TWO_BIT,
    ABSMEAN.spec,
    LEAST_SQUARES.spec,
    TWENTY_EIGHT_SEEDS,
    THIRTY_SEEDS,
    THIRTY_FAST,
    THIRTY,
];

/// Those also measured on other weights.
const SMALLEST: [&str; 6] = [ABSMEAN.spec, LEAST_SQUARES.spec, TWENTY_EIGHT_SEEDS, THIRTY_SEEDS, THIRTY_FAST, THIRTY];

/// Ratios, each with a codec of 32 bits divided by the ratio, rounded down.
const CURVE: [(f64, &str); 7] = [
    (4.5, "trellis:states=256:bits=7.1111"),
    (8.0, "trellis:states=256:bits=4"),
    (10.0, "trellis:states=256:bits=3.2"),
    (16.0, "trellis:states=256:bits=2"),
    (20.0, "trellis:states=256:bits=1.6"),
    (30.0, THIRTY),
    (50.0, "trellis:states=256:bits=0.64"),
];

/// The runs behind the tables.
pub(super) struct Runs<'a> {
    pub(super) gaussian: &'a Bench,
    /// The seed's layers.
    pub(super) layers: &'a Bench,
    pub(super) trained: &'a Bench,
}

/// The codecs to measure on Gaussian weights.
pub(super) fn gaussian_specs() -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().chain(curve_specs())
}

/// The codecs to measure on layers.
pub(super) fn specs() -> BTreeSet<&'static str> {
    SMALLEST.into_iter().chain(curve_specs()).collect()
}

fn curve_specs() -> impl Iterator<Item = &'static str> {
    CURVE.into_iter().map(|(_, spec)| spec)
}

/// Every table about 30x.
pub(super) fn sections(runs: &Runs<'_>) -> Result<Vec<String>> {
    Ok(vec![points(runs.gaussian)?, other_weights(runs)?, curve(runs)?, format!("## Where 30x is real\n\n{REAL}\n")])
}

const REAL: &str = "\
- **A base to subtract.** A fine-tune is small relative to its base. In [seed 001](seed001.md) a
  layer N(0,1) moves by 2 % of its norm. `delta.sign` keeps one bit for each weight of the
  difference: 31.03x, with an error of 1.2 % of the layer's norm. `delta(lowrank.svd:rank=16)` has
  76.74x and 1.95 %. These results are less than they seem: the base alone, in no bytes, has an
  error of 2 %. The signs remove four tenths of the difference; 16 components remove almost nothing,
  since this difference has no structure. Three layers that move by 1 %: 31.03x and 0.603 %. Exact
  storage with `delta.exact` has 1.53x and 1.61x there, because the noise changes almost every bit
  of F32. The ratio is large where few weights change: 176x for BF16 weights of which one in a
  hundred moves by one unit in the last place (README).
- **Weights that training made small.** AlexNet, pruned, clustered and trained again, is stored in
  1/35 of its bytes, and VGG-16 in 1/49, at the same accuracy (Han, Mao and Dally, *Deep
  compression*, ICLR 2016). The result is a different network; nothing of that is measured here.
- **Weights that repeat or vanish.** Zeros, equal rows and low rank are outside the bound, which
  holds for independent weights. The trained layers above hardly have them: their column differs
  from the Gaussian one by a few percent.";

fn points(bench: &Bench) -> Result<String> {
    let mut table = Table::new([
        "Codec",
        "Bits per weight",
        "Ratio",
        "Relative Error",
        "NMSE",
        "Least NMSE at these bits",
        "Times the least",
    ]);
    for spec in POINTS {
        table.row(point(spec, bench.cell(spec, TENSOR)?));
    }
    let error = |spec| bench.cell(spec, TENSOR).map(|cell| significant(cell.relative_error));
    let block = bench.cell(FOUR_BIT.spec, TENSOR)?.bits() * 8.0;
    let (bits, limit) = (32.0 / 30.0, least_nmse(32.0 / 30.0));
    let text = format!(
        "The seed's own layout, 88 bits for 8 weights, is 2.9x, less than the 3.6x to 6.1x that it \
        reports; the block of 8 weights here has {block:.0} bits. 30x from F32 is {bits:.3} bits \
        per weight. At that rate no code for independent Gaussian weights has an NMSE (‖w − \
        ŵ‖²/‖w‖²) below 2^(−2 · {bits:.3}) = {limit:.3}, which is a relative error of {:.3}: this \
        is Shannon's bound. At 30x in real bytes SeedLM has an error of {}; `trellis` has {} with \
        8 states and {} with 256. Both are below the 0.845 that the seed reports for 3.9x to 4.8x, \
        and the last column shows how little is left to gain. An error of half the norm is not \
        usable quality. So 30x with quality does not exist on such weights: neither better \
        quantisation nor learned bases nor entropy coding, the hopes of the seed's gap analysis, \
        can reach it. It needs retraining, pruning, or a base model to subtract.",
        limit.sqrt(),
        error(THIRTY_SEEDS)?,
        error(THIRTY_FAST)?,
        error(THIRTY)?,
    );
    Ok(table.under("Analysis of 30x Compression Claim", &text))
}

fn point(spec: &str, cell: Measured) -> [String; 7] {
    let limit = least_nmse(cell.bits());
    [
        code(spec),
        format!("{:.3}", cell.bits()),
        ratio(cell.ratio()),
        significant(cell.relative_error),
        significant(cell.nmse),
        significant(limit),
        format!("{:.2}", cell.nmse / limit),
    ]
}

fn other_weights(runs: &Runs<'_>) -> Result<String> {
    let mut table = Table::new(["Codec", "Ratio, layers", "Error, layers", "Ratio, trained", "Error, trained"]);
    for spec in SMALLEST {
        let mut row = vec![code(spec)];
        for bench in [runs.layers, runs.trained] {
            let column = bench.column(spec, "")?;
            row.extend([ratio(column.ratio()), significant(column.error_spread().0)]);
        }
        table.row(row);
    }
    let text = format!(
        "The smallest of these codecs on the seed's six layers and on two trained layers \
        (`{LAYERS}`). Most of the six have uniform weights, PyTorch's default initialisation. The \
        ratio is that of all layers together, the error the mean of their relative errors."
    );
    Ok(table.under("30x on other weights", &text))
}

fn curve(runs: &Runs<'_>) -> Result<String> {
    let mut table =
        Table::new(["Ratio", "Bits per weight", "Shannon, Gaussian", "N(0,1)", "Seed's layers", "Trained layers"]);
    for (times, spec) in CURVE {
        let bits = 32.0 / times;
        let gaussian = runs.gaussian.cell(spec, TENSOR)?.relative_error;
        let mean = |bench: &Bench| bench.column(spec, "").map(|column| column.error_spread().0);
        let errors = [least_nmse(bits).sqrt(), gaussian, mean(runs.layers)?, mean(runs.trained)?];
        let row = [format!("{times}x"), format!("{bits:.3}")];
        table.row(row.into_iter().chain(errors.map(significant)));
    }
    let text = "Relative errors of `trellis` with 256 states at these ratios, and the least error \
        that independent Gaussian weights allow. For layers it is the mean, which may be below \
        that limit: uniform weights need up to a quarter of a bit less. [The curves of all \
        codecs](rate-distortion.md).";
    Ok(table.under("The curve instead of the slogan", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_ratio_rounded_down() {
        for (times, spec) in CURVE.into_iter().filter(|(_, spec)| *spec != THIRTY) {
            let bits = (320_000.0 / times).floor() / 10_000.0;
            assert_eq!(spec, format!("trellis:states=256:bits={bits}"));
        }
    }
}
