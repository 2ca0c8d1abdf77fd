//! The files of a model directory beside the model.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::identity::FileIdentity;
use crate::packed::{AtomicFile, create_directory};

/// Bytes that are copied at once.
const BUFFER: usize = 1 << 20;

/// The files of a model's directory that are to be copied, since they are not part of the model:
/// configuration, tokenizer, and all others, also in directories in it. Hidden directories, such as
/// `.git`, and links to directories are left out.
#[derive(Clone, Debug)]
pub struct Companions {
    from: PathBuf,
    to: PathBuf,
    /// Relative to `from`, sorted.
    names: Vec<PathBuf>,
}

impl Companions {
    /// Finds the files of the directory `from` for the directory `to`, except `model`, the files of
    /// the model. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Unfit`] if one directory lies inside the other; [`Error::Io`].
    pub fn find(from: &Path, to: &Path, model: &[PathBuf]) -> Result<Self, Error> {
        let (inner, outer) = (resolved(from)?, resolved(to)?);
        if inner.starts_with(&outer) || outer.starts_with(&inner) {
            let reason = format!("it and `{}` lie inside each other; give another one", from.display());
            return Err(Error::unfit(to, reason));
        }
        let identity = |path: &PathBuf| FileIdentity::of(path).map_err(|e| Error::io(path, e));
        let model = model.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
        let (mut found, mut names) = (Vec::new(), Vec::new());
        list(from, Path::new(""), &mut found)?;
        for name in found {
            if !model.contains(&identity(&from.join(&name))?) {
                names.push(name);
            }
        }
        names.sort();
        Ok(Self { from: from.to_owned(), to: to.to_owned(), names })
    }

    /// These files of the directory `from` for the directory `to`.
    pub(crate) fn of(from: &Path, to: &Path, names: Vec<PathBuf>) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), names }
    }

    /// The files that are not in `to`, or are others there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn faults(&self) -> Result<Vec<Error>, Error> {
        let mut faults = Vec::new();
        for name in &self.names {
            let (source, copy) = (self.from.join(name), self.to.join(name));
            let reason = match fs::metadata(&copy) {
                Err(error) if error.kind() == ErrorKind::NotFound => "it is missing; the source has it",
                _ if !have_same_bytes(&source, &copy)? => "it is not the file of the source",
                _ => continue,
            };
            faults.push(self.fault(name, reason));
        }
        Ok(faults)
    }

    /// The files in `to` that are neither in `from` nor in `model`, the files of the model there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn strangers(&self, model: &[PathBuf]) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        list(&self.to, Path::new(""), &mut found)?;
        found.sort();
        found.retain(|name| !self.names.contains(name) && !model.contains(&self.to.join(name)));
        Ok(found.iter().map(|name| self.fault(name, "the source has no such file")).collect())
    }

    fn fault(&self, name: &Path, reason: &str) -> Error {
        Error::Differs { path: self.to.clone(), part: format!("file `{}`", name.display()), reason: reason.to_owned() }
    }

    /// The files, relative to the directory, sorted.
    pub fn names(&self) -> &[PathBuf] {
        &self.names
    }

    /// Copies the files; links become files. Each file appears whole or not at all. Files of the
    /// same names are replaced.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Write`].
    pub fn copy(&self) -> Result<(), Error> {
        create_directory(&self.to)?;
        self.names.iter().try_for_each(|name| copy(&self.from.join(name), &self.to.join(name)))
    }
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

fn have_same_bytes(first: &Path, second: &Path) -> Result<bool, Error> {
    let open = |path: &Path| File::open(path).map_err(|e| Error::io(path, e));
    let (mut one, mut other) = (open(first)?, open(second)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(BUFFER as u64).read_to_end(&mut left).map_err(|e| Error::io(first, e))?;
        (&mut other).take(BUFFER as u64).read_to_end(&mut right).map_err(|e| Error::io(second, e))?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
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
