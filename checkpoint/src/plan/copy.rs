//! Copies sections from parts into the packed file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::Plan;
use super::commit::{Content, Piece};
use super::parts::Part;
use crate::error::Error;
use crate::packed::{AtomicFile, crc32c};

/// Sections that are read before they are written.
const AHEAD: usize = 2;

/// The time between two orders to the disk.
const INTERVAL: Duration = Duration::from_millis(50);

impl Plan {
    /// Writes the bytes of all sections, and checks those from parts. One thread reads while this
    /// one writes, and another one has the disk store what is written.
    pub(super) fn copy(&self, pieces: &[Piece], parts: &[Part], file: &mut AtomicFile) -> Result<(), Error> {
        let (sender, receiver) = sync_channel(AHEAD);
        let (disk, done) = (file.disk()?, AtomicBool::new(false));
        let (written, stored) = thread::scope(|scope| {
            // The channel ends with the sender.
            scope.spawn(move || self.read(pieces, parts, &sender));
            let storing = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    thread::park_timeout(INTERVAL);
                    disk.sync_data()?;
                }
                Ok(())
            });
            let written = receiver.into_iter().try_for_each(|bytes| file.write(&bytes?));
            done.store(true, Ordering::Relaxed);
            storing.thread().unpark();
            (written, storing.join().unwrap_or(Ok(())))
        });
        written?;
        // The system tells an error of the disk once only.
        stored.map_err(|error| Error::write(&self.target, error))
    }

    /// Sends the bytes of all sections, up to the first that is damaged, or until nobody receives.
    fn read(&self, pieces: &[Piece], parts: &[Part], sender: &SyncSender<Result<Vec<u8>, Error>>) {
        let mut open = None;
        for piece in pieces {
            let bytes = self.read_piece(piece, parts, &mut open);
            let failed = bytes.is_err();
            if sender.send(bytes).is_err() || failed {
                return;
            }
        }
    }

    /// The bytes of a section. `open` is the part of the last one, with its number.
    fn read_piece(&self, piece: &Piece, parts: &[Part], open: &mut Option<(usize, File)>) -> Result<Vec<u8>, Error> {
        let (unit, offset, stored) = match &piece.content {
            Content::Memory(bytes) => return Ok(bytes.clone()),
            Content::Part { unit, offset, crc32c } => (*unit, *offset, *crc32c),
        };
        let path = &parts[unit].path;
        let io = |e| Error::io(path, e);
        let reader = match open {
            Some((current, reader)) if *current == unit => reader,
            other => &mut other.insert((unit, File::open(path).map_err(io)?)).1,
        };
        let mut bytes = vec![0; piece.spec.byte_len()];
        reader.seek(SeekFrom::Start(offset)).and_then(|_| reader.read_exact(&mut bytes)).map_err(io)?;
        if crc32c(&bytes) == stored {
            return Ok(bytes);
        }
        Err(self.wrong(format!("the part of unit {unit} is damaged; run the unit again")))
    }
}
