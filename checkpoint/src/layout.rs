//! File names of a model directory in Hugging Face layout.

use std::path::Path;

/// The usual names of a model in one file: of transformers and of diffusers. They go before others.
pub(crate) const MODELS: [&str; 2] = ["model.safetensors", "diffusion_pytorch_model.safetensors"];
/// The end of the name of every safetensors file.
pub(crate) const SUFFIX: &str = ".safetensors";
/// What follows these names in the name of the index of a sharded model.
pub(crate) const INDEX: &str = ".index.json";
/// Statistics of the model's inputs, in a file beside the model. It is never taken for the model
/// itself.
pub const CALIBRATION: &str = "calibration.safetensors";

/// The name of the file that would hold the model of this index whole: `model.safetensors` for
/// `model.safetensors.index.json`, `model.fp16.safetensors` for
/// `model.safetensors.index.fp16.json`. `None` if the path is not named like an index.
pub(crate) fn whole_name(index: &Path) -> Option<String> {
    let (stem, rest) = index.file_name()?.to_str()?.split_once(".safetensors.index.")?;
    let variant = rest.strip_suffix("json")?;
    (variant.is_empty() || variant.ends_with('.')).then(|| format!("{stem}.{variant}safetensors"))
}

/// Number of names in most messages.
pub(crate) const NAMED: usize = 4;

/// Number of missing files or units that a message names.
pub(crate) const MISSING: usize = 32;

/// The first `limit` of these names, for a message.
pub(crate) fn listed(names: &[String], limit: usize) -> String {
    let mut text = names[..names.len().min(limit)].join(", ");
    if names.len() > limit {
        text += ", …";
    }
    text
}

/// The last part of a path, for a message.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The directory of a file; `.` for a bare name.
pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
