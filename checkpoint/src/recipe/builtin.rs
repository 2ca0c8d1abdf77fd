//! The built-in recipes.

use super::Recipe;

/// Name and codec for matrices; the recipe `lossless` has none.
const RECIPES: &[(&str, Option<&str>)] = &[
    ("lossless", None),
    ("int8", Some("quant.int:preset=int8")),
    ("q4", Some("quant.int:preset=int4-clip")),
    ("trellis-4bit", Some("trellis:preset=4bit-best")),
    ("trellis-3bit", Some("trellis:preset=3bit-best")),
    ("trellis-2bit", Some("trellis:preset=2bit-best")),
    ("seedlm-4bit", Some("seedlm:preset=4bit-coded")),
    ("progressive", Some(PROGRESSIVE)),
];

/// Two bits per weight, then one more, and another one.
const PROGRESSIVE: &str = "residual(trellis:states=64:bits=2,\
    residual(trellis:states=64:bits=1,trellis:states=64:bits=1))";

impl Recipe {
    /// The names of the built-in recipes; the first is the usual one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|(name, _)| *name)
    }

    /// The built-in recipe of this name:
    /// - `lossless`: every tensor exactly;
    /// - `int8`: 8 bits per weight with a scale per row; `q4`: 4 bits with scale and zero point for
    ///   128 weights, searched for the least squared error;
    /// - `trellis-4bit`, `trellis-3bit`, `trellis-2bit`: entropy-coded trellis quantisation,
    ///   searched with 256 states;
    /// - `seedlm-4bit`: seeds of a shift register, coded;
    /// - `progressive`: entropy-coded trellis quantisation in quality levels of 2, 3 and 4 bits, so
    ///   that the first bytes of the file are a coarse model
    ///   ([`Packed::levels`](crate::Packed::levels)).
    ///
    /// All but the first are [`Self::for_matrices`].
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, codec) = RECIPES.iter().find(|(known, _)| *known == name)?;
        Some(codec.map_or_else(Self::default, Self::for_matrices))
    }
}
