//! `cargo xtask equal-bytes`: what `trellis` leaves of the error of ggml's formats in the same bytes.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::measure::{Bench, Cell, Table};
use crate::tree::Tree;

/// A format, and its bits per weight.
const FORMATS: [(&str, f64); 5] = [
    ("quant.q6_k", 6.5625),
    ("quant.q4_k", 4.5),
    ("quant.iq4_xs", 4.25),
    ("quant.q3_k", 3.4375),
    ("quant.q2_k", 2.625),
];

/// Smaller tensors are kept in full in real models.
const LEAST_WEIGHTS: u64 = 1 << 14;

/// What the table is.
pub const TEXT: &str = "\
`trellis:bits=…` with exactly the bits per weight of a format, on each matrix of 16,384 weights and more whose rows are whole blocks: its NMSE divided by
the format's. It never takes a byte more than the format. `cargo xtask equal-bytes SUITE` prints such a
table of other models; this one is of `assets/gpt2_mini_layers`.";

/// Measures and prints the table of a suite, of trained layers if none is given.
///
/// # Errors
/// If a measurement fails, or `trellis` takes more bytes than a format.
pub fn run(tree: &Tree, suite: Option<&str>) -> Result<ExitCode> {
    let table = match suite {
        Some(suite) => measure(tree, suite)?,
        None => layers(tree)?,
    };
    print!("{}", table.text());
    Ok(ExitCode::SUCCESS)
}

/// The table of the trained layers in the tree.
///
/// # Errors
/// As [`run`].
pub fn layers(tree: &Tree) -> Result<Table> {
    measure(tree, &tree.layers())
}

fn measure(tree: &Tree, suite: &str) -> Result<Table> {
    let pairs = FORMATS.map(|(format, bits)| (format, bits, format!("trellis:bits={bits}")));
    let specs = pairs.iter().flat_map(|(format, _, trellis)| [*format, trellis]);
    let bench = Bench::run(tree, suite, specs.collect())?;
    let mut table = Table::new(["Format", "Bits per weight", "Tensors", "Least", "Median", "Largest"]);
    for (format, bits, trellis) in &pairs {
        let ratios = ratios(&bench.cells(format)?, &bench.cells(trellis)?)
            .with_context(|| format!("suite {suite}, `{trellis}` beside `{format}`"))?;
        let tensors = ratios.len();
        let [least, middle, largest] = [ratios[0], median(&ratios), ratios[tensors - 1]].map(|v| format!("{v:.3}"));
        table.row([format!("`{format}`"), bits.to_string(), tensors.to_string(), least, middle, largest]);
    }
    Ok(table)
}

/// NMSEs of the second by those of the first, ascending, of all large matrices that the first takes.
fn ratios(formats: &[Cell<'_>], trellises: &[Cell<'_>]) -> Result<Vec<f64>> {
    let mut ratios = Vec::new();
    for (format, trellis) in formats.iter().zip(trellises) {
        let Some(of_format) = format.measured.filter(|m| m.weights >= LEAST_WEIGHTS && m.nmse > 0.0) else { continue };
        if format.shape.len() != 2 {
            continue;
        }
        let tensor = format.tensor;
        let of_trellis = trellis.measured.with_context(|| format!("`{tensor}` is refused"))?;
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
    use super::*;
    use crate::measure::Measured;

    fn measured(bytes: u64, nmse: f64) -> Measured {
        let (weights, encode_mb_per_s) = (LEAST_WEIGHTS, 1.0);
        let (relative_error, mse, max_abs_error, decode_mb_per_s) = (nmse.sqrt(), nmse, nmse, 1.0);
        Measured { weights, bytes, nmse, relative_error, mse, max_abs_error, encode_mb_per_s, decode_mb_per_s }
    }

    fn cell<'a>(shape: &'a [usize], measured: Option<&'a Measured>) -> Cell<'a> {
        Cell { tensor: "t", shape, measured }
    }

    #[test]
    fn ratios_are_of_matrices_that_the_format_takes() {
        let (format, trellis) = (measured(9216, 0.01), measured(9216, 0.005));
        let formats = [cell(&[64, 256], Some(&format)), cell(&[1 << 14], Some(&format)), cell(&[256, 64], None)];
        let trellises = formats.iter().map(|f| cell(f.shape, Some(&trellis))).collect::<Vec<_>>();
        assert_eq!(ratios(&formats, &trellises).unwrap(), [0.5]);
        assert!(ratios(&formats[1..], &trellises[1..]).is_err());
    }

    #[test]
    fn a_byte_more_is_an_error() {
        let (format, trellis) = (measured(9216, 0.01), measured(9217, 0.005));
        let error = ratios(&[cell(&[64, 256], Some(&format))], &[cell(&[64, 256], Some(&trellis))]).unwrap_err();
        assert_eq!(error.to_string(), "`t` has 9217 bytes instead of 9216");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 4.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), 3.0);
    }
}
