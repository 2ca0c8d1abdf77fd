//! Fills the packed files with the sections of the parts, while other threads read what is there.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use codec_api::Progress;

use super::Plan;
use super::commit::{Content, Piece};
use super::parts::Part;
use super::shards::NewFile;
use crate::error::Error;
use crate::packed::{AtomicFile, Disk, Sealed, storing};

/// How far the new files are filled.
#[derive(Default)]
pub(super) struct Filled {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// So many bytes of all files, one after the other, are there.
    bytes: u64,
    /// No more will come.
    over: bool,
}

impl Filled {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many bytes of all files, one after the other, are there. Returns whether they
    /// are: they are not if the copy has failed.
    pub(super) fn wait(&self, bytes: u64) -> bool {
        let pending = |state: &mut State| state.bytes < bytes && !state.over;
        let state = self.changed.wait_while(self.state(), pending).unwrap_or_else(PoisonError::into_inner);
        state.bytes >= bytes
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }
}

impl Plan {
    /// Begins a file: it has its head and its length.
    pub(super) fn begin(&self, new: &NewFile) -> Result<Sealed, Error> {
        let mut file = AtomicFile::create_in(&self.parts(), &new.target)?;
        file.write(&new.head)?;
        file.set_len(new.bytes())?;
        file.sealed()
    }
}

/// Writes the sections of all files, which were begun. Meanwhile `check` runs, if rayon's
/// current pool has another thread, and the disk stores what is written.
pub(super) fn fill<R: Send>(
    files: &[NewFile],
    begun: Vec<Sealed>,
    parts: &[Part],
    progress: &dyn Progress,
    check: impl FnOnce(&Filled) -> R + Send,
) -> Result<(Vec<Sealed>, R), Error> {
    let filled = &Filled::default();
    storing(|disk| {
        let copy = move || {
            let written = fill_all(files, begun, (parts, progress), filled, &disk);
            let bytes = files.iter().map(NewFile::bytes).sum();
            filled.set(State { bytes: if written.is_ok() { bytes } else { 0 }, over: true });
            written
        };
        let (written, checked) = rayon::join(copy, || check(filled));
        Ok((written?, checked))
    })
}

fn fill_all(
    files: &[NewFile],
    begun: Vec<Sealed>,
    parts: (&[Part], &dyn Progress),
    filled: &Filled,
    disk: &Disk,
) -> Result<Vec<Sealed>, Error> {
    let mut before = 0;
    let fill = |(new, begun): (&NewFile, Sealed)| {
        let mut file = begun.reopened(new.head.len() as u64)?;
        disk.store(file.disk()?);
        copy_pieces(new, before, parts, &mut file, filled)?;
        before += new.bytes();
        file.sealed()
    };
    files.iter().zip(begun).map(fill).collect()
}

/// Writes the sections of a file that begins behind `before` bytes of others.
fn copy_pieces(
    new: &NewFile,
    before: u64,
    (parts, progress): (&[Part], &dyn Progress),
    file: &mut AtomicFile,
    filled: &Filled,
) -> Result<(), Error> {
    let (mut open, mut bytes) = (None, before + new.head.len() as u64);
    for piece in &new.pieces {
        Error::check(progress)?;
        copy_piece(piece, parts, &mut open, file)?;
        bytes += piece.spec.byte_len() as u64;
        if matches!(piece.content, Content::Part { .. }) {
            filled.set(State { bytes, over: false });
        }
    }
    Ok(())
}

/// Writes the bytes of a section. `open` is the part of the last one, with its number.
fn copy_piece(
    piece: &Piece,
    parts: &[Part],
    open: &mut Option<(usize, File)>,
    file: &mut AtomicFile,
) -> Result<(), Error> {
    let (unit, offset) = match &piece.content {
        Content::Memory(bytes) => return file.write(bytes),
        Content::Part { unit, offset } => (*unit, *offset),
    };
    let path = &parts[unit].path;
    let part = match open {
        Some((current, part)) if *current == unit => part,
        other => &mut other.insert((unit, File::open(path).map_err(|e| Error::io(path, e))?)).1,
    };
    file.copy_from(part, path, offset, piece.spec.byte_len() as u64)
}
