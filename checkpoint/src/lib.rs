//! Reads model files: a `.safetensors` file, or a Hugging Face directory of one or several of them.
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
//! Files are mapped, not read: opening costs their headers, a tensor costs its pages when it is touched.
//! Whatever stands in a file, opening it gives a [`Checkpoint`] whose tensors are all there, or an [`Error`] that
//! names the file, the tensor and what to do. Data may begin at any address, so tensors are bytes
//! ([`codec_api::TensorView`] converts them).

mod checkpoint;
mod error;
mod foreign;
mod index;
mod map;
mod shard;
mod source;

pub use checkpoint::Checkpoint;
pub use error::Error;
