//! Families of codecs, each with one colour and shape of marks.

/// A family of codecs.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Text in the legend.
    pub name: &'static str,
    pub colour: &'static str,
    pub shape: Shape,
    /// Prefixes of the codec ids.
    prefixes: &'static [&'static str],
}

/// Shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Cross,
    Plus,
}

/// The last family has every codec that no other has.
pub const FAMILIES: [Family; 9] = [
    family("trellis.*", "#0b7a75", Shape::Plus, &["trellis."]),
    family("blocks of ggml", "#d62728", Shape::Circle, &["quant.q", "quant.iq"]),
    family(
        "floats: nf4, fp4, fp8",
        "#e67e00",
        Shape::Square,
        &["quant.nf4", "quant.mxfp4", "quant.nvfp4", "quant.fp8"],
    ),
    family("quant.int", "#8c564b", Shape::Diamond, &["quant.int"]),
    family("quant.vector", "#2ca02c", Shape::Up, &["quant.vector"]),
    family("quant.ternary", "#c218a8", Shape::Down, &["quant.ternary"]),
    family("seedlm", "#7b3fb8", Shape::Cross, &["seedlm"]),
    family("combinators", "#17889e", Shape::Diamond, &["hadamard", "residual", "transpose"]),
    family("others", "#777777", Shape::Square, &[""]),
];

const fn family(name: &'static str, colour: &'static str, shape: Shape, prefixes: &'static [&'static str]) -> Family {
    Family { name, colour, shape, prefixes }
}

impl Family {
    /// The family of a codec.
    pub fn of(spec: &str) -> &'static Self {
        let of = |family: &&Self| family.prefixes.iter().any(|prefix| spec.starts_with(prefix));
        FAMILIES.iter().find(of).unwrap_or(&FAMILIES[FAMILIES.len() - 1])
    }
}

impl Shape {
    /// An SVG path around the origin, at most ten units wide.
    pub fn path(self) -> &'static str {
        match self {
            Self::Circle => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
            Self::Square => "m-3.5-3.5h7v7h-7z",
            Self::Diamond => "m0-5l5 5l-5 5l-5-5z",
            Self::Up => "m0-5l4.6 8h-9.2z",
            Self::Down => "m0 5l4.6-8h-9.2z",
            Self::Cross => "m-4-4l8 8m0-8l-8 8",
            Self::Plus => "m-5 0h10m-5-5v10",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_has_a_family() {
        let name = |spec| Family::of(spec).name;
        assert_eq!(name("quant.q4_k:preset=default"), "blocks of ggml");
        assert_eq!(name("trellis.bitshift:preset=2bit"), "trellis.*");
        assert_eq!(name("sparse.prune:preset=density10"), "others");
    }

    #[test]
    fn no_two_families_look_alike() {
        for (i, a) in FAMILIES.iter().enumerate() {
            assert!(FAMILIES[..i].iter().all(|b| (a.colour, a.shape) != (b.colour, b.shape)));
        }
    }
}
