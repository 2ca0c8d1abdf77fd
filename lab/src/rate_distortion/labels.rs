//! Short names beside marks, where there is room.

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

/// Font size.
pub const SIZE: f64 = 11.0;

/// Distance below which two marks hide each other.
const HIDDEN: f64 = 5.0;

/// The rectangle of a text or a mark.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    /// The area of a mark.
    pub fn mark((x, y): (f64, f64)) -> Self {
        Self { left: x - 5.0, top: y - 5.0, right: x + 5.0, bottom: y + 5.0 }
    }

    /// The area of a text; most letters are narrower than 0.6 times the font size.
    fn text(text: &str, anchor: Anchor) -> Self {
        let width = 0.6 * SIZE * text.len() as f64;
        let (left, y) = match anchor {
            Anchor::Start(x, y) => (x, y),
            Anchor::Middle(x, y) => (x - width / 2.0, y),
            Anchor::End(x, y) => (x - width, y),
        };
        Self { left, top: y - SIZE, right: left + width, bottom: y + 2.0 }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left && other.right <= self.right && self.top <= other.top && other.bottom <= self.bottom
    }
}

/// A name beside a mark.
#[derive(Debug, PartialEq)]
pub struct Label {
    pub spec: &'static str,
    pub name: &'static str,
    pub anchor: Anchor,
}

/// A place on a text's base line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    Start(f64, f64),
    Middle(f64, f64),
    End(f64, f64),
}

/// Labels for these specs at these places. They lie inside `frame` and overlap neither each other
/// nor the areas in `taken`.
pub fn place(marks: &[(&str, (f64, f64))], frame: (f64, f64, f64, f64), mut taken: Vec<Area>) -> Vec<Label> {
    let frame = Area { left: frame.0, top: frame.1, right: frame.2, bottom: frame.3 };
    let (mut labels, mut named) = (Vec::new(), Vec::new());
    for (spec, name) in NAMES {
        let Some((_, mark)) = marks.iter().find(|(known, _)| *known == spec) else { continue };
        // A reader would take the label of a hidden mark for that of the mark above it.
        if named.iter().any(|other: &(f64, f64)| (other.0 - mark.0).abs() < HIDDEN && (other.1 - mark.1).abs() < HIDDEN)
        {
            continue;
        }
        let free = |anchor: &Anchor| {
            let area = Area::text(name, *anchor);
            frame.holds(&area) && !taken.iter().any(|other| area.meets(other))
        };
        if let Some(anchor) = around(*mark).into_iter().find(free) {
            taken.push(Area::text(name, anchor));
            named.push(*mark);
            labels.push(Label { spec, name, anchor });
        }
    }
    labels
}

/// Candidate places of a label: right, left, above, below, and the corners.
fn around((x, y): (f64, f64)) -> [Anchor; 8] {
    let (right, left) = (x + 7.0, x - 7.0);
    let (above, level, below) = (y - 7.5, y + 4.0, y + 16.5);
    [
        Anchor::Start(right, level),
        Anchor::End(left, level),
        Anchor::Middle(x, above),
        Anchor::Middle(x, below),
        Anchor::Start(right, above + 3.0),
        Anchor::Start(right, below - 3.0),
        Anchor::End(left, above + 3.0),
        Anchor::End(left, below - 3.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: (f64, f64, f64, f64) = (0.0, 0.0, 200.0, 100.0);

    #[test]
    fn a_label_stands_to_the_right_or_where_there_is_room() {
        let at = |x| place(&[("quant.q4_k:preset=default", (x, 50.0))], FRAME, Vec::new());
        assert_eq!(at(50.0)[0].anchor, Anchor::Start(57.0, 54.0));
        assert_eq!(at(190.0)[0].anchor, Anchor::End(183.0, 54.0));
    }

    #[test]
    fn one_of_two_marks_in_one_place_has_a_label() {
        let marks = [("quant.nvfp4:preset=nvfp4", (50.0, 50.0)), ("quant.q4_k:preset=default", (50.0, 51.0))];
        let names: Vec<_> = place(&marks, FRAME, Vec::new()).iter().map(|label| label.name).collect();
        assert_eq!(names, ["q4_k"]);
    }

    #[test]
    fn a_label_without_room_is_left_out() {
        let mark = ("quant.q4_k:preset=default", (50.0, 50.0));
        let all = Area { left: 0.0, top: 0.0, right: 200.0, bottom: 100.0 };
        assert!(place(&[mark], FRAME, vec![all]).is_empty());
        assert!(place(&[("unknown", (50.0, 50.0))], FRAME, Vec::new()).is_empty());
    }
}
