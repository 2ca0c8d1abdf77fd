//! `cargo xtask rate-distortion`: pictures and tables of every codec against Shannon's bound.

mod family;
mod picture;
mod point;

use std::fs;

use anyhow::{Context, Result};

use crate::equal_bytes;
use crate::lab::Lab;
use crate::measure::{Bench, Table, paragraph, presets, significant};
use crate::stamp::stamp;
use point::Point;

/// The codec drawn as curves; the others are marks.
const TRELLIS: &str = "trellis";
/// Its numbers of states: fast, balanced, best.
const STATES: [u32; 3] = [8, 64, 256];
/// Its rates, in bits per weight.
const RATES: [f64; 11] = [0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];

/// A suite to measure.
struct Subject {
    /// Part of file names.
    name: &'static str,
    title: &'static str,
    suite: String,
}

/// A subject with its measurements.
struct Run {
    subject: Subject,
    bench: Bench,
}

const INTRODUCTION: &str = "\
Every point is measured: weights are encoded, written as bytes, read back and decoded. Bits per
weight count all sections of all tensors; NMSE is Σ‖w − ŵ‖²/Σ‖w‖². The vertical axis of the pictures,
the *gap* in the tables, is the bits per weight above ½·log₂(1/NMSE), the least rate for independent
Gaussian weights by Shannon's theorem. At equal bits, a gap smaller by 0.1 is an NMSE smaller by
13 %. Laplacian and trained weights are easier than Gaussian weights of the same energy, so their
gaps can be negative. Sizes and errors are the same on every machine, except the last digits of the
errors of a singular value decomposition.";

const CODECS: &str = "\
`trellis` is measured at eleven rates with 8, 64 and 256 states, every other codec with all its
presets. Left out are exact codecs, codecs that need a base tensor, and codecs that refuse a tensor
of the suite.";

/// Measures, draws the pictures, and returns the page.
///
/// # Errors
/// If a measurement fails, or a picture cannot be written.
pub fn page(lab: &Lab) -> Result<String> {
    let others: Vec<_> = presets(&lab.registry).into_iter().filter(|spec| id(spec) != TRELLIS).collect();
    let grid: Vec<_> = STATES.into_iter().flat_map(|states| RATES.map(|bits| trellis(states, bits))).collect();
    let specs = || others.iter().chain(&grid).map(String::as_str).collect();
    let measure = |subject: Subject| Ok(Run { bench: Bench::run(lab, &subject.suite, specs())?, subject });
    let runs = subjects(lab).into_iter().map(measure).collect::<Result<Vec<_>>>()?;
    let introduction = format!("{} {INTRODUCTION}", stamp(&lab.root, "rate-distortion"));
    let mut sections = vec![format!("# Rate and distortion\n\n{}", paragraph(&introduction)), paragraph(CODECS)];
    for run in &runs {
        let file = format!("rate-distortion-{}.svg", run.subject.name);
        fs::write(lab.root.join("docs").join(&file), draw(run, &others)?)?;
        sections
            .push(format!("## {}\n\n![bits above Shannon's bound by bits per weight]({file})\n", run.subject.title));
    }
    sections.extend([
        trellis_table(&runs)?.under("`trellis`: gaps by states and bits", TRELLIS_TEXT),
        others_table(&runs, &others)?.under("The other codecs", OTHERS_TEXT),
        equal_bytes::measure(lab, None)?.under("In the bytes of ggml's formats", equal_bytes::TEXT),
    ]);
    Ok(sections.join("\n"))
}

const TRELLIS_TEXT: &str = "\
Bits count everything: tables, scales, the ends of the streams. Gaps refer to the bits that were
used. These stand in parentheses if they are fewer than allowed by one hundredth or more.";

const OTHERS_TEXT: &str = "Each preset, most bits first.";

fn subjects(lab: &Lab) -> [Subject; 3] {
    [
        Subject { name: "gaussian", title: "A million Gaussian weights", suite: "gaussian".to_owned() },
        Subject { name: "laplace", title: "A million Laplacian weights", suite: "laplace".to_owned() },
        Subject {
            name: "layers",
            title: "Two trained layers of a small language model (`assets/gpt2_mini_layers`)",
            suite: lab.layers(),
        },
    ]
}

fn trellis(states: u32, bits: f64) -> String {
    format!("{TRELLIS}:states={states}:bits={bits}")
}

/// The codec id of a spec.
fn id(spec: &str) -> &str {
    spec.split([':', '(']).next().unwrap_or(spec)
}

fn draw(run: &Run, others: &[String]) -> Result<String> {
    let curve = |states| {
        let points = RATES.map(|bits| curve_point(run, states, bits));
        Ok(picture::Curve { states, points: points.into_iter().collect::<Result<_>>()? })
    };
    let curves = STATES.map(curve).into_iter().collect::<Result<Vec<_>>>()?;
    let mut marks = Vec::new();
    for spec in others {
        marks.extend(Point::of(&run.bench, spec)?.map(|point| picture::Mark { spec, point }));
    }
    Ok(picture::svg(&run.subject.title.replace('`', ""), &curves, &marks))
}

fn curve_point(run: &Run, states: u32, bits: f64) -> Result<Point> {
    let spec = trellis(states, bits);
    Point::of(&run.bench, &spec)?.with_context(|| format!("{}: `{spec}` has no result", run.subject.title))
}

fn trellis_table(runs: &[Run]) -> Result<Table> {
    let titles = runs.iter().flat_map(|run| STATES.map(|states| format!("{}, {states}", run.subject.name)));
    let mut table = Table::new(["Bits".to_owned()].into_iter().chain(titles));
    for bits in RATES {
        let mut row = vec![bits.to_string()];
        for run in runs {
            for states in STATES {
                row.push(gap(curve_point(run, states, bits)?, bits));
            }
        }
        table.row(row);
    }
    Ok(table)
}

/// The gap, and the bits that were used if they are fewer than allowed by one hundredth or more.
fn gap(point: Point, most: f64) -> String {
    let bits = if point.bits > 0.99 * most { String::new() } else { format!(" ({:.3} bits)", point.bits) };
    format!("{:.3}{bits}", point.gap())
}

fn others_table(runs: &[Run], others: &[String]) -> Result<Table> {
    let columns = |run: &Run| ["bits", "NMSE", "gap"].map(|title| format!("{}: {title}", run.subject.name));
    let mut table = Table::new(["Codec".to_owned()].into_iter().chain(runs.iter().flat_map(columns)));
    let mut rows = Vec::new();
    for spec in others {
        let points = runs.iter().map(|run| Point::of(&run.bench, spec)).collect::<Result<Vec<_>>>()?;
        let most = points.iter().flatten().map(|point| point.bits).next();
        let cells = points.iter().flat_map(|point| cells(point.as_ref()));
        rows.extend(most.map(|most| (most, [format!("`{spec}`")].into_iter().chain(cells).collect::<Vec<_>>())));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, row) in rows {
        table.row(row);
    }
    Ok(table)
}

fn cells(point: Option<&Point>) -> [String; 3] {
    let shown = |point: &Point| [format!("{:.3}", point.bits), significant(point.nmse), format!("{:.3}", point.gap())];
    point.map_or_else(|| ["–", "–", "–"].map(str::to_owned), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_begins_with_its_codec() {
        assert_eq!(["trellis:bits=2", "delta(a:b=1)", "seedlm"].map(id), ["trellis", "delta", "seedlm"]);
        assert_eq!(id("trellis.bitshift:preset=x"), "trellis.bitshift");
    }

    #[test]
    fn unused_bits_are_shown() {
        let point = |bits| Point { bits, nmse: 0.25 };
        assert_eq!([gap(point(2.0), 2.0), gap(point(1.5), 2.0)], ["1.000", "0.500 (1.500 bits)"]);
    }

    #[test]
    fn numbers_in_specs_are_plain() {
        assert_eq!([trellis(8, 2.0), trellis(64, 0.75)], ["trellis:states=8:bits=2", "trellis:states=64:bits=0.75"]);
    }
}
