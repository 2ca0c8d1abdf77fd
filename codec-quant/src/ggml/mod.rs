//! The block formats of ggml, byte for byte: a tensor's blocks are those of a GGUF file.
//!
//! Rows of the matrix view that do not consist of whole blocks are refused, as by the software that
//! reads these formats, and not padded. Where ggml accepts a tensor's last axis, the blocks are the
//! same. (GGUF itself requires whole blocks along the last axis.) The conformance laws test these
//! codecs on the usual samples with longer rows.
//!
//! | codec | weights, bytes of a block | bits per weight | what |
//! |---|---|---|---|
//! | [`quant.q8_0`](Q8_0) | 32, 34 | 8.5 | an F16 scale |
//! | [`quant.q5_1`](Q5_1) | 32, 24 | 6 | an F16 scale and minimum |
//! | [`quant.q5_0`](Q5_0) | 32, 22 | 5.5 | an F16 scale |
//! | [`quant.q4_1`](Q4_1) | 32, 20 | 5 | an F16 scale and minimum |
//! | [`quant.q4_0`](Q4_0) | 32, 18 | 4.5 | an F16 scale |
//! | [`quant.iq4_nl`](Iq4Nl) | 32, 18 | 4.5 | an F16 scale, 16 levels that are not evenly spaced |
//! | [`quant.q6_k`](Q6K) | 256, 210 | 6.5625 | 16 groups with 8-bit scales |
//! | [`quant.q5_k`](Q5K) | 256, 176 | 5.5 | 8 groups with 6-bit scales and minima |
//! | [`quant.q4_k`](Q4K) | 256, 144 | 4.5 | 8 groups with 6-bit scales and minima |
//! | [`quant.iq4_xs`](Iq4Xs) | 256, 136 | 4.25 | 8 groups with 6-bit scales, the levels of `iq4_nl` |
//! | [`quant.q3_k`](Q3K) | 256, 110 | 3.4375 | 16 groups with 6-bit scales |
//! | [`quant.q2_k`](Q2K) | 256, 84 | 2.625 | 16 groups with 4-bit scales and minima |
//!
//! Decoded values are those of the Python package `gguf`, bit for bit; blocks with a scale that is
//! not finite are refused. The encoders are our own. They search for the least squared error,
//! weighted by calibration data if present (an "importance matrix"). Sixteen groups of weights
//! occupy the lanes of a vector. From a few starting points an encoder alternates between the
//! nearest codes and a least-squares fit of scale and minimum; for super-blocks it also tries the
//! neighbours of each integer scale. The last codes are the nearest for the final scales, so an
//! encode in panels ([`codec_api::Panels`]) goes column by column once it has the scales of a block
//! of each row.
//!
//! Blocks of 32 also try the scale of ggml's own encoder (`quantize_row_*_ref`), and keep the one
//! with the smaller error after the rounding to F16. So no block is worse than with ggml's scale. A
//! constant that F16 represents is exact; so are weights of −α, 0 and α in `q4_0`, `q5_0` and
//! `q8_0`.
//!
//! No block belongs to two rows, so a range of rows decodes without the others.

mod block;
mod fit;
mod format;
mod groups;
pub mod iq4_nl;
pub mod iq4_xs;
mod levels;
mod linear;
mod nibbles;
mod panels;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod six;
mod superblock;
mod two_bits;

pub use iq4_nl::Iq4Nl;
pub use iq4_xs::Iq4Xs;
pub use q2_k::Q2K;
pub use q3_k::Q3K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5K;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;

/// Defines and registers the codec of a block format, or of a super-block format with groups.
macro_rules! ggml_codec {
    (#[$typetag:meta] $name:ident, $kind:ident::$trait:ident $(<$group:literal>)?, $id:literal, $summary:literal) => {
        impl crate::ggml::format::Format for $name {
            type Levels = <Self as crate::ggml::$kind::$trait $(<$group>)?>::Levels;
            type Numbers = crate::ggml::$kind::Numbers;
            const WEIGHTS: usize = crate::ggml::$kind::WEIGHTS;
            const GROUP: usize = crate::ggml::$kind::group $(::<$group>)? ();
            const BYTES: usize = <Self as crate::ggml::$kind::$trait $(<$group>)?>::BYTES;
            const LARGEST: f32 = <Self as crate::ggml::$kind::$trait $(<$group>)?>::LARGEST;
            const INTEGERS: Option<crate::ggml::linear::Integers> =
                <Self as crate::ggml::$kind::$trait $(<$group>)?>::INTEGERS;

            #[inline(always)]
            fn fit<S: simd::Simd>(
                simd: S,
                x: &[f32],
                importance: Option<&[f32]>,
            ) -> crate::ggml::format::Scales<Self::Numbers> {
                crate::ggml::$kind::fit::<S, Self $(, $group)?>(simd, x, importance)
            }

            #[inline(always)]
            fn pack(numbers: &Self::Numbers, codes: &[u8], blocks: &mut [u8]) {
                crate::ggml::$kind::pack::<Self $(, $group)?>(numbers, codes, blocks);
            }

            #[inline(always)]
            fn decode<S: simd::Simd>(simd: S, blocks: &[u8], out: &mut [f32]) -> u16 {
                crate::ggml::$kind::decode::<S, Self $(, $group)?>(simd, blocks, out)
            }
        }

        #[doc = concat!("Configuration of `", $id, "`; see the [module's documentation](self) for the format.")]
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        pub struct $name {
            /// Format version.
            pub version: codec_api::FormatVersion<1>,
        }

        #[$typetag]
        impl codec_api::Codec for $name {
            fn needs(&self) -> codec_api::Needs {
                codec_api::Needs::default().calibration(codec_api::Need::Uses)
            }

            fn accepts(&self, spec: &codec_api::TensorSpec) -> codec_api::Result<()> {
                crate::ggml::format::accepts::<Self>(spec)
            }

            fn cost(&self, spec: &codec_api::TensorSpec) -> codec_api::CostEstimate {
                crate::ggml::format::cost::<Self>(spec)
            }

            fn encode(
                &self,
                tensor: codec_api::TensorView<'_>,
                cx: &codec_api::EncodeCx<'_>,
            ) -> codec_api::Result<codec_api::Payload> {
                crate::ggml::format::encode::<Self>(&tensor, cx)
            }

            fn decode(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
                cx: &codec_api::DecodeCx<'_>,
                out: &mut [f32],
            ) -> codec_api::Result<()> {
                crate::decode_rows(self, spec, payload, cx, out)
            }

            fn as_rows(&self) -> Option<&dyn codec_api::Rows> {
                Some(self)
            }

            fn as_panels(&self) -> Option<&dyn codec_api::Panels> {
                Some(self)
            }

            fn as_linear(&self) -> Option<&dyn codec_api::LinearKernel> {
                if <Self as crate::ggml::format::Format>::INTEGERS.is_some() { Some(self) } else { None }
            }
        }

        impl codec_api::LinearKernel for $name {
            fn prepare(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
                cx: &codec_api::DecodeCx<'_>,
            ) -> codec_api::Result<Box<dyn codec_api::LinearOp>> {
                crate::ggml::linear::prepare::<Self>(spec, &payload, cx)
            }
        }

        impl codec_api::Rows for $name {
            fn open(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
                _: &codec_api::DecodeCx<'_>,
            ) -> codec_api::Result<Box<dyn codec_api::RowReader>> {
                crate::ggml::format::open::<Self>(spec, &payload)
            }
        }

        impl codec_api::Panels for $name {
            fn cut(&self, spec: &codec_api::TensorSpec) -> codec_api::Result<codec_api::PanelCut> {
                crate::ggml::panels::cut_of::<Self>(spec)
            }

            fn begin<'a>(
                &'a self,
                original: codec_api::TensorView<'a>,
                cx: &'a codec_api::EncodeCx<'a>,
            ) -> codec_api::Result<Box<dyn codec_api::PanelEncoder + 'a>> {
                crate::ggml::panels::begin::<Self>(&original, cx)
            }
        }

        codec_api::register_codec!($id, $summary, || vec![codec_api::Preset::new("default", $name::default())]);
    };
}
use ggml_codec;
