//! File names of a model directory in Hugging Face layout.

/// The index of a sharded model.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// A model in one file.
pub(crate) const MODEL: &str = "model.safetensors";
/// Statistics of the model's inputs, in a file beside the model. It is never taken for the model
/// itself.
pub const CALIBRATION: &str = "calibration.safetensors";
