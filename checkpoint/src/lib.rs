//! Reads and packs models. A model is a `.safetensors` file, or a Hugging Face directory with one
//! or several of these files. A [`Plan`] encodes every tensor with the codec that a [`Recipe`]
//! chooses. [`Packed`] reads the result and writes the dense files back. A model may be packed
//! relative to another one, its base ([`Plan::relative`], [`Packed::with_bases`]). [`diff`]
//! compares two models.
//!
//! ```no_run
//! let model = checkpoint::Checkpoint::open("models/my-model")?;
//! for name in model.names() {
//!     println!("{name}: {}", model.spec(name)?);
//! }
//! let values = model.tensor("model.norm.weight")?.to_f32();
//! # Ok::<(), checkpoint::Error>(())
//! ```
//!
//! Files are memory-mapped: opening reads only the headers, and the pages of a tensor are read on
//! first access. Opening any file, damaged or not, returns either a [`Checkpoint`] with all its
//! tensors, or an [`Error`] that names the file, the tensor and what to do. The data of a tensor
//! may begin at any address, so a tensor is a slice of bytes; [`codec_api::TensorView`] converts
//! it.
//!
//! A memory map has one condition: no process may shorten the file while the map is in use. The
//! length of the file is checked before each tensor is handed out. Without a signal handler, the
//! library cannot detect that a file becomes shorter after this check; see [`Checkpoint::open`].

mod adapter;
mod checkpoint;
mod companions;
mod compare;
mod computed;
pub mod contents;
mod error;
mod folder;
mod foreign;
mod hub;
mod identity;
mod index;
mod layout;
mod map;
mod model;
mod obstacle;
mod packed;
mod plan;
mod recipe;
mod shard;
mod source;

pub use adapter::AdapterConfig;
pub use checkpoint::Checkpoint;
pub use companions::Companions;
pub use compare::{Change, Difference, TensorDiff, diff};
pub use computed::{Above, Compute, Computed, Open, Opener};
pub use error::Error;
pub use identity::FileIdentity;
pub use layout::CALIBRATION;
pub use map::Pages;
pub use model::Model;
pub use obstacle::Obstacle;
pub use packed::{
    AtomicFile, Hash, PACKED_EXTENSION, Packed, PackedChunk, PackedFile, PackedLevel, PackedTensor, is_temporary,
    safetensors_header,
};
pub use plan::{Estimate, Plan, Ran, Sample, SampleStatistics, Share, TensorEncoder, Trial, TrialCost, Tried};
pub use recipe::{Method, Recipe, Rule};
