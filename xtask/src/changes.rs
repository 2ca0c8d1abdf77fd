//! A set of file changes that is applied completely or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// New and edited files, not written yet.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

#[derive(Debug)]
struct Change {
    path: PathBuf,
    before: Option<String>,
    after: String,
}

impl Changes {
    /// Adds a file that does not exist yet.
    pub fn create(&mut self, path: PathBuf, text: String) {
        self.0.push(Change { path, before: None, after: text });
    }

    /// Adds an edit of an existing file.
    ///
    /// # Errors
    /// If the file cannot be read, or `edit` refuses its text.
    pub fn edit(&mut self, path: PathBuf, edit: impl FnOnce(&str) -> Result<String>) -> Result<()> {
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let after = edit(&before).with_context(|| format!("cannot edit {}", path.display()))?;
        if after != before {
            self.0.push(Change { path, before: Some(before), after });
        }
        Ok(())
    }

    /// Writes all files; if one cannot be written, restores the files written before it.
    ///
    /// # Errors
    /// The first failure.
    pub fn apply(&self) -> Result<()> {
        for (done, change) in self.0.iter().enumerate() {
            if let Err(error) = write(&change.path, &change.after) {
                self.0[..=done].iter().rev().for_each(undo);
                return Err(error)
                    .with_context(|| format!("cannot write {}; nothing was changed", change.path.display()));
            }
        }
        Ok(())
    }

    /// The files, in the order of writing.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|change| change.path.as_path())
    }
}

/// Writes under a temporary name first, so that readers see either the old file or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Restores a file if possible. Its own errors are ignored, since the original failure is reported.
fn undo(change: &Change) {
    if let Some(text) = &change.before {
        drop(write(&change.path, text));
        return;
    }
    drop(fs::remove_file(&change.path));
    // Only empty directories can be removed this way.
    for directory in change.path.ancestors().skip(1) {
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_takes_everything_back() {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("old.txt");
        fs::write(&old, "before").unwrap();
        fs::create_dir(root.path().join("in-the-way")).unwrap();
        let mut changes = Changes::default();
        changes.create(root.path().join("new/src/lib.rs"), "new".to_owned());
        changes.edit(old.clone(), |text| Ok(format!("{text} and after"))).unwrap();
        changes.create(root.path().join("in-the-way"), "a directory has this name".to_owned());
        let message = format!("{:#}", changes.apply().unwrap_err());
        assert!(message.contains("in-the-way; nothing was changed"), "{message}");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
