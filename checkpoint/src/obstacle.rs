//! What is in the way of a new file or directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::plan::Plan;

/// A file, or a directory with content, where something new is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    path: PathBuf,
    is_directory: bool,
}

impl Obstacle {
    /// What is at a path; `None` for nothing and for an empty directory.
    ///
    /// # Errors
    /// [`Error::Io`] if a directory cannot be read.
    pub fn at(path: &Path) -> Result<Option<Self>, Error> {
        let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(None) };
        let is_directory = metadata.is_dir();
        let failed = |error| Error::io(path, error);
        if is_directory && fs::read_dir(path).map_err(failed)?.next().is_none() {
            return Ok(None);
        }
        Ok(Some(Self { path: path.to_owned(), is_directory }))
    }

    /// What is there, and that this option of the caller replaces it.
    pub fn message(&self, option: &str) -> String {
        let path = self.path.display();
        if self.is_directory {
            format!("`{path}` is not empty; {option} replaces files in it")
        } else {
            format!("`{path}` exists; {option} replaces it")
        }
    }
}

impl Plan {
    /// What is in the way of the packed model at the target, which is the argument of the plan.
    /// What an interrupted run has left is not in the way.
    ///
    /// # Errors
    /// As [`Obstacle::at`].
    pub fn obstacle(&self, target: &Path) -> Result<Option<Obstacle>, Error> {
        let is_directory = self.target().parent() == std::path::absolute(target).ok().as_deref();
        let found = if is_directory && !self.parts().exists() { Obstacle::at(target)? } else { None };
        let files = || self.older_files().iter().find_map(|file| Obstacle::at(file).transpose()).transpose();
        found.map_or_else(files, |found| Ok(Some(found)))
    }
}
