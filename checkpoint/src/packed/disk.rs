//! Has the disk store files while other threads write them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// The time between two orders to the disk.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// A file that another thread writes.
pub(crate) struct OnDisk {
    pub(super) file: File,
    pub(super) target: PathBuf,
}

impl OnDisk {
    fn sync(&self, whole: bool) -> Result<(), Error> {
        let synced = if whole { self.file.sync_all() } else { self.file.sync_data() };
        synced.map_err(|error| Error::write(&self.target, error))
    }
}

/// A thread that waits for the disk.
pub(crate) struct Disk(Sender<OnDisk>);

impl Disk {
    /// Has the disk store this file, which is going to be written, until the next one comes.
    pub(crate) fn store(&self, file: OnDisk) {
        // The receiver is gone only after an error of the disk, which `storing` returns.
        let _ = self.0.send(file);
    }
}

/// Runs `write`. Another thread has the disk store the files that it gets, the last one until
/// `write` has dropped the [`Disk`].
///
/// # Errors
/// Those of `write`; [`Error::Write`] if the disk fails.
pub(crate) fn storing<R>(write: impl FnOnce(Disk) -> Result<R, Error>) -> Result<R, Error> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let storing = scope.spawn(move || store(&receiver));
        let written = write(Disk(sender));
        // The system tells an error of the disk once only.
        let stored = storing.join().unwrap_or(Ok(()));
        written.and_then(|written| stored.map(|()| written))
    })
}

fn store(files: &Receiver<OnDisk>) -> Result<(), Error> {
    let Ok(mut current) = files.recv() else { return Ok(()) };
    loop {
        match files.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => current.sync(false)?,
            Err(RecvTimeoutError::Disconnected) => return current.sync(true),
            Ok(next) => {
                current.sync(true)?;
                current = next;
            }
        }
    }
}
