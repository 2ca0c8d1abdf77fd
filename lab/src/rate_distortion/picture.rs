//! The picture as SVG: bits above Shannon's bound against bits per weight.

use harness::picture::Svg;
use harness::picture::labels::{self, Area, Label};

use super::family::{FAMILIES, Family, Shape};
use super::point::Point;

/// `trellis` with one number of states.
pub struct Curve {
    pub states: u32,
    /// Sorted by bits.
    pub points: Vec<Point>,
}

/// Another codec.
pub struct Mark<'a> {
    pub spec: &'a str,
    pub point: Point,
}

/// Width and height of the picture.
const SIZE: (f64, f64) = (960.0, 560.0);
/// Left, top, right and bottom edge of the axes.
const FRAME: (f64, f64, f64, f64) = (62.0, 44.0, 770.0, 508.0);
/// Range of the horizontal axis, in bits per weight.
const BITS: (f64, f64) = (0.3, 8.75);
/// Range of the vertical axis, in bits per weight above the bound.
const GAPS: (f64, f64) = (-0.2, 1.5);
/// Colours of the curves, from few states to many.
const BLUES: [&str; 3] = ["#74a9e8", "#2f6fd0", "#0b2f7a"];

/// Well-known points, the most important first.
const NAMES: [(&str, &str); 24] = [
    ("quant.q4_k:preset=default", "q4_k"),
    ("quant.q2_k:preset=default", "q2_k"),
    ("quant.q3_k:preset=default", "q3_k"),
    ("quant.q6_k:preset=default", "q6_k"),
    ("quant.nf4:preset=double-quant", "nf4"),
    ("quant.iq4_xs:preset=default", "iq4_xs"),
    ("quant.q8_0:preset=default", "q8_0"),
    ("quant.q5_k:preset=default", "q5_k"),
    ("quant.mxfp4:preset=mxfp4", "mxfp4"),
    ("quant.q4_0:preset=default", "q4_0"),
    ("quant.nvfp4:preset=nvfp4", "nvfp4"),
    ("quant.ternary:preset=least-squares", "ternary"),
    ("quant.ternary:preset=absmean", "absmean"),
    ("quant.int:preset=int4", "int4"),
    ("quant.int:preset=int8", "int8"),
    ("seedlm:preset=4bit", "4bit"),
    ("seedlm:preset=3bit", "3bit"),
    ("seedlm:preset=2bit", "2bit"),
    ("quant.vector:preset=4bit", "4bit"),
    ("quant.vector:preset=3bit", "3bit"),
    ("quant.vector:preset=2bit", "2bit"),
    ("quant.fp8:preset=e4m3", "e4m3"),
    ("quant.q5_1:preset=default", "q5_1"),
    ("baseline.mean:preset=default", "mean"),
];

/// Draws curves and marks; a note counts the marks outside the axes.
pub fn svg(title: &str, curves: &[Curve], marks: &[Mark<'_>]) -> String {
    let (seen, above, aside) = sort(marks);
    let heading = format!("{title}: bits above Shannon's bound by bits per weight");
    let mut svg = Svg::new(SIZE, &heading, title, FRAME.0);
    axes(&mut svg);
    for (curve, colour) in curves.iter().zip(BLUES) {
        draw_curve(&mut svg, curve, colour);
    }
    // Later families in the legend are drawn first, below the others.
    for mark in FAMILIES.iter().rev().flat_map(|family| seen.iter().filter(move |mark| Family::of(mark.spec) == family))
    {
        let Family { colour, shape, .. } = Family::of(mark.spec);
        let (x, y) = place(mark.point);
        let path = draw_shape(*shape, colour, (x, y));
        let Point { bits, .. } = mark.point;
        let gap = mark.point.gap();
        svg.line(&format!("<g class=\"mark\"><title>{}: {bits:.3} bits, gap {gap:.3}</title>{path}</g>", mark.spec));
    }
    draw_labels(&mut svg, curves, &seen);
    legend(&mut svg, curves, &seen);
    if above + aside > 0 {
        let note = format!("not shown: {above} with larger gaps, {aside} with fewer or more bits; see the table");
        svg.text((FRAME.2, FRAME.1 - 6.0), "end", "#555", &note);
    }
    svg.finish()
}

/// Marks inside the axes, and the number of marks above and beside them.
fn sort<'a>(marks: &'a [Mark<'a>]) -> (Vec<&'a Mark<'a>>, usize, usize) {
    let in_bits = |mark: &&Mark<'_>| mark.point.bits >= BITS.0 && mark.point.bits <= BITS.1;
    let in_gaps = |mark: &&Mark<'_>| mark.point.gap() >= GAPS.0 && mark.point.gap() <= GAPS.1;
    let wide: Vec<_> = marks.iter().filter(in_bits).collect();
    let seen: Vec<_> = wide.iter().copied().filter(in_gaps).collect();
    let (above, aside) = (wide.len() - seen.len(), marks.len() - wide.len());
    (seen, above, aside)
}

fn across(bits: f64) -> f64 {
    FRAME.0 + (bits - BITS.0) / (BITS.1 - BITS.0) * (FRAME.2 - FRAME.0)
}

fn down(gap: f64) -> f64 {
    FRAME.3 - (gap - GAPS.0) / (GAPS.1 - GAPS.0) * (FRAME.3 - FRAME.1)
}

fn place(point: Point) -> (f64, f64) {
    (across(point.bits), down(point.gap()))
}

fn axes(svg: &mut Svg) {
    let (left, top, right, bottom) = FRAME;
    for bits in 1..=8 {
        let x = across(f64::from(bits));
        svg.rule((x, top), (x, bottom), "#e4e4e4", 1.0);
        svg.text((x, bottom + 18.0), "middle", "#333", &bits.to_string());
    }
    for tenths in (0..=14).step_by(2) {
        let gap = f64::from(tenths) / 10.0;
        let (y, colour, width) = if tenths == 0 { (down(gap), "#111", 2.0) } else { (down(gap), "#e4e4e4", 1.0) };
        svg.rule((left, y), (right, y), colour, width);
        svg.text((left - 8.0, y + 4.0), "end", "#333", &format!("{gap:.1}"));
    }
    svg.frame(FRAME);
    svg.text((f64::midpoint(left, right), bottom + 40.0), "middle", "#111", "bits per weight");
    let middle = f64::midpoint(top, bottom);
    svg.upright((18.0, middle), "#111", "bits per weight above the bound");
}

fn draw_curve(svg: &mut Svg, curve: &Curve, colour: &str) {
    let places: Vec<_> = curve.points.iter().map(|point| place(*point)).collect();
    svg.polyline(&places, colour, 2.0);
    for (point, (x, y)) in curve.points.iter().zip(&places) {
        let (states, bits, gap) = (curve.states, point.bits, point.gap());
        let title = format!("trellis, {states} states: {bits:.3} bits, gap {gap:.3}");
        svg.line(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"><title>{title}</title></circle>"
        ));
    }
}

fn draw_shape(shape: Shape, colour: &str, (x, y): (f64, f64)) -> String {
    let open = matches!(shape, Shape::Cross | Shape::Plus);
    let style = if open {
        format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.4\"")
    } else {
        format!("fill=\"{colour}\" stroke=\"#fff\" stroke-width=\".8\"")
    };
    format!("<path d=\"M{x:.1} {y:.1}{}\" {style}/>", shape.path())
}

fn draw_labels(svg: &mut Svg, curves: &[Curve], marks: &[&Mark<'_>]) {
    let places: Vec<_> = marks.iter().map(|mark| (mark.spec, place(mark.point))).collect();
    let along = curves.iter().flat_map(|curve| along(&curve.points));
    let taken = places.iter().map(|(_, at)| *at).chain(along).map(Area::mark).collect();
    let known = |(spec, name)| Some((spec, name, places.iter().find(|(known, _)| *known == spec)?.1));
    let known: Vec<_> = NAMES.into_iter().filter_map(known).collect();
    let named: Vec<_> = known.iter().map(|(_, name, at)| (*name, *at)).collect();
    for Label { mark, name, anchor } in labels::place(&named, FRAME, taken) {
        let (anchor, (x, y)) = anchor.parts();
        let (size, colour) = (labels::SIZE, Family::of(known[mark].0).colour);
        let style = format!("text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\"");
        svg.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{name}</text>"));
    }
}

/// Points along a curve, dense enough to keep labels off it.
fn along(points: &[Point]) -> Vec<(f64, f64)> {
    const STEPS: u32 = 16;
    let between = |(a, b): ((f64, f64), (f64, f64))| {
        let part = |i| f64::from(i) / f64::from(STEPS);
        (0..=STEPS).map(move |i| (a.0 + part(i) * (b.0 - a.0), a.1 + part(i) * (b.1 - a.1)))
    };
    let places: Vec<_> = points.iter().map(|point| place(*point)).collect();
    places.iter().copied().zip(places.iter().copied().skip(1)).flat_map(between).collect()
}

fn legend(svg: &mut Svg, curves: &[Curve], marks: &[&Mark<'_>]) {
    let (left, step) = (FRAME.2 + 16.0, 21.0);
    let mut y = FRAME.1 + 12.0;
    for words in ["Shannon's bound", "for Gaussian weights"] {
        svg.text((left + 24.0, y + 4.0), "start", "#111", words);
        y += 15.0;
    }
    svg.rule((left - 2.0, FRAME.1 + 12.0), (left + 16.0, FRAME.1 + 12.0), "#111", 2.0);
    y += 6.0;
    for (curve, colour) in curves.iter().zip(BLUES).rev() {
        svg.rule((left - 2.0, y), (left + 16.0, y), colour, 2.0);
        svg.text((left + 24.0, y + 4.0), "start", "#111", &format!("trellis, {} states", curve.states));
        y += step;
    }
    for family in FAMILIES.iter().filter(|family| marks.iter().any(|mark| Family::of(mark.spec) == *family)) {
        svg.line(&draw_shape(family.shape, family.colour, (left + 7.0, y)));
        svg.text((left + 24.0, y + 4.0), "start", "#111", family.name);
        y += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> String {
        let point = |bits, gap: f64| Point { bits, nmse: (2.0 * (gap - bits)).exp2() };
        let curve = |states| Curve { states, points: vec![point(0.5, 0.1), point(8.0, 0.1)] };
        let marks = [
            Mark { spec: "quant.q4_k:preset=default", point: point(4.5, 0.66) },
            Mark { spec: "seedlm:preset=2bit", point: point(2.0, 0.5) },
            Mark { spec: "sparse.prune:preset=x", point: point(4.0, 3.0) },
            Mark { spec: "quant.cast:preset=bf16", point: point(16.0, 1.0) },
        ];
        svg("T", &[8, 64, 256].map(curve), &marks)
    }

    #[test]
    fn marks_inside_are_drawn_and_the_rest_counted() {
        let svg = picture();
        assert_eq!(svg.matches("class=\"mark\"").count(), 2);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (3, 6));
        assert!(svg.contains("not shown: 1 with larger gaps, 1 with fewer or more bits"));
        assert!(svg.contains(">q4_k</text>") && svg.contains(">blocks of ggml</text>") && !svg.contains(">others<"));
    }

    #[test]
    fn every_element_is_closed() {
        let svg = picture();
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1).map(|part| part.split_once('>').unwrap().0) {
            let name = tag.split(' ').next().unwrap();
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty() && svg.starts_with("<svg xmlns="));
    }

    #[test]
    fn the_axes_go_right_and_up() {
        assert!(across(1.0) < across(2.0) && down(0.0) > down(1.0));
        assert_eq!((across(BITS.0), down(GAPS.1)), (FRAME.0, FRAME.1));
    }
}
