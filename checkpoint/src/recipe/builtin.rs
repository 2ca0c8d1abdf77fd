//! The built-in recipes.

use super::{Method, Recipe};

/// Name, codec for matrices, and what is done with calibration; the recipe `lossless` has neither.
const RECIPES: &[(&str, Option<&str>, Option<Method>)] = &[
    ("lossless", None, None),
    ("int8", Some("quant.int:preset=int8"), None),
    ("q4", Some("quant.int:preset=int4-clip"), None),
    ("nf4", Some("quant.nf4"), None),
    ("quanto_int8", Some("quant.int:preset=int8"), None),
    ("quanto_int4", Some("quant.int:preset=int4"), None),
    ("trellis-4bit", Some("trellis:preset=4bit-best"), None),
    ("trellis-3bit", Some("trellis:preset=3bit-best"), None),
    ("trellis-2bit", Some("trellis:preset=2bit-best"), None),
    ("seedlm-4bit", Some("seedlm:preset=4bit-coded"), None),
    ("progressive", Some(PROGRESSIVE), None),
    ("gptq_quality", Some("quant.int:bits=4:group=128:symmetric=false"), Some(Method::Feedback)),
    ("gptq_balanced", Some("quant.int:bits=4:group=256:symmetric=false"), Some(Method::Feedback)),
    ("gptq_size", Some("quant.int:bits=4:group=512:symmetric=false"), Some(Method::Feedback)),
    ("imatrix:q2_k", Some("quant.q2_k"), Some(Method::Importance)),
    ("imatrix:q3_k", Some("quant.q3_k"), Some(Method::Importance)),
    ("imatrix:q4_0", Some("quant.q4_0"), Some(Method::Importance)),
    ("imatrix:q4_1", Some("quant.q4_1"), Some(Method::Importance)),
    ("imatrix:q4_k", Some("quant.q4_k"), Some(Method::Importance)),
    ("imatrix:q5_0", Some("quant.q5_0"), Some(Method::Importance)),
    ("imatrix:q5_1", Some("quant.q5_1"), Some(Method::Importance)),
    ("imatrix:q5_k", Some("quant.q5_k"), Some(Method::Importance)),
    ("imatrix:q6_k", Some("quant.q6_k"), Some(Method::Importance)),
    ("imatrix:iq4_nl", Some("quant.iq4_nl"), Some(Method::Importance)),
    ("imatrix:iq4_xs", Some("quant.iq4_xs"), Some(Method::Importance)),
    ("awq_quality", Some("quant.int:bits=4:group=128:symmetric=false"), Some(Method::Scaling)),
    ("awq_balanced", Some("quant.int:bits=4:group=256:symmetric=false"), Some(Method::Scaling)),
];

/// Two bits per weight, then one more, and another one.
const PROGRESSIVE: &str = "residual(trellis:states=64:bits=2,\
    residual(trellis:states=64:bits=1,trellis:states=64:bits=1))";

impl Recipe {
    /// The names of the built-in recipes; the first is the usual one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|(name, ..)| *name)
    }

    /// The built-in recipe of this name:
    /// - `lossless`: every tensor exactly;
    /// - `int8`: 8 bits per weight with a scale per row; `q4`: 4 bits with scale and zero point for
    ///   128 weights, searched for the least squared error;
    /// - `nf4`: NF4 in blocks of 64, as in `bitsandbytes`; `quanto_int8`, `quanto_int4`: 8 bits with
    ///   a scale per row, 4 bits with scale and zero point for 128 weights from the least to the
    ///   largest, as in `optimum-quanto`;
    /// - `trellis-4bit`, `trellis-3bit`, `trellis-2bit`: entropy-coded trellis quantisation,
    ///   searched with 256 states;
    /// - `seedlm-4bit`: seeds of a shift register, coded;
    /// - `progressive`: entropy-coded trellis quantisation in quality levels of 2, 3 and 4 bits, so
    ///   that the first bytes of the file are a coarse model
    ///   ([`Packed::levels`](crate::Packed::levels));
    /// - `gptq_quality`, `gptq_balanced`, `gptq_size`: 4 bits with scale and zero point for 128, 256
    ///   or 512 weights, with [`Method::Feedback`];
    /// - `imatrix:q4_k` and other formats of ggml, with [`Method::Importance`];
    /// - `awq_quality`, `awq_balanced`: 4 bits with scale and zero point for 128 or 256 weights, with
    ///   [`Method::Scaling`].
    ///
    /// All but the first are [`Self::for_matrices`].
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, codec, method) = RECIPES.iter().find(|(known, ..)| *known == name)?;
        let recipe = codec.map_or_else(Self::default, Self::for_matrices);
        Some(Self { method: *method, ..recipe })
    }
}
