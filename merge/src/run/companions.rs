//! The files beside the tensors: configuration, tokenizer and others of the donor.

use std::path::{Path, PathBuf};

use checkpoint::{AtomicFile, Companions};

use super::write_json;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::vocabulary::TOKENIZER_FILES;

/// Ends of names of files with weights, which the output does not get.
const WEIGHTS: [&str; 12] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".onnx",
    ".h5",
    ".msgpack",
    ".index.json",
    ".npz",
    ".tmp",
];
/// Files that describe the donor.
const OWN: [&str; 4] = ["config.json", "README.md", "mergekit_config.yml", ".gitattributes"];

/// Checks that the output is none of the inputs.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn check(plan: &Plan, out: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    for (directory, _) in plan.models.iter().filter_map(|model| model.directory()) {
        if real(directory) == real(out) {
            return Err(Error::file(out, "it is the directory of an input; give another one"));
        }
    }
    found(plan, out).map(|_| ())
}

fn found(plan: &Plan, out: &Path) -> Result<Option<(PathBuf, Companions)>> {
    let Some((directory, files)) = plan.donor_directory() else { return Ok(None) };
    Ok(Some((directory.to_owned(), Companions::find(directory, out, &files)?)))
}

/// Writes the edited configuration, and copies the others.
///
/// # Errors
/// Those of the files.
pub(crate) fn write(plan: &Plan, out: &Path) -> Result<()> {
    if let Some((directory, companions)) = found(plan, out)? {
        let wanted = |name: &&PathBuf| {
            let text = name.to_string_lossy();
            let replaced = plan.files.contains_key(&*text) || (plan.own_tokenizer && TOKENIZER_FILES.contains(&&*text));
            !replaced && !WEIGHTS.iter().any(|end| text.ends_with(end)) && !OWN.contains(&&*text)
        };
        for name in companions.names().iter().filter(wanted) {
            copy(&directory.join(name), &out.join(name))?;
        }
    }
    for (name, bytes) in &plan.files {
        super::write_whole(&out.join(name), bytes)?;
    }
    match &plan.config {
        Some(config) => write_json(&out.join("config.json"), config),
        None => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).map_err(|e| Error::file(from, e.to_string()))?;
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e.to_string()))?;
    }
    let mut file = AtomicFile::create(to)?;
    file.write(&bytes)?;
    Ok(file.commit()?)
}
