//! Signs of the difference from a base, `delta.sign`: `ŵ = base ± row scale · column scale`, a bit
//! for each weight.
//!
//! The scales minimise the squared error of `row · column` against the magnitudes of the
//! differences. Alternating least squares starts with column scales of 1, with sums in f64 in a
//! fixed order. It stops when the rounded column scales stay the same, after at most ten sweeps.
//! The row scales are fitted last.
//!
//! # Source
//! `BitDelta`: Liu et al., arXiv 2402.10193, section 3.1, with one scale for a matrix, which it
//! then trains. Scales for rows and columns, as in `OneBit`, Xu et al., arXiv 2402.11295, section
//! 3.2, replace the training.
//!
//! # Sections
//! With `R × C` the matrix view:
//! - `base` U8 `[32]`: blake3 of the whole base's stored bytes;
//! - `signs` U8 `[R, ⌈C/8⌉]`: a bit for each weight, lowest bit first, 1 if the weight is below its
//!   base; the unused bits of a row's last byte are 0;
//! - `rows` F32 `[R]`, or `[1]` for all rows together if `C < 32`;
//! - `columns` BF16 `[C]` with a maximum of 1, only if `R ≥ 16`; otherwise the column scales are 1.
//!
//! So neither kind of scale takes more than a bit for each weight of a tensor of 32 weights or
//! more. The product of the scales is rounded to f32; then the sum is rounded and clamped to the
//! range of f32. With a product of 0 the weight equals the base. For a tensor without elements all
//! sections but `base` are empty.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"delta.sign","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_delta as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! Of a normally distributed difference, √(1 − 2/π) = 60 % remain (relative Frobenius error); a
//! tensor equal to its base is restored exactly.
//!
//! # Cost
//! `32 + R·⌈C/8⌉ + 4·R + 2·C` bytes with both kinds of scales: 1.012 bits per weight for
//! 4096 × 4096.
//!
//! # Limits
//! F32, F16 and BF16, with a base of the same dtype and shape and finite values. A chunk of rows
//! has column scales of its own. Rows decode only together: a reader of rows would have to keep a
//! copy of the base.

mod fit;
mod scales;

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
use scales::{Layout, Scales};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, store};

use crate::difference::{add, subtract, write_base};

/// Configuration of `delta.sign`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Sign {
    /// Format version.
    pub version: FormatVersion<1>,
}

#[typetag::serde(name = "delta.sign")]
impl Codec for Sign {
    fn needs(&self) -> Needs {
        Needs::default().base(Need::Requires)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let layout = Layout::new(spec);
        let n = spec.elements() as f64;
        // Differences and base as f32; for each column the scale, its sum and its bits.
        let scratch = 8 * spec.elements() as u64 + 4 * layout.row_scales as u64 + 16 * layout.column_scales as u64;
        let fit = if layout.column_scales > 0 { 4.0 * f64::from(fit::SWEEPS) } else { 0.0 };
        CostEstimate::fixed(Payload::BASE_BYTES + layout.bytes()).ops((fit + 5.0) * n, 3.0 * n).scratch(scratch)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let spec = tensor.spec();
        let (layout, base) = (Layout::new(spec), cx.base_of(spec)?);
        let differences = subtract(&tensor, base)?;
        let scales = fit::fit(&layout, &differences, cx.cancel)?;
        let mut signs = vec![0; layout.rows * layout.sign_bytes];
        for (differences, signs) in layout.rows_of(&differences).zip(layout.signs_of_mut(&mut signs)) {
            cx.cancel.check()?;
            pack(differences, signs);
            cx.progress.tick(differences.len() as u64);
        }
        let signs = Section::new(Dtype::U8, [layout.rows, layout.sign_bytes], signs)?;
        scales.write(Payload::new().with_base(base.id)?.with("signs", signs)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let (layout, base) = (Layout::new(spec), payload.base(spec, cx)?);
        let signs = payload.bytes("signs", Dtype::U8, &[layout.rows, layout.sign_bytes])?;
        let scales = Scales::read(&layout, &payload)?;
        write_base(base, out)?;
        for (i, (out, signs)) in layout.rows_of_mut(out).zip(layout.signs_of(signs)).enumerate() {
            cx.cancel.check()?;
            add_row(signs, scales.row(i), &scales.columns, out);
        }
        Ok(())
    }
}

kernel! {
    /// Packs the signs of a row, sixteen into two bytes.
    fn pack<'a>(_simd, differences: &'a [f32], signs: &'a mut [u8]) {
        for (d, signs) in differences.chunks(LANES).zip(signs.chunks_mut(2)) {
            let d = load(d);
            let bits: [u16; LANES] = lanes!(i => u16::from(d[i] < 0.0) << i);
            let word = bits.iter().fold(0, |word, bit| word | bit);
            signs.copy_from_slice(&word.to_le_bytes()[..signs.len()]);
        }
    }
}

kernel! {
    /// Adds the signed scales of a row; without `columns`, the column scales are 1.
    fn add_row<'a>(_simd, signs: &'a [u8], row: f32, columns: &'a [f32], out: &'a mut [f32]) {
        for (block, (out, signs)) in out.chunks_mut(LANES).zip(signs.chunks(2)).enumerate() {
            let (base, columns) = (load(out), scales::block(columns, block));
            let word = u32::from(u16::from_le_bytes(signs.try_into().unwrap_or([signs[0], 0])));
            store(lanes!(i => {
                let sign = (word >> i & 1) << 31;
                add(base[i], f32::from_bits((row * columns[i]).to_bits() ^ sign))
            }), out);
        }
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Sign::default())]
}

register_codec!("delta.sign", "signs of the difference to a base tensor, with scales for rows and columns", presets);
