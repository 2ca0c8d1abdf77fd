//! The tables of Gaussian weights: quality levels, enhancement layers.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{FOUR_BIT, THREE_BIT, code};
use crate::measure::{Bench, Measured, Table, beside, error_beside, ratio, ratio_beside, significant};

pub(super) const SUITE: &str = "gaussian:512x512";
/// Its only tensor.
pub(super) const TENSOR: &str = "gaussian";

/// The default, but blocks of six weights instead of eight.
pub(super) const SIX_WEIGHTS: &str = "seedlm:c=6";
/// Two bits per weight, and the base of the enhancement layers.
pub(super) const TWO_BIT: &str = "seedlm:preset=2bit";

/// A compression level of the seed.
struct Level {
    name: &'static str,
    error: f64,
    deviation: f64,
    ratio: f64,
    /// The codec compared with it.
    spec: &'static str,
}

const LEVELS: [Level; 5] = [
    Level { name: "0.1", error: 0.423, deviation: 0.145, ratio: 3.2, spec: SIX_WEIGHTS },
    Level { name: "0.3", error: 0.667, deviation: 0.223, ratio: 4.1, spec: FOUR_BIT.spec },
    Level { name: "0.5", error: 0.912, deviation: 0.334, ratio: 4.7, spec: "seedlm:c=10:p=4:mantissa_bits=3" },
    Level { name: "0.7", error: 1.245, deviation: 0.456, ratio: 5.3, spec: THREE_BIT.spec },
    Level { name: "0.9", error: 1.789, deviation: 0.623, ratio: 6.1, spec: TWO_BIT },
];

/// Layers, their codec, the seed's error, and the seed's bytes in percent of the base.
const ENHANCEMENT: [(&str, &str, f64, f64); 4] = [
    ("1 (Base only)", TWO_BIT, 1.234, 100.0),
    ("2 (Base + 1)", "seedlm:preset=2bit:layers=2", 0.923, 143.0),
    ("3 (Base + 2)", "seedlm:preset=2bit:layers=3", 0.756, 187.0),
    ("4 (Base + 3)", "seedlm:preset=2bit:layers=4", 0.645, 234.0),
];

pub(super) fn specs() -> BTreeSet<&'static str> {
    let levels = LEVELS.iter().map(|level| level.spec);
    levels.chain(ENHANCEMENT.map(|(_, spec, ..)| spec)).collect()
}

pub(super) fn levels(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Compression Level", "Codec", "Relative Error", "Effective Ratio", "Better"]);
    for level in &LEVELS {
        let cell = bench.cell(level.spec, TENSOR)?;
        let claim = format!("{} ± {}", level.error, level.deviation);
        table.row([
            level.name.to_owned(),
            code(level.spec),
            beside(&significant(cell.relative_error), &claim, cell.relative_error > level.error),
            ratio_beside(cell.ratio(), level.ratio),
            better(cell, level).to_owned(),
        ]);
    }
    let text = "On 512 × 512 weights N(0,1), like the next table and the tables on 30x. Each level \
        of the seed is compared with one configuration of SeedLM.";
    Ok(table.under("Quality vs Compression Level", text))
}

fn better(cell: Measured, level: &Level) -> &'static str {
    match (cell.relative_error < level.error, cell.ratio() > level.ratio) {
        (true, true) => "both",
        (true, false) => "error",
        (false, true) => "ratio",
        (false, false) => "neither",
    }
}

pub(super) fn enhancement(bench: &Bench) -> Result<String> {
    let base = bench.cell(TWO_BIT, TENSOR)?;
    let mut table = Table::new([
        "Number of Layers",
        "Relative Error",
        "Quality Improvement",
        "Bandwidth Overhead",
        "Bytes",
        "Bits per weight",
        "Ratio",
    ]);
    let mut before: Option<(f64, f64)> = None;
    for (name, spec, error, percent) in ENHANCEMENT {
        let cell = bench.cell(spec, TENSOR)?;
        let of_base = 100.0 * cell.bytes as f64 / base.bytes as f64;
        table.row([
            name.to_owned(),
            error_beside(cell.relative_error, error),
            before.map_or_else(|| "–".to_owned(), |before| improvement(before, (cell.relative_error, error))),
            beside(&format!("{of_base:.0} %"), &format!("{percent:.0} %"), of_base > percent),
            cell.bytes.to_string(),
            format!("{:.3}", cell.bits()),
            ratio(cell.ratio()),
        ]);
        before = Some((cell.relative_error, error));
    }
    let text = "The base is `seedlm:preset=2bit`; the others add `layers=2` to `layers=4`. Each \
        layer spends another 2 bits per weight on the error of the layers before. A payload of \
        four layers contains the payloads of three, two and one: a reader stops where its bytes \
        end. The seed does not state the size of its base. An enhancement layer here is as large \
        as the base, so the overhead in percent is worse than the claim.";
    Ok(table.under("Enhancement Layers Performance", text))
}

/// The share of the error that a layer removes; the pairs are measured and claimed errors.
fn improvement(before: (f64, f64), after: (f64, f64)) -> String {
    let percent = |before: f64, after: f64| 100.0 * (1.0 - after / before);
    let (measured, claim) = (percent(before.0, after.0), percent(before.1, after.1));
    beside(&format!("{measured:.0} %"), &format!("{claim:.0} %"), measured < claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvements_are_relative_to_the_error_before() {
        assert_eq!(improvement((0.4, 1.234), (0.1, 0.923)), "75 % (claim 25 %)");
        assert_eq!(improvement((0.4, 1.234), (0.39, 0.923)), "3 % (**worse** than the claim 25 %)");
    }
}
