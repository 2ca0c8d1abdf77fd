//! SeedLM, `seedlm`: codes a block of weights as a seed of a shift register and a few small
//! coefficients.
//!
//! The register expands the seed into a basis `U` of pseudo-random numbers. The decoded weights are
//! `U·t`; each coefficient in `t` has a few bits. A decoder needs only the register
//! and sixteen scales, and no trained tables. The encoder searches all 2ᴷ − 1 seeds of a register
//! of K bits for the best approximation of the weights. This search is exact, and several hundred
//! times faster than trying every seed.
//!
//! # Source
//! Shafipour et al., *`SeedLM`: Compressing LLM Weights into Seeds of Pseudo-Random Generators*,
//! arXiv 2410.10714, sections 3.1 (register and basis), 3.2 (exponent and mantissas) and appendix
//! (choice of C, P, K).
//!
//! The codec differs from the paper in three settings, each of which is a key of the header:
//! exponents in steps of √2 (`per_octave=2`), mantissas that are searched instead of rounded
//! (`refine`), and quality levels (`layers`). `per_octave=1:refine=false` is the format of the
//! paper. The exact pruning of the search is not in the paper.
//!
//! # Sections
//! The flat tensor of `n` weights is cut into blocks of `c`; the last one may be shorter. Level 0
//! has
//! - `codes` U8 `[⌈⌈n/c⌉·(k + 4 + p·mantissa_bits)/8⌉]`: the blocks in order, lowest bit first. A
//!   block holds the seed (`k` bits), the exponent field (4 bits) and `p` mantissas in two's
//!   complement;
//! - `bias` I16 `[1]`: exponent field `f` means `2^((bias + f) / per_octave)`.
//!
//! With `coded`, three sections replace `codes`:
//! - `seeds` U8 `[⌈⌈n/c⌉·k/8⌉]`: the seeds, lowest bit first;
//! - `exponents` U8: the exponent fields, a plane of `⌈n/c⌉` bytes in the layout of
//!   `entropy::plane`;
//! - `mantissas` U8: the mantissa fields (two's complement in `mantissa_bits`), a plane of
//!   `p·⌈n/c⌉` bytes, block by block. Mantissa `j` of a block with exponent field `f` has the
//!   context `p·f + j`.
//!
//! If a plane is not shorter than its packed fields, the section holds the packed fields instead,
//! lowest bit first: `⌈⌈n/c⌉·4/8⌉` and `⌈p·⌈n/c⌉·mantissa_bits/8⌉` bytes.
//!
//! Level `i` above 0 has `codes_i` (or `seeds_i`, `exponents_i`, `mantissas_i`) and `bias_i` of the
//! same form. Its weights are added to those of the levels before it.
//!
//! Without `coded`, each block decodes alone, and so does any range of rows, even if it begins
//! inside a block. With `coded`, a reader of rows decodes the planes when it opens, and keeps one
//! byte for each field.
//!
//! ## From bits to weights
//! The register has K bits and shifts to the right; the parity of the tapped bits enters at the
//! top. The taps are the bits 0, 2, 3, 4 for K = 8; 0, 1, 2, 8 for K = 12; 0, 1, 3, 12 for K = 16;
//! 0, 1, 2, 7 for K = 24. The seed is the state before the first step. The states after 1, 2, 3 …
//! steps, each minus `2^(K−1)`, fill the integer matrix `V` of `c` rows and `p` columns row by row.
//! With the mantissas `m`, weight `i` is `Σ_j V[i][j]·m[j]`, times `1/(2^(K−1) − 1)`, times the
//! value of the exponent field.
//!
//! In f32: the integer sum is rounded to f32, multiplied by the f32 nearest to
//! `2^(r/per_octave)/(2^(K−1) − 1)`, and then by `2^q`, where `bias + f = q·per_octave + r` with
//! `0 ≤ r < per_octave`. Values beyond the range of f32 are clamped to it, in each level and in the
//! sum of levels. The encoder pads the last block with zeros, and the decoder drops them. Unused
//! bits at the end are 0. `tests/it/reference.rs` is a decoder written from this text alone.
//!
//! ## The search
//! For one seed, finding `t` is a least-squares problem. With the exact solution, the squared error
//! is `‖w‖² − E`, where `E = ‖L⁻¹Uᵀw‖²` and `L·Lᵀ = UᵀU`. Rounded coefficients never have a smaller
//! error. So the search skips a seed if `‖w‖² − E` is above the smallest error found so far.
//! - `UᵀU` depends only on the seed: `L⁻¹` is computed once for all blocks.
//! - `Uᵀw` is `y[k], …, y[k + p − 1]` with `y[k] = Σ w_c·u[k + p·c]` along the stream `u` of
//!   states. A state is half the previous state plus the new top bit, so
//!   `y[k + 1] = y[k]/2 + T[pattern]`. `T` is a table of signed subset sums of the block's weights.
//!   The pattern consists of `c` new bits, which are the same for all blocks. A vector register
//!   holds sixteen blocks.
//! - The computed `E` has an error from two sources: rounding, and each state's lost lowest bit,
//!   which the recurrence ignores. The search bounds this error for each seed. If the columns
//!   of a seed are so similar that the bound would be large, the seed gets an orthonormal basis of
//!   its own.
//! - The seeds that are not skipped, a few of 65,535, are fitted in f64. With `refine`, the fit
//!   searches all exponents and mantissas (the closest point of a lattice in a sphere, after
//!   Schnorr and Euchner). It skips an exponent if some coefficient of the solution is too far from
//!   every mantissa times the step. So the result is the best code that exists: the least squared
//!   error and, among codes with the same error, the smallest (seed, exponent, mantissas). The
//!   error is computed in f64, before the weights are rounded to f32. A column that is almost a
//!   linear combination of the columns before it (less than 10⁻⁸ of its squared length is
//!   orthogonal to them) gets the mantissa 0. A block with a norm below the power of two of the
//!   lowest exponent is not searched: it becomes zeros.
//!
//! The bounds are computed in f32, with fused multiply-add where the CPU level has it
//! (`Simd::multiply_add`), and include all rounding errors. So CPU levels may skip different seeds.
//! One scalar routine in f64 fits all seeds that are not skipped, and selects the first code in a
//! total order (error, then the code itself). Therefore the payload depends neither on the CPU
//! level nor on the order of the search.
//!
//! ## How good it is
//! On a million Gaussian weights, in NMSE and in bits above Shannon's bound
//! (`netweight bench --suite gaussian`):
//!
//! | | bits per weight | NMSE | gap |
//! |---|---|---|---|
//! | `preset=4bit` | 4.000 | .01276 | .854 |
//! | 4 bit as published: `per_octave=1:refine=false` | 4.000 | .01509 | .975 |
//! | `per_octave=1` | 4.000 | .01414 | .928 |
//! | `per_octave=4` | 4.000 | .01184 | .800 |
//! | `p=4:mantissa_bits=3` | 4.000 | .01046 | .711 |
//! | `preset=3bit` | 3.000 | .04592 | .778 |
//! | 3 bit as published: `c=12:p=4:per_octave=1:refine=false` | 3.000 | .05059 | .848 |
//! | `preset=2bit` | 2.000 | .1277 | .515 |
//! | `quant.int:preset=int4-clip`, for comparison | 4.156 | .00898 | .757 |
//! | `preset=4bit-coded` | 3.773 | .01276 | .627 |
//! | 4 bit as published, and `coded` | 3.611 | .01509 | .585 |
//! | `per_octave=4:coded=true` | 3.902 | .01184 | .702 |
//! | `p=4:mantissa_bits=3:coded=true` | 3.776 | .01046 | .486 |
//! | `preset=3bit:coded=true` | 2.838 | .04592 | .615 |
//! | `preset=2bit:coded=true` | 1.829 | .1277 | .344 |
//!
//! At 4 bits `seedlm` is worse than a plain scalar quantiser with a scale for each group; it is
//! useful where a decoder must be tiny and without tables. Part of the loss is due to fields of
//! fixed length, which waste bits. With two exponents per octave, some of the wasted bits improve
//! the accuracy. Four exponents per octave are better still for tensors with blocks of similar
//! scale, but cover only a factor of 13 between the blocks of a tensor. At 4 bits, more
//! coefficients with shorter mantissas are better than the paper's choice.
//!
//! `coded` saves most of the remaining waste without changing a weight. An exponent field of 4 bits
//! then takes 1.35 bits in the published format and 2.2 to 2.4 bits with the presets; a mantissa of
//! 4 bits takes 3.84 to 3.94 bits. Seeds are practically random numbers, so they are stored without
//! entropy coding. The contexts of mantissas pay off in tensors of about thirty thousand blocks or
//! more.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"seedlm","version":1,"k":16,"c":8,"p":3,"mantissa_bits":4,"#,
//!     r#""per_octave":2,"refine":true,"search":"all","layers":1,"coded":false}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_seedlm as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `k` 8, 12, 16 or 24; `c` 4 to 16; `p` 1 to 4; `mantissa_bits` 2 to 6; `per_octave` 1 (as
//! published), 2 or 4; `layers` 1 to 4. `refine` and `search` affect only the encoder. `search` is
//! `"all"` or a number of seeds, drawn at random for the tensor (a seed may be drawn twice). A
//! random search is quicker and has a larger error; a number that is not below the number of all
//! seeds means `"all"`. A search of all seeds of `k` = 24 takes 256 times as long as one of
//! `k` = 16.
//!
//! # Bound
//! The squared error of a block is at most that of zeros, `Σ w²`, before the rounding to f32. With
//! calibration, the bound holds for the weighted error.
//!
//! # Cost
//! For each level `⌈⌈n/c⌉·(k + 4 + p·mantissa_bits)/8⌉ + 2` bytes. This is 4 bits per weight for
//! the defaults, 3 and 2 for `preset=3bit` and `preset=2bit`, and 10.5 in all for the three levels
//! of `preset=progressive`. With `coded` the size is a range. It begins at `⌈⌈n/c⌉·k/8⌉ + 2` bytes
//! plus at most 2 bytes for each plane, and ends at
//! `⌈⌈n/c⌉·k/8⌉ + ⌈⌈n/c⌉·4/8⌉ + ⌈p·⌈n/c⌉·mantissa_bits/8⌉ + 2` bytes.
//!
//! # Limits
//! F32, F16 and BF16. A block becomes zeros if it is far smaller than the largest block of its
//! chunk. The factor is about 2¹⁵ with one exponent per octave, 2⁸ with two and 2⁴ with four, each
//! times the largest mantissa. With calibration, the squared error of a weight is weighted by the
//! mean square of its input. Blocks with the same inputs share a table, which takes some
//! milliseconds to build. If the row length of a matrix is a multiple of `c`, there is one table
//! for each block of a row. Any other matrix has up to one table for each column, and a single row
//! has one for each block. A block that equals the block before it is not searched again. Two cases
//! can take ten times as long to search, or longer: blocks whose norm is almost small enough for them to
//! become zeros, and blocks that are almost constant.

mod block;
mod config;
mod decode;
mod encode;
mod fit;
mod grid;
mod importance;
mod layers;
mod lfsr;
mod planes;
mod scan;
mod search;
mod sections;
mod tables;
mod ticks;

use codec_api::{
    Codec, CostEstimate, DecodeCx, EncodeCx, Need, Needs, Payload, PayloadView, Preset, Progressive, Result, Rows,
    TensorSpec, TensorView, register_codec, typetag,
};
pub use config::{Budget, PerOctave, SeedBits, SeedLm};
use search::Method;

#[typetag::serde(name = "seedlm")]
impl Codec for SeedLm {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (n, layers) = (spec.elements() as f64, f64::from(self.layers.get()));
        let shape = self.shape();
        let for_seed = (shape.rank * (shape.rank + 5)) as f64 / shape.weights as f64;
        let encode = encode::seed_count(self) as f64 * for_seed * layers;
        let (bytes, levels) = (self.level_bytes(spec), u64::from(self.layers.get()));
        CostEstimate::between(bytes.start() * levels, bytes.end() * levels)
            .ops(encode * n, (3 * shape.rank + 4) as f64 * layers * n)
            .scratch(encode::scratch_bytes(self, spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx, Method::Pruned)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.decode_level(self.layers.get() as usize - 1, spec, payload, cx, out)
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl SeedLm {
    /// Like [`Codec::encode`], with the same payload, but fits every seed to every block. This is
    /// the definition that the search is tested against; it is hundreds of times slower.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_by_brute_force(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, tensor, cx, Method::BruteForce)
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("4bit", SeedLm::four_bit()),
        Preset::new("4bit-coded", SeedLm::four_bit().coded()),
        Preset::new("3bit", SeedLm::three_bit()),
        Preset::new("2bit", SeedLm::two_bit()),
        Preset::new("progressive", SeedLm::progressive()),
    ]
}

/// Every key at its ends. Few seeds are tried, since all of a register of 16 bits take long; the
/// tests of the search and the golden files have those.
fn probes() -> Vec<String> {
    let specs = [
        "seedlm:preset=progressive:search=300",
        "seedlm:preset=4bit-coded:search=500",
        "seedlm:preset=3bit:search=300",
        "seedlm:preset=2bit:k=12:search=200:layers=2:coded=true",
        "seedlm:k=8:c=4:p=1:mantissa_bits=2:per_octave=1:refine=false",
        "seedlm:k=8:c=16:p=4:mantissa_bits=6:per_octave=4:refine=false:layers=4",
        "seedlm:k=24:c=16:p=2:search=300",
        "seedlm:k=12:c=12:p=4:per_octave=1:refine=false:search=1",
    ];
    specs.map(str::to_owned).into()
}

register_codec!(
    "seedlm",
    "seeds of a shift register with a few coefficients a block, in quality levels",
    presets,
    .probes(probes).slow_presets()
);
