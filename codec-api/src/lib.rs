//! The contract between Netweight and its weight codecs.
//!
//! A codec is a configuration struct that implements [`Codec`]. The serialised configuration is the
//! header of every tensor that the codec encodes. The encoded data are a [`Payload`]: named, typed
//! byte [`Section`]s. [`EncodedTensor::encode`] measures what a decoder returns and keeps the error
//! as a [`Certificate`]. A codec crate registers its codecs with [`register_codec!`];
//! [`Registry::linked`] finds them in every program that links the crate.
//!
//! - [`TensorSpec`], [`TensorView`]: dtype, shape and little-endian bytes of a tensor
//! - [`Codec`]: encode and decode; optional parts are [`Lossless`], [`Progressive`], [`Rows`],
//!   [`LinearKernel`], [`Panels`] and [`Surveyed`]
//! - [`EncodeCx`], [`DecodeCx`]: seed, base tensor, calibration, cancellation, progress
//! - [`EncodedTensor`]: spec, codec, payload and certificate together, in memory and as a
//!   safetensors file
//! - [`util`]: tools that codecs share
//! - [`Registry`]: all codecs; makes a codec from a spec text (`quant.int:bits=4`) or a JSON header
//!
//! # A complete codec
//!
//! The following file obeys all laws of the crate `laws`. Two laws check points that are easily
//! forgotten. Law 6 requires that an encode checks for cancellation and reports its progress. Law 9
//! requires that the file begins with documentation from which a reader can reimplement the format.
//! `cargo xtask new-codec NAME` writes a similar crate with tests.
//!
//! ```ignore
#![doc = include_str!("../tests/example/sign.rs")]
//! ```
//!
//! A program that links the codec uses it like this:
//!
//! ```ignore
//! let registry = Registry::linked()?;
//! let codec = registry.parse_spec("example.sign")?;
//! let weights = [1.0, -2.0, 3.0, -4.0];
//! let tensor = TensorView::from_f32([2, 2], &weights)?;
//! let encoded = EncodedTensor::encode(codec, tensor, &EncodeCx::new(0))?;
//! let read = EncodedTensor::from_bytes(&encoded.to_bytes()?.into(), &registry)?;
//! assert_eq!(read.decode(&DecodeCx::new())?, [2.5, -2.5, 2.5, -2.5]);
//! assert_eq!(read.certificate.max_abs, 1.5);
//! ```

#[cfg(target_endian = "big")]
compile_error!("sections are little-endian and are read in place: big-endian machines are not supported");

mod calibration;
mod certificate;
mod codec;
mod config;
mod container;
mod context;
mod cost;
mod encoded;
mod error;
mod linear;
mod measure;
mod panels;
mod payload;
mod registry;
mod rows;
mod serialised;
mod spec;
mod survey;
mod tensor;
pub mod util;
mod version;

pub use calibration::{Calibration, Gram, InputAxis};
pub use certificate::Certificate;
pub use codec::{Chunking, Codec, Lossless, Need, Needs, Progressive, QualityLevel};
pub use config::{Bounded, FormatVersion};
pub use container::{read_safetensors_header, read_safetensors_prefix};
pub use context::{BaseTensor, Cancel, DecodeCx, EncodeCx, NoProgress, Progress};
pub use cost::CostEstimate;
pub use encoded::EncodedTensor;
pub use error::{CodecError, FormatError, Result, SpecError};
pub use linear::{
    Inputs, IntegerLayout, IntegerMatrix, IntegerRow, LinearKernel, LinearOp, Product, RowsLinear, check_outputs,
    check_product, check_vectors, open_linear,
};
pub use panels::{PanelCut, PanelEncoder, PanelOrder, Panels};
pub use payload::{Payload, PayloadView, Section};
pub use registry::{CodecEntry, Preset, Registry, RegistryError};
pub use rows::{RowReader, Rows, check_rows, open_rows};
pub use spec::{MAX_NESTING, header};
pub use survey::{Pass, Shared, Statistics, Surveyed, statistics, survey};
pub use tensor::{Dtype, TensorSpec, TensorView};
pub use version::Upgrade;

// Re-exported so that a codec crate needs only this crate and serde: the macros expand to paths
// into these crates, and the public interface uses their types.
pub use {bytes::Bytes, inventory, ndarray, rand_xoshiro, typetag};
