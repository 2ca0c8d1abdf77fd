//! Reads an index, such as `model.safetensors.index.json`: it lists the shard of each tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::foreign;
use crate::layout::{MISSING, NAMED, listed, name};
use crate::shard::{Tensor, open};

/// Largest index in bytes: the limit that safetensors has for a header.
const MAX_INDEX: u64 = 100_000_000;

/// A parsed index. All shard paths lie inside its directory; [`Self::files`] checks that they
/// exist.
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// Path of the shard of each tensor.
    shards: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
struct Json {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    pub(crate) fn read(path: PathBuf) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Index { path: path.clone(), reason };
        let mut text = Vec::new();
        open(&path)?.take(MAX_INDEX + 1).read_to_end(&mut text).map_err(|e| Error::io(&path, e))?;
        if text.len() as u64 > MAX_INDEX {
            return Err(wrong(format!("it is larger than {MAX_INDEX} bytes")));
        }
        let json: Json = serde_json::from_slice(&text).map_err(|e| refused(&path, &text, wrong(e.to_string())))?;
        if json.weight_map.is_empty() {
            return Err(wrong("its `weight_map` lists no tensor".to_owned()));
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut shards = BTreeMap::new();
        for (tensor, shard) in json.weight_map {
            if !stays_inside(&shard) {
                return Err(wrong(format!(
                    "it places tensor `{tensor}` in `{shard}`, which is not a plain path below its directory"
                )));
            }
            shards.insert(tensor, dir.join(shard));
        }
        Ok(Self { path, shards })
    }

    /// Whether the index takes tensors from this file.
    pub(crate) fn lists(&self, file: &Path) -> bool {
        self.shards.values().any(|shard| shard == file)
    }

    /// The path of the shard of each tensor.
    pub(crate) fn places(&self) -> &BTreeMap<String, PathBuf> {
        &self.shards
    }

    /// The paths of the shards, sorted, whether they exist or not.
    pub(crate) fn paths(&self) -> BTreeSet<&PathBuf> {
        self.shards.values().collect()
    }

    /// The paths of the shards, sorted.
    ///
    /// # Errors
    /// [`Error::MissingShards`] with all shards that do not exist.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let files = self.paths();
        let missing: Vec<_> = files.iter().filter(|file| !file.exists()).map(|file| self.describe(file)).collect();
        if missing.is_empty() {
            return Ok(files.into_iter().cloned().collect());
        }
        Err(Error::MissingShards {
            index: self.path.clone(),
            total: files.len(),
            count: missing.len(),
            names: listed(&missing, MISSING),
        })
    }

    /// The name of a missing shard, and the target if it is a link.
    fn describe(&self, shard: &Path) -> String {
        let dir = self.path.parent().unwrap_or(Path::new(""));
        let name = shard.strip_prefix(dir).unwrap_or(shard).display();
        match fs::read_link(shard) {
            Ok(target) => format!("{name} (a link to the missing {})", target.display()),
            Err(_) => name.to_string(),
        }
    }

    /// Removes the tensors that the index does not take from the shard that has them. Returns notes
    /// about them. `files` are the paths of the shards.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for the first tensor that is not in its shard.
    pub(crate) fn select(&self, tensors: &mut Vec<Tensor>, files: &[PathBuf]) -> Result<Vec<String>, Error> {
        let (mut unlisted, mut elsewhere) = (Vec::new(), Vec::new());
        tensors.retain(|tensor| {
            let file = &files[tensor.file];
            match self.shards.get(&tensor.name) {
                Some(shard) if shard == file => return true,
                Some(shard) => elsewhere.push(format!("`{}` from {}, not {}", tensor.name, name(shard), name(file))),
                None => unlisted.push(format!("`{}` in {}", tensor.name, name(file))),
            }
            false
        });
        let found: BTreeSet<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        if let Some((tensor, shard)) = self.shards.iter().find(|(tensor, _)| !found.contains(tensor.as_str())) {
            let (index, shard, tensor) = (self.path.clone(), shard.clone(), tensor.clone());
            return Err(Error::MissingTensor { index, shard, tensor });
        }
        let note = |names: &[String], what| {
            (!names.is_empty()).then(|| format!("{what} ({}): {}", names.len(), listed(names, NAMED)))
        };
        let notes = [
            note(&elsewhere, "tensors in several shards are taken from the shard that the index names"),
            note(&unlisted, "tensors that the index does not list are left out"),
        ];
        Ok(notes.into_iter().flatten().collect())
    }
}

/// The error for an index that cannot be parsed: another format, or `wrong` if it looks like JSON.
fn refused(path: &Path, text: &[u8], wrong: Error) -> Error {
    match text.trim_ascii_start() {
        [] | [b'{' | b'[', ..] => wrong,
        _ => foreign::recognise(path, text).unwrap_or(wrong),
    }
}

/// Whether a relative path, of a shard for instance, stays below its directory: not empty, not
/// absolute, no `..`. Only the text is checked: a symbolic link may lead elsewhere, as in the
/// Hugging Face cache.
pub(crate) fn stays_inside(path: &str) -> bool {
    let path = Path::new(path);
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}
