//! Gives the files of a commit their names, and removes what an older commit has left there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Plan;
use super::shards::NewFile;
use crate::error::Error;
use crate::layout::name;
use crate::packed::{
    AtomicFile, Sealed, is_index_of, is_packed_file, named_like_shards, set_files_in_place_of, set_index,
    sync_directory,
};

/// The index of a sharded model, as other programs write and read it.
#[derive(Serialize)]
struct Index<'a> {
    metadata: Metadata,
    /// The file of each section.
    weight_map: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Metadata {
    /// Bytes of all sections.
    total_size: u64,
}

impl Plan {
    /// The packed file, or the index of a set, once it was committed.
    pub fn written(&self) -> PathBuf {
        let index = self.max_shard_size.map(|_| set_index(&self.target));
        index.filter(|index| index.exists()).unwrap_or_else(|| self.target.clone())
    }

    /// The files that a commit may replace or remove: an older packed model at the target. Shards
    /// beside parts do not count: an interrupted commit has left them.
    pub(crate) fn older_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.target.clone(), set_index(&self.target)];
        files.retain(|path| fs::symlink_metadata(path).is_ok());
        if !self.parts().exists() {
            // Any number of shards may come.
            let find = if self.max_shard_size.is_some() { named_like_shards } else { set_files_in_place_of };
            files.extend(find(&self.target));
        }
        files
    }

    /// Writes the index of these files, if there are several, without giving it its name.
    pub(super) fn write_index(&self, files: &[NewFile]) -> Result<Option<Sealed>, Error> {
        if files.len() < 2 {
            return Ok(None);
        }
        let (mut weight_map, mut total_size) = (BTreeMap::new(), 0);
        for file in files {
            for piece in &file.pieces {
                total_size += piece.spec.byte_len() as u64;
                weight_map.insert(&*piece.name, name(&file.target));
            }
        }
        let index = Index { metadata: Metadata { total_size }, weight_map };
        let text = serde_json::to_string_pretty(&index).map_err(|e| self.wrong(e.to_string()))?;
        let mut file = AtomicFile::create_in(&self.parts(), &set_index(&self.target))?;
        file.write(text.as_bytes())?;
        file.write(b"\n")?;
        file.sealed().map(Some)
    }

    /// Gives the files their names, the index last. Then it removes the files of an older packed
    /// model at the target.
    pub(super) fn publish(&self, files: Vec<Sealed>, index: Option<Sealed>) -> Result<(), Error> {
        files.iter().chain(&index).try_for_each(Sealed::sync)?;
        let old_index = set_index(&self.target);
        // Programs that trust the index would read new and old shards together.
        if index.is_some() && files.iter().any(|file| file.target().exists()) {
            remove(&old_index)?;
            sync_directory(&old_index)?;
        }
        let mut names: Vec<PathBuf> = files.iter().map(|file| file.target().to_owned()).collect();
        files.into_iter().try_for_each(Sealed::persist)?;
        sync_directory(&self.target)?;
        if let Some(index) = index {
            names.push(index.target().to_owned());
            index.persist()?;
            sync_directory(&self.target)?;
        }
        self.remove_older(&names)
    }

    /// Removes the files of an older packed model at the target, which are none of `names`: a set
    /// with another number of files, or a set in the place of a file, or the reverse.
    fn remove_older(&self, names: &[PathBuf]) -> Result<(), Error> {
        let index = set_index(&self.target);
        let is_old = |path: &PathBuf| !names.contains(path);
        let old_index = Some(index).filter(|index| is_old(index) && is_index_of(index, &self.target));
        let old_file = Some(self.target.clone()).filter(|file| is_old(file) && is_packed_file(file));
        let shards = set_files_in_place_of(&self.target).into_iter().filter(is_old);
        // Without its index, the rest of a set does not open as a directory.
        let old: Vec<_> = old_index.into_iter().chain(old_file).chain(shards).collect();
        for path in &old {
            tracing::info!(path = %path.display(), "removed: it belongs to an older packing");
            remove(path)?;
        }
        if old.is_empty() { Ok(()) } else { sync_directory(&self.target) }
    }
}

/// Removes a file if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::write(path, error)),
        _ => Ok(()),
    }
}
