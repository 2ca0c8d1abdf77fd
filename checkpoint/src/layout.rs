//! File names of a model directory in Hugging Face layout.

/// The index of a sharded model.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// A model in one file.
pub(crate) const MODEL: &str = "model.safetensors";
