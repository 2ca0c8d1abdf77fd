//! The contract between Netweight and its weight codecs.
//!
//! A codec is a configuration struct that implements [`Codec`]. The serialised configuration is the
//! header of every tensor that the codec encodes. The encoded data are a [`Payload`]: named, typed
//! byte [`Section`]s and a certified error [`Bound`]. A codec crate registers its codecs with
//! [`register_codec!`]; [`Registry::linked`] finds them in every program that links the crate.
//!
//! - [`TensorSpec`], [`TensorView`]: dtype, shape and little-endian bytes of a tensor
//! - [`Codec`]: encode and decode; optional parts are [`Lossless`], [`Progressive`] and
//!   [`LinearKernel`]
//! - [`EncodeCx`], [`DecodeCx`]: seed, base tensor, calibration, quality level, cancellation,
//!   progress
//! - [`EncodedTensor`]: spec, codec and payload together, in memory and as a safetensors file
//! - [`Registry`]: all codecs; makes a codec from a spec text (`quant.int:bits=4`) or a JSON header
//!
//! # A complete codec
//!
//! ```
//! use codec_api::{
//!     Bound, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result,
//!     Section, TensorSpec, TensorView, register_codec, typetag,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! /// Keeps the sign of each weight and one scale, `mean |w|`.
//! #[derive(Clone, Debug, Default, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Sign {
//!     version: FormatVersion<1>,
//! }
//!
//! #[typetag::serde(name = "example.sign")]
//! impl Codec for Sign {
//!     fn accepts(&self, spec: &TensorSpec) -> Result<()> {
//!         spec.require_float()
//!     }
//!
//!     fn cost(&self, spec: &TensorSpec) -> CostEstimate {
//!         CostEstimate::fixed(spec.elements().div_ceil(8) as u64 + 4)
//!     }
//!
//!     fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Payload> {
//!         let values = tensor.to_finite_f32()?;
//!         let n = values.len();
//!         let scale = (values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / n.max(1) as f64) as f32;
//!         let mut signs = vec![0u8; n.div_ceil(8)];
//!         for (i, v) in values.iter().enumerate() {
//!             signs[i / 8] |= u8::from(*v < 0.0) << (i % 8);
//!         }
//!         let decoded: Vec<f32> = values.iter().map(|v| if *v < 0.0 { -scale } else { scale }).collect();
//!         Ok(Payload::new(Bound::measure_max_abs(&values, &decoded))
//!             .with("scale", Section::from_values(Dtype::F32, [1], vec![scale])?)
//!             .with("signs", Section::new(Dtype::U8, [signs.len()], signs)?))
//!     }
//!
//!     fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
//!         spec.check_output(out.len())?;
//!         let scale = payload.values::<f32>("scale", Dtype::F32, &[1])?[0];
//!         let signs = payload.bytes("signs", Dtype::U8, &[out.len().div_ceil(8)])?;
//!         for (i, w) in out.iter_mut().enumerate() {
//!             *w = if signs[i / 8] >> (i % 8) & 1 == 1 { -scale } else { scale };
//!         }
//!         Ok(())
//!     }
//! }
//!
//! fn presets() -> Vec<Preset> {
//!     vec![Preset::new("default", Sign::default())]
//! }
//! register_codec!("example.sign", "sign and mean magnitude", presets);
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let registry = codec_api::Registry::linked()?;
//! let codec = registry.parse_spec("example.sign")?;
//! let weights = [1.0, -2.0, 3.0, -4.0];
//! let encoded = codec_api::EncodedTensor::encode(codec, TensorView::from_f32([2, 2], &weights)?, &EncodeCx::new(0))?;
//! assert_eq!(encoded.payload.bytes(), 5);
//! let read = codec_api::EncodedTensor::from_bytes(&encoded.to_bytes()?.into(), &registry)?;
//! assert_eq!(read.decode(&DecodeCx::new())?, [2.5, -2.5, 2.5, -2.5]);
//! # Ok(())
//! # }
//! ```

#[cfg(target_endian = "big")]
compile_error!("sections are little-endian and are read in place: big-endian machines are not supported");

mod bits;
mod bound;
mod codec;
mod config;
mod container;
mod context;
mod cost;
mod encoded;
mod error;
mod exact;
mod importance;
mod payload;
mod registry;
mod spec;
mod tensor;

pub use bits::{pack_bits, unpack_bits};
pub use bound::{Bound, max_abs_error, rel_frobenius_error};
pub use codec::{
    Chunking, Codec, LinearKernel, LinearOp, Lossless, Need, Needs, Progressive, QualityLevel, check_batch,
};
pub use config::{Bounded, FormatVersion};
pub use container::read_safetensors_header;
pub use context::{BaseTensor, Calibration, Cancel, DecodeCx, EncodeCx, NoProgress, Progress};
pub use cost::CostEstimate;
pub use encoded::EncodedTensor;
pub use error::{CodecError, FormatError, Result, SpecError};
pub use exact::{Checksum, decode_exact};
pub use importance::{Importance, relative_importance};
pub use payload::{Payload, PayloadView, Section};
pub use registry::{CodecEntry, Preset, Registry, RegistryError};
pub use spec::{MAX_NESTING, header};
pub use tensor::{Dtype, TensorSpec, TensorView, first_non_finite, widen};

// Re-exported so that a codec crate needs only this crate and serde: the macros expand to paths
// into these crates, and the public interface uses their types.
pub use {bytes::Bytes, inventory, ndarray, rand_xoshiro, typetag};
