//! The folder that a collection works in: what goes from layer to layer, the statistics of finished
//! layers, and the number of finished steps.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use checkpoint::{AtomicFile, Hash, is_temporary};
use serde::{Deserialize, Serialize};

use super::file::no_json;
use crate::error::{Error, Result};

/// The end of the folder's name, behind that of the output.
const SUFFIX: &str = ".work";

const STATE: &str = "state.json";

/// How far a collection is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Hash of all that its results depend on.
    collection: Hash,
    /// Steps that are done; what they have written is on the disk.
    done: usize,
    steps: usize,
}

/// A folder, which no other process uses.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    state: State,
    _lock: Option<File>,
}

impl Folder {
    /// Opens the folder beside an output, or creates it.
    ///
    /// # Errors
    /// [`Error::File`] if it belongs to something else, or another process uses it.
    pub(super) fn open(output: &Path, collection: Hash, steps: usize) -> Result<Self> {
        let path = folder(output);
        let refused = |reason: &str| Error::File { path: path.clone(), reason: reason.to_owned() };
        let found = state(&path);
        match &found {
            Some(state) if state.collection != collection || state.steps != steps => {
                return Err(refused(
                    "it is the working folder of another calibration: the model, the text, an option or the version \
                     of the program was another; delete it, or give the command that has begun it",
                ));
            }
            None if !is_free(&path) => {
                return Err(refused("it is in the way, and no working folder of `netweight calibrate`; remove it"));
            }
            _ => {}
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&path, &error)),
            _ => {}
        }
        let lock = File::open(&path).ok();
        if matches!(lock.as_ref().map(File::try_lock), Some(Err(TryLockError::WouldBlock))) {
            return Err(refused("another process works in this folder; wait for its end"));
        }
        let state = found.unwrap_or(State { collection, done: 0, steps });
        let folder = Self { path, state, _lock: lock };
        folder.save()?;
        Ok(folder)
    }

    /// Steps that are done.
    pub(super) fn done(&self) -> usize {
        self.state.done
    }

    /// Says that so many steps are done.
    pub(super) fn set_done(&mut self, steps: usize) -> Result<()> {
        self.state.done = steps;
        self.save()
    }

    fn save(&self) -> Result<()> {
        let mut file = AtomicFile::create(&self.file(STATE))?;
        file.write(&serde_json::to_vec(&self.state).map_err(|error| no_json(&error))?)?;
        Ok(file.commit()?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes files that no later step reads.
    pub(super) fn discard(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes it, and last what says how far it is.
    pub(super) fn remove(self) -> Result<()> {
        let removed = || {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name() != STATE {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_file(self.file(STATE))?;
            fs::remove_dir(&self.path)
        };
        removed().map_err(|error| failed(&self.path, &error))
    }
}

/// The working folder of the collection with this output. An interrupted one leaves it.
pub fn folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// Whether the collection with this output was interrupted in its last step or after it: then the
/// output may be there.
pub fn ends_at(output: &Path) -> bool {
    state(&folder(output)).is_some_and(|state| state.done + 1 >= state.steps)
}

fn state(folder: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(folder.join(STATE)).ok()?).ok()
}

/// Whether nothing of this name is there, or a folder without files of others.
fn is_free(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else { return fs::symlink_metadata(folder).is_err() };
    let is_first = |name: &str| is_temporary(name) && name.starts_with(&format!(".{STATE}."));
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_first)))
}

/// The error of a file or folder that cannot be created or removed.
fn failed(path: &Path, error: &io::Error) -> Error {
    Error::File { path: path.to_owned(), reason: format!("it cannot be written: {error}") }
}
