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

/// A model in the picture.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bits per weight.
    pub bits: f64,
    /// Mean KL divergence from the dense model, in nats per token.
    pub kl: f64,
}

/// The ranges of the axes.
struct Axes {
    bits: f64,
    /// Powers of ten.
    decades: (i32, i32),
}

impl Axes {
    fn of(seen: &[Mark<'_>]) -> Self {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let bits = most(&mut seen.iter().map(|mark| mark.bits)).max(1.0);
        let high = most(&mut seen.iter().map(|mark| mark.kl.log10()));
        let low = -most(&mut seen.iter().map(|mark| -mark.kl.log10()));
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

    fn place(&self, mark: Mark<'_>) -> Place {
        (self.across(mark.bits), self.down(mark.kl))
    }
}

/// Draws a mark for each packed model, and a line through those that no other one surpasses: in
/// bits per weight and in mean KL divergence. A note names the rows that have no place.
pub fn svg(rows: &[ModelRow]) -> String {
    let mark = |row| {
        let ModelRow { recipe, bits_per_weight, kl, .. }: &ModelRow = row;
        Some(Mark { name: recipe, bits: *bits_per_weight, kl: (*kl)? })
    };
    let marks: Vec<_> = rows.iter().filter_map(mark).collect();
    picture(rows.first().map_or("", |row| &row.model), &marks)
}

/// As [`svg`], of a model and its variants.
pub fn picture(model: &str, marks: &[Mark<'_>]) -> String {
    let title = format!("KL divergence of {model} by bits per weight");
    let mut svg = Svg::new(SIZE, &title, &title, FRAME.0);
    let (seen, others) = sort(marks);
    let axes = Axes::of(&seen);
    draw_axes(&mut svg, &axes);
    let best: Vec<_> = front(&seen).into_iter().map(|point| axes.place(point)).collect();
    svg.polyline(&best, "#b9c7de", 1.5);
    for &mark in &seen {
        let ((x, y), Mark { name, bits, kl }) = (axes.place(mark), mark);
        let title = escaped(&format!("{name}: {bits:.3} bits, KL {kl:.3e}"));
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

/// The models that have a place, and what is said of the others.
fn sort<'a>(marks: &[Mark<'a>]) -> (Vec<Mark<'a>>, Vec<String>) {
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    for mark in marks {
        let Mark { name, bits, kl } = *mark;
        if kl > 0.0 && kl.is_finite() && bits <= MOST_BITS {
            seen.push(*mark);
        } else {
            others.push(format!("{name} ({bits:.1} bits, KL {kl:.1e})"));
        }
    }
    (seen, others)
}

/// The models with less divergence than every one with at most as many bits, by bits.
fn front<'a>(seen: &[Mark<'a>]) -> Vec<Mark<'a>> {
    let mut sorted = seen.to_vec();
    sorted.sort_by(|a, b| a.bits.total_cmp(&b.bits).then(a.kl.total_cmp(&b.kl)));
    let mut best = f64::INFINITY;
    sorted.retain(|mark| {
        let better = mark.kl < best;
        best = best.min(mark.kl);
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

fn draw_labels(svg: &mut Svg, axes: &Axes, seen: &[Mark<'_>]) {
    let names = shorten_all(&seen.iter().map(|mark| mark.name).collect::<Vec<_>>(), LABEL);
    let marks: Vec<_> = names.iter().zip(seen).map(|(name, mark)| (&**name, axes.place(*mark))).collect();
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

    const MARKS: [Mark<'static>; 4] = [
        Mark { name: "lossless", bits: 26.7, kl: 0.0 },
        Mark { name: "q4 <&>", bits: 4.2, kl: 1e-2 },
        Mark { name: "worse", bits: 4.5, kl: 2e-2 },
        Mark { name: "int8", bits: 8.1, kl: 1e-4 },
    ];

    #[test]
    fn models_that_have_a_place_are_drawn_and_the_rest_is_named() {
        let rows: Vec<_> = MARKS.iter().map(|mark| row(mark.name, mark.bits, Some(mark.kl))).collect();
        let svg = svg(&[vec![row("dense", 32.0, None)], rows].concat());
        assert_eq!(svg.matches("class=\"mark\"").count(), 3);
        assert!(svg.contains("not drawn: lossless (26.7 bits, KL 0.0e0)"), "{svg}");
        assert!(svg.contains(">q4 &lt;&amp;&gt;</text>") && svg.contains("<title>int8: 8.100 bits, KL 1.000e-4"));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        let best: Vec<_> = front(&sort(&MARKS).0).iter().map(|mark| mark.name).collect();
        assert_eq!(best, ["q4 <&>", "int8"]);
    }

    #[test]
    fn the_axes_hold_every_mark() {
        let marks = [Mark { name: "a", bits: 1.6, kl: 3.0 }, Mark { name: "b", bits: 11.9, kl: 2e-9 }];
        let axes = Axes::of(&sort(&marks).0);
        assert_eq!(axes.decades, (-9, 1));
        for mark in marks {
            let (x, y) = axes.place(mark);
            assert!((FRAME.0..=FRAME.2).contains(&x) && (FRAME.1..=FRAME.3).contains(&y), "{x} {y}");
        }
        assert!(picture("", &[]).contains("1e-4"));
    }
}
