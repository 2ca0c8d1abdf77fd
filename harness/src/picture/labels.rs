//! Short names beside marks, where there is room.

use super::Place;

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
    pub fn mark((x, y): Place) -> Self {
        Self { left: x - 5.0, top: y - 5.0, right: x + 5.0, bottom: y + 5.0 }
    }

    /// The area of a text; most letters are narrower than 0.6 times the font size.
    fn text(text: &str, anchor: Anchor) -> Self {
        let width = 0.6 * SIZE * text.chars().count() as f64;
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label<'a> {
    /// The number of the mark.
    pub mark: usize,
    /// The text.
    pub name: &'a str,
    /// Where it is.
    pub anchor: Anchor,
}

/// A place on a text's base line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    /// Where the text begins.
    Start(f64, f64),
    /// Its middle.
    Middle(f64, f64),
    /// Where it ends.
    End(f64, f64),
}

impl Anchor {
    /// The name in SVG, and the place.
    pub fn parts(self) -> (&'static str, Place) {
        match self {
            Self::Start(x, y) => ("start", (x, y)),
            Self::Middle(x, y) => ("middle", (x, y)),
            Self::End(x, y) => ("end", (x, y)),
        }
    }
}

/// Labels for marks with these names at these places, the most important first. They lie inside
/// `frame` (left, top, right, bottom), and overlap neither each other nor the areas in `taken`. A
/// mark without room, or hidden by one with a label, has none.
pub fn place<'a>(marks: &[(&'a str, Place)], frame: (f64, f64, f64, f64), mut taken: Vec<Area>) -> Vec<Label<'a>> {
    let frame = Area { left: frame.0, top: frame.1, right: frame.2, bottom: frame.3 };
    let (mut labels, mut named) = (Vec::new(), Vec::<Place>::new());
    for (mark, &(name, at)) in marks.iter().enumerate() {
        // A reader would take the label of a hidden mark for that of the mark above it.
        if named.iter().any(|other| (other.0 - at.0).abs() < HIDDEN && (other.1 - at.1).abs() < HIDDEN) {
            continue;
        }
        let free = |anchor: &Anchor| {
            let area = Area::text(name, *anchor);
            frame.holds(&area) && !taken.iter().any(|other| area.meets(other))
        };
        if let Some(anchor) = around(at).into_iter().find(free) {
            taken.push(Area::text(name, anchor));
            named.push(at);
            labels.push(Label { mark, name, anchor });
        }
    }
    labels
}

/// Candidate places of a label: right, left, above, below, and the corners.
fn around((x, y): Place) -> [Anchor; 8] {
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
        let at = |x| place(&[("q4_k", (x, 50.0))], FRAME, Vec::new());
        assert_eq!(at(50.0)[0].anchor, Anchor::Start(57.0, 54.0));
        assert_eq!(at(190.0)[0].anchor, Anchor::End(183.0, 54.0));
    }

    #[test]
    fn one_of_two_marks_in_one_place_has_a_label() {
        let marks = [("q4_k", (50.0, 51.0)), ("nvfp4", (50.0, 50.0))];
        let names: Vec<_> = place(&marks, FRAME, Vec::new()).iter().map(|label| label.name).collect();
        assert_eq!(names, ["q4_k"]);
    }

    #[test]
    fn a_label_without_room_is_left_out() {
        let mark = ("q4_k", (50.0, 50.0));
        let all = Area { left: 0.0, top: 0.0, right: 200.0, bottom: 100.0 };
        assert!(place(&[mark], FRAME, vec![all]).is_empty());
        let wide = "a name that is longer than the picture is wide";
        assert!(place(&[(wide, (50.0, 50.0))], FRAME, Vec::new()).is_empty());
    }
}
