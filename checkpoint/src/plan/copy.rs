//! Copies sections from parts into the packed file.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Plan;
use super::commit::{Content, Piece};
use super::parts::Part;
use crate::error::Error;
use crate::packed::AtomicFile;

/// The time between two orders to the disk.
const INTERVAL: Duration = Duration::from_millis(50);

impl Plan {
    /// Writes the bytes of all sections. Another thread has the disk store what is written.
    pub(super) fn copy(&self, pieces: &[Piece], parts: &[Part], file: &mut AtomicFile) -> Result<(), Error> {
        let (disk, done) = (file.disk()?, AtomicBool::new(false));
        let (written, stored) = thread::scope(|scope| {
            let storing = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    thread::park_timeout(INTERVAL);
                    disk.sync_data()?;
                }
                Ok(())
            });
            let mut open = None;
            let written = pieces.iter().try_for_each(|piece| copy_piece(piece, parts, &mut open, file));
            done.store(true, Ordering::Relaxed);
            storing.thread().unpark();
            (written, storing.join().unwrap_or(Ok(())))
        });
        written?;
        // The system tells an error of the disk once only.
        stored.map_err(|error| Error::write(&self.target, error))
    }
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
