//! The files of a model directory beside the model.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::identity::FileIdentity;
use crate::packed::{AtomicFile, create_directory};

/// Bytes that are copied at once.
const BUFFER: usize = 1 << 20;

/// Copies the files of a directory, and of the directories in it, to the directory `to`, with the
/// exception of `except`. Links to files are copied as files; hidden directories, such as `.git`,
/// and links to directories are left out. Each file appears whole or not at all. Files of the same
/// names are replaced.
///
/// Returns the paths of the copied files, relative to the directory.
///
/// # Errors
/// [`Error::Unfit`] if one directory lies inside the other; [`Error::Io`], [`Error::Write`].
pub fn copy_companions(from: &Path, to: &Path, except: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let (inner, outer) = (resolved(from)?, resolved(to)?);
    if inner.starts_with(&outer) || outer.starts_with(&inner) {
        return Err(Error::unfit(to, format!("it and `{}` lie inside each other; give another one", from.display())));
    }
    let identity = |path: &PathBuf| FileIdentity::of(path).map_err(|e| Error::io(path, e));
    let except = except.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
    create_directory(to)?;
    let mut found = Vec::new();
    list(from, Path::new(""), &mut found)?;
    found.sort();
    let mut copied = Vec::new();
    for name in found {
        let path = from.join(&name);
        if !except.contains(&identity(&path)?) {
            copy(&path, &to.join(&name))?;
            copied.push(name);
        }
    }
    Ok(copied)
}

/// The path without links, also of a directory that does not exist yet.
fn resolved(path: &Path) -> Result<PathBuf, Error> {
    let whole = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    for existing in whole.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(existing), whole.strip_prefix(existing)) {
            return Ok(real.join(rest));
        }
    }
    Ok(whole)
}

/// Lists the files below `root`/`folder`, relative to `root`.
fn list(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let directory = root.join(folder);
    let io = |e| Error::io(&directory, e);
    for entry in fs::read_dir(&directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = folder.join(entry.file_name());
        if entry.file_type().map_err(io)?.is_dir() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                list(root, &name, found)?;
            }
        } else if fs::metadata(entry.path()).is_ok_and(|target| target.is_file()) {
            found.push(name);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    create_directory(crate::layout::directory(to))?;
    let io = |e| Error::io(from, e);
    let (mut source, mut target) = (File::open(from).map_err(io)?, AtomicFile::create(to)?);
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer).map_err(io)? {
            0 => return target.commit(),
            count => target.write(&buffer[..count])?,
        }
    }
}
