//! KL divergence against bits per weight, as SVG.

use super::ModelRow;
use crate::picture::labels::{self, Area, Label};
use crate::picture::{Place, Svg, escaped};
use crate::text::shorten_all;

/// Width and height of the picture.
const SIZE: (f64, f64) = (800.0, 520.0);
/// Left, top, right and bottom edge of the axes.
const FRAME: (f64, f64, f64, f64) = (74.0, 44.0, 780.0, 468.0);
/// Rows with more bits per weight are noted, not drawn: the rest would be crowded.
const MOST_BITS: f64 = 12.0;
/// Characters of a label.
const LABEL: usize = 28;
const BLUE: &str = "#2f6fd0";

/// The ranges of the axes.
struct Axes {
    bits: f64,
    /// Powers of ten.
    decades: (i32, i32),
}

impl Axes {
    fn of(seen: &[(&ModelRow, f64)]) -> Self {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let bits = most(&mut seen.iter().map(|(row, _)| row.bits_per_weight)).max(1.0);
        let high = most(&mut seen.iter().map(|(_, kl)| kl.log10()));
        let low = -most(&mut seen.iter().map(|(_, kl)| -kl.log10()));
        let (low, high) = if seen.is_empty() { (-4, 0) } else { (low.floor() as i32, high.ceil() as i32) };
        Self { bits: bits + 0.5, decades: (low, high.max(low + 1)) }
    }

    fn across(&self, bits: f64) -> f64 {
        FRAME.0 + bits / self.bits * (FRAME.2 - FRAME.0)
    }

    fn down(&self, kl: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        FRAME.3 - (kl.log10() - low) / (high - low) * (FRAME.3 - FRAME.1)
    }

    fn place(&self, (row, kl): (&ModelRow, f64)) -> Place {
        (self.across(row.bits_per_weight), self.down(kl))
    }
}

/// Draws a mark for each packed model, and a line through those that no other one surpasses: in
/// bits per weight and in mean KL divergence. A note names the rows that have no place.
pub fn svg(rows: &[ModelRow]) -> String {
    let of = rows.first().map_or("", |row| &row.model);
    let title = format!("KL divergence of {of} by bits per weight");
    let mut svg = Svg::new(SIZE, &title, &title, FRAME.0);
    let (seen, others) = sort(rows);
    let axes = Axes::of(&seen);
    draw_axes(&mut svg, &axes);
    let best: Vec<_> = front(&seen).into_iter().map(|point| axes.place(point)).collect();
    svg.polyline(&best, "#b9c7de", 1.5);
    for &(row, kl) in &seen {
        let (x, y) = axes.place((row, kl));
        let title = escaped(&format!("{}: {:.3} bits, KL {kl:.3e}", row.recipe, row.bits_per_weight));
        svg.line(&format!(
            "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{BLUE}\"><title>{title}</title></circle>"
        ));
    }
    draw_labels(&mut svg, &axes, &seen);
    if !others.is_empty() {
        svg.text((FRAME.2, FRAME.3 + 46.0), "end", "#555", &format!("not drawn: {}", others.join("; ")));
    }
    svg.finish()
}

/// The packed models that have a place, with their divergences, and what is said of the others.
fn sort(rows: &[ModelRow]) -> (Vec<(&ModelRow, f64)>, Vec<String>) {
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    for (row, kl) in rows.iter().filter_map(|row| Some((row, row.kl?))) {
        if kl > 0.0 && kl.is_finite() && row.bits_per_weight <= MOST_BITS {
            seen.push((row, kl));
        } else {
            others.push(format!("{} ({:.1} bits, KL {kl:.1e})", row.recipe, row.bits_per_weight));
        }
    }
    (seen, others)
}

/// The rows with less divergence than every row with at most as many bits, by bits.
fn front<'a>(seen: &[(&'a ModelRow, f64)]) -> Vec<(&'a ModelRow, f64)> {
    let mut sorted = seen.to_vec();
    sorted.sort_by(|(a, x), (b, y)| a.bits_per_weight.total_cmp(&b.bits_per_weight).then(x.total_cmp(y)));
    let mut best = f64::INFINITY;
    sorted.retain(|(_, kl)| {
        let better = *kl < best;
        best = best.min(*kl);
        better
    });
    sorted
}

fn draw_axes(svg: &mut Svg, axes: &Axes) {
    let (left, top, right, bottom) = FRAME;
    for bits in 0..=axes.bits as u32 {
        let x = axes.across(f64::from(bits));
        svg.rule((x, top), (x, bottom), "#e4e4e4", 1.0);
        svg.text((x, bottom + 18.0), "middle", "#333", &bits.to_string());
    }
    for power in axes.decades.0..=axes.decades.1 {
        let y = axes.down(10f64.powi(power));
        svg.rule((left, y), (right, y), "#e4e4e4", 1.0);
        svg.text((left - 8.0, y + 4.0), "end", "#333", &format!("1e{power}"));
    }
    svg.frame(FRAME);
    svg.text((f64::midpoint(left, right), bottom + 34.0), "middle", "#111", "bits per weight");
    svg.upright((22.0, f64::midpoint(top, bottom)), "#111", "mean KL divergence from the dense model, nats per token");
}

fn draw_labels(svg: &mut Svg, axes: &Axes, seen: &[(&ModelRow, f64)]) {
    let names = shorten_all(&seen.iter().map(|(row, _)| &*row.recipe).collect::<Vec<_>>(), LABEL);
    let marks: Vec<_> = names.iter().zip(seen).map(|(name, point)| (&**name, axes.place(*point))).collect();
    let taken = marks.iter().map(|(_, at)| Area::mark(*at)).collect();
    for Label { name, anchor, .. } in labels::place(&marks, FRAME, taken) {
        let (anchor, at) = anchor.parts();
        svg.text(at, anchor, BLUE, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    #[test]
    fn rows_that_have_a_place_are_drawn_and_the_rest_is_named() {
        let rows = [
            row("dense", 32.0, None),
            row("lossless", 26.7, Some(0.0)),
            row("q4 <&>", 4.2, Some(1e-2)),
            row("worse", 4.5, Some(2e-2)),
            row("int8", 8.1, Some(1e-4)),
        ];
        let svg = svg(&rows);
        assert_eq!(svg.matches("class=\"mark\"").count(), 3);
        assert!(svg.contains("not drawn: lossless (26.7 bits, KL 0.0e0)"), "{svg}");
        assert!(svg.contains(">q4 &lt;&amp;&gt;</text>") && svg.contains("<title>int8: 8.100 bits, KL 1.000e-4"));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        let best: Vec<_> = front(&sort(&rows).0).iter().map(|(row, _)| row.recipe.clone()).collect();
        assert_eq!(best, ["q4 <&>", "int8"]);
    }

    #[test]
    fn the_axes_hold_every_mark() {
        let rows = [row("a", 1.6, Some(3.0)), row("b", 11.9, Some(2e-9))];
        let axes = Axes::of(&sort(&rows).0);
        assert_eq!(axes.decades, (-9, 1));
        for point in sort(&rows).0 {
            let (x, y) = axes.place(point);
            assert!((FRAME.0..=FRAME.2).contains(&x) && (FRAME.1..=FRAME.3).contains(&y), "{x} {y}");
        }
        assert!(svg(&[]).contains("1e-4"));
    }
}
