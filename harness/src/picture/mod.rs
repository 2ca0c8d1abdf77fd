//! Pictures as SVG: drawn elements, and labels that find room beside marks.

pub mod labels;

use std::fmt::Write;

/// A point of a picture, in pixels to the right and down.
pub type Place = (f64, f64);

/// A picture that grows by elements, one a line. Texts may come from files: they are escaped.
#[derive(Clone, Debug)]
pub struct Svg {
    text: String,
}

impl Svg {
    /// A white picture of this width and height. `title` is what programs show for the whole
    /// picture, `heading` is the text above it, which begins at `left`.
    pub fn new((width, height): (f64, f64), title: &str, heading: &str, left: f64) -> Self {
        let mut svg = Self { text: String::new() };
        svg.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">"
        ));
        svg.line(&format!("<title>{}</title>", escaped(title)));
        svg.line(&format!("<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"));
        svg.line(&format!("<text x=\"{left}\" y=\"20\" font-size=\"15\" fill=\"#111\">{}</text>", escaped(heading)));
        svg
    }

    /// An element as it is.
    pub fn line(&mut self, element: &str) {
        self.text += element;
        self.text.push('\n');
    }

    /// A text; `anchor` is `start`, `middle` or `end`.
    pub fn text(&mut self, (x, y): Place, anchor: &str, colour: &str, words: &str) {
        let words = escaped(words);
        self.line(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>"
        ));
    }

    /// A text that is turned to go up, with its middle here.
    pub fn upright(&mut self, (x, y): Place, colour: &str, words: &str) {
        let words = escaped(words);
        self.line(&format!(
            "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\" fill=\"{colour}\">{words}</text>"
        ));
    }

    /// A straight line.
    pub fn rule(&mut self, (x0, y0): Place, (x1, y1): Place, colour: &str, width: f64) {
        self.line(&format!(
            "<path d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        ));
    }

    /// The outline of axes, given as left, top, right and bottom.
    pub fn frame(&mut self, (left, top, right, bottom): (f64, f64, f64, f64)) {
        self.line(&format!("<path d=\"M{left} {top}H{right}V{bottom}H{left}Z\" fill=\"none\" stroke=\"#999\"/>"));
    }

    /// Lines from place to place.
    pub fn polyline(&mut self, places: &[Place], colour: &str, width: f64) {
        let mut corners = String::new();
        for (i, (x, y)) in places.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            let _ = write!(corners, "{gap}{x:.1},{y:.1}");
        }
        self.line(&format!(
            "<polyline points=\"{corners}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        ));
    }

    /// The whole picture.
    pub fn finish(mut self) -> String {
        self.line("</svg>");
        self.text
    }
}

/// A text without the characters that mean something in XML, or that it does not allow.
pub fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_elements() {
        let mut svg = Svg::new((10.0, 10.0), "a<b", "c&d", 0.0);
        svg.text((1.0, 2.0), "start", "#000", "<script>\u{1b}\"");
        let text = svg.finish();
        for part in ["<title>a&lt;b</title>", ">c&amp;d</text>", ">&lt;script&gt;&quot;</text>"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
