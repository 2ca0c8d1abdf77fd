//! `cargo xtask equal-bytes`: the error of `trellis` relative to ggml's formats at equal size.

use anyhow::{Context, Result, ensure};
use harness::matrix::Row;

use crate::lab::Lab;
use crate::measure::{Bench, Measured, Table};

/// A format, and its bits per weight.
const FORMATS: [(&str, f64); 5] = [
    ("quant.q6_k", 6.5625),
    ("quant.q4_k", 4.5),
    ("quant.iq4_xs", 4.25),
    ("quant.q3_k", 3.4375),
    ("quant.q2_k", 2.625),
];

/// Real models store smaller tensors uncompressed.
const LEAST_WEIGHTS: u64 = 1 << 14;

/// The paragraph above the table.
pub const TEXT: &str = "\
`trellis:bits=…` with exactly the bits per weight of a format, on each matrix of at least 16,384
weights whose rows are whole blocks: its NMSE divided by the NMSE of the format. It never needs more
bytes than the format. `cargo xtask equal-bytes SUITE` prints such a table for other models; this
one is for `assets/gpt2_mini_layers`.";

/// Measures the table of a suite, or of the trained layers in the tree.
///
/// # Errors
/// If a measurement fails, or `trellis` needs more bytes than a format.
pub fn measure(lab: &Lab, suite: Option<&str>) -> Result<Table> {
    let suite = &suite.map_or_else(|| lab.layers(), str::to_owned);
    let pairs = FORMATS.map(|(format, bits)| (format, bits, format!("trellis:bits={bits}")));
    let specs = pairs.iter().flat_map(|(format, _, trellis)| [*format, trellis]);
    let bench = Bench::run(lab, suite, specs.collect())?;
    let mut table = Table::new(["Format", "Bits per weight", "Tensors", "Least", "Median", "Largest"]);
    for (format, bits, trellis) in &pairs {
        let ratios = ratios(&bench.rows(format)?, &bench.rows(trellis)?)
            .with_context(|| format!("suite {suite}, `{trellis}` against `{format}`"))?;
        let tensors = ratios.len();
        let [least, middle, largest] = [ratios[0], median(&ratios), ratios[tensors - 1]].map(|v| format!("{v:.3}"));
        table.row([format!("`{format}`"), bits.to_string(), tensors.to_string(), least, middle, largest]);
    }
    Ok(table)
}

/// NMSE of the second codec divided by that of the first, ascending, for all large matrices that
/// the first codec accepts.
fn ratios(formats: &[&Row], trellises: &[&Row]) -> Result<Vec<f64>> {
    let mut ratios = Vec::new();
    for (format, trellis) in formats.iter().zip(trellises) {
        let large = format.shape.len() == 2 && format.weights >= LEAST_WEIGHTS;
        let Some(of_format) = Measured::of(format).filter(|m| large && m.nmse > 0.0) else { continue };
        let tensor = &format.tensor;
        let of_trellis = Measured::of(trellis).with_context(|| format!("`{tensor}` is refused"))?;
        ensure!(
            of_trellis.bytes <= of_format.bytes,
            "`{tensor}` has {} bytes instead of {}",
            of_trellis.bytes,
            of_format.bytes
        );
        ratios.push(of_trellis.nmse / of_format.nmse);
    }
    ensure!(!ratios.is_empty(), "no matrix is large enough and has rows of whole blocks");
    ratios.sort_by(f64::total_cmp);
    Ok(ratios)
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2])
}

#[cfg(test)]
mod tests {
    use codec_api::Registry;

    use super::*;

    /// `quant.q4_k` and `trellis` in the same bytes, on this suite.
    fn rows(suite: &str) -> (Row, Row) {
        let lab = Lab { root: "/tree".into(), registry: Registry::linked().unwrap() };
        let bench = Bench::run(&lab, suite, ["quant.q4_k", "trellis:bits=4.5"].into()).unwrap();
        let row = |spec| bench.rows(spec).unwrap()[0].clone();
        (row("quant.q4_k"), row("trellis:bits=4.5"))
    }

    #[test]
    fn ratios_are_of_large_matrices_that_the_format_accepts() {
        let (large, narrow, small) = (rows("gaussian:64x256"), rows("gaussian:256x64"), rows("gaussian:32x256"));
        let ratio = large.1.nmse.unwrap() / large.0.nmse.unwrap();
        let both = ratios(&[&narrow.0, &large.0, &small.0], &[&narrow.1, &large.1, &small.1]);
        assert_eq!(both.unwrap(), [ratio]);
        assert!(ratios(&[&narrow.0, &small.0], &[&narrow.1, &small.1]).is_err());
    }

    #[test]
    fn a_byte_more_is_an_error() {
        let (format, mut trellis) = rows("gaussian:64x256");
        trellis.bytes = Some(9217);
        let error = ratios(&[&format], &[&trellis]).unwrap_err();
        assert_eq!(error.to_string(), "`gaussian` has 9217 bytes instead of 9216");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 4.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), 3.0);
    }
}
