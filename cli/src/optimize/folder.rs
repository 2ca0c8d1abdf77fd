//! The folder of packed candidates, which goes when a winner is written.

use std::fs;
use std::path::{Path, absolute};

use anyhow::{Context, Result, ensure};

/// The file that tells this folder from those of people.
const MARK: &str = "about.txt";

const ABOUT: &str =
    "`netweight optimize` keeps packed candidates here, and removes this folder when it writes a winner.\n";

/// Makes the folder, or takes that of an earlier search. The files are not to be in it.
///
/// # Errors
/// If one of the files is in the folder, the folder has content of others, or cannot be written.
pub fn make<'a>(folder: &Path, files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let shown = folder.display();
    let whole = absolute(folder)?;
    for file in files {
        let reason = "which is for packed candidates and removed after the search; give another place";
        ensure!(!absolute(file)?.starts_with(&whole), "`{}` is in `{shown}`, {reason}", file.display());
    }
    let mark = folder.join(MARK);
    let is_ours = || fs::read(&mark).is_ok_and(|text| text == ABOUT.as_bytes());
    let is_empty = || -> Result<bool> { Ok(fs::read_dir(folder)?.next().is_none()) };
    if folder.exists() && !is_ours() {
        let other = || format!("cannot read `{shown}`");
        let remedy = "the search would put packed candidates there and remove it; move it, or give another --output";
        ensure!(is_empty().with_context(other)?, "`{shown}` is not of an earlier search: {remedy}");
    }
    fs::create_dir_all(folder).and_then(|()| fs::write(&mark, ABOUT)).with_context(|| format!("cannot make `{shown}`"))
}
