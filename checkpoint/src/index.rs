//! Reads `model.safetensors.index.json`, which lists the shard of each tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// Largest index in bytes: the limit that safetensors has for a header.
const MAX_INDEX: u64 = 100_000_000;

/// A parsed index. All shard paths lie inside its directory; [`Self::files`] checks that they
/// exist.
pub(crate) struct Index {
    path: PathBuf,
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
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        file.take(MAX_INDEX + 1).read_to_end(&mut text).map_err(|e| Error::io(&path, e))?;
        if text.len() as u64 > MAX_INDEX {
            return Err(wrong(format!("it is larger than {MAX_INDEX} bytes")));
        }
        let json: Json = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
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

    /// The paths of the shards, sorted.
    ///
    /// # Errors
    /// [`Error::MissingShard`] for the first shard that does not exist.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let files: BTreeSet<_> = self.shards.values().collect();
        match files.iter().find(|file| !file.exists()) {
            Some(&shard) => Err(Error::MissingShard { index: self.path.clone(), shard: shard.clone() }),
            None => Ok(files.into_iter().cloned().collect()),
        }
    }

    /// Checks that the shards have exactly the tensors that the index lists, each in the listed
    /// shard. `found` maps the name of every tensor to the shard that has it.
    pub(crate) fn check(&self, found: &BTreeMap<&str, &Path>) -> Result<(), Error> {
        for (tensor, shard) in &self.shards {
            if found.get(tensor.as_str()) != Some(&shard.as_path()) {
                let (index, shard, tensor) = (self.path.clone(), shard.clone(), tensor.clone());
                return Err(Error::MissingTensor { index, shard, tensor });
            }
        }
        match found.iter().find(|(tensor, _)| !self.shards.contains_key(**tensor)) {
            Some((&tensor, &shard)) => Err(Error::UnlistedTensor {
                index: self.path.clone(),
                shard: shard.to_owned(),
                tensor: tensor.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a shard path stays below the directory of the index: not empty, not absolute, no `..`.
/// Only the text is checked: a symbolic link may lead elsewhere, as in the Hugging Face cache.
fn stays_inside(shard: &str) -> bool {
    let path = Path::new(shard);
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}
