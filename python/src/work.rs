//! Work without the interpreter's lock, which Ctrl-C ends.

use std::num::NonZeroUsize;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use codec_api::{Cancel, Progress};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// How often the calling thread looks for Ctrl-C.
const INTERVAL: Duration = Duration::from_millis(30);

/// How often progress is shown.
const SHOWN: Duration = Duration::from_millis(150);

/// The state of a piece of work: how far it is, and whether it shall end.
#[derive(Debug, Default)]
pub struct Work {
    cancel: Cancel,
    done: AtomicU64,
    stage: Mutex<(&'static str, u64)>,
}

impl Work {
    /// Begins a stage: `progress` is called with this name and this number of weights.
    pub fn stage(&self, name: &'static str, weights: u64) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = (name, weights);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Looks for Ctrl-C, and shows progress if [`SHOWN`] has passed since `shown`. An exception
    /// cancels the work.
    fn look(&self, progress: Option<&Py<PyAny>>, shown: &mut Instant) -> PyResult<()> {
        let due = progress.filter(|_| shown.elapsed() >= SHOWN);
        if due.is_some() {
            *shown = Instant::now();
        }
        let looked = Python::attach(|py| {
            py.check_signals()?;
            due.map_or(Ok(()), |progress| self.show(py, progress))
        });
        looked.inspect_err(|_| self.cancel.cancel())
    }

    /// Calls `progress(stage, done, all)`.
    fn show(&self, py: Python<'_>, progress: &Py<PyAny>) -> PyResult<()> {
        let (name, all) = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        progress.call1(py, (name, self.done.load(Ordering::Relaxed).min(all), all)).map(drop)
    }
}

impl Progress for Work {
    fn tick(&self, weights: u64) {
        self.done.fetch_add(weights, Ordering::Relaxed);
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

/// So many threads; one for each core by default.
pub fn cores(threads: Option<usize>) -> Result<usize> {
    match threads {
        Some(threads @ 1..=1024) => Ok(threads),
        Some(other) => Err(Error::value(format!("threads={other}; 1 to 1024 are possible"))),
        None => Ok(thread::available_parallelism().map_or(1, NonZeroUsize::get)),
    }
}

/// A pool of so many threads; of one for each core by default.
pub fn pool(threads: Option<usize>) -> Result<ThreadPool> {
    let built = ThreadPoolBuilder::new().num_threads(cores(threads)?).build();
    built.map_err(|e| Error::failed(format!("cannot start the threads: {e}")))
}

/// Does the work on a pool of so many threads. After Ctrl-C, or an exception of `progress`, the
/// work is cancelled, and the function returns that exception when it has ended.
pub fn in_pool<T: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Work) -> Result<T> + Send,
) -> Result<T> {
    let pool = pool(threads)?;
    on_thread(py, progress, |state| pool.install(|| work(state)))
}

/// As [`in_pool`], on one thread.
pub fn on_thread<T: Send>(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Work) -> Result<T> + Send,
) -> Result<T> {
    let state = &Work::default();
    py.detach(|| {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let worker = scope.spawn(move || {
                // Dropped at the end, also by a panic.
                let _sender: mpsc::Sender<()> = sender;
                work(state)
            });
            let broken = wait(&receiver, state, progress);
            let result = worker.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            broken.map_or(result, |exception| Err(exception.into()))
        })
    })
}

/// Waits until the work ends; looks for Ctrl-C and shows progress meanwhile.
/// Returns the exception that ended it.
fn wait(receiver: &Receiver<()>, state: &Work, progress: Option<&Py<PyAny>>) -> Option<PyErr> {
    let (mut shown, mut broken) = (Instant::now(), None);
    while receiver.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if broken.is_none() {
            broken = state.look(progress, &mut shown).err();
        }
    }
    broken
}

/// Does work that changes nothing outside. After Ctrl-C, or an exception of `progress`, the
/// function returns at once; the work ends in the background, sooner if it looks at its state.
pub fn apart<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Work) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (state, mut shown) = (Arc::new(Work::default()), Instant::now());
    let (sender, receiver) = mpsc::channel();
    let theirs = Arc::clone(&state);
    // The caller may have left.
    thread::spawn(move || drop(sender.send(work(&theirs))));
    py.detach(move || {
        loop {
            match receiver.recv_timeout(INTERVAL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::failed("the work has panicked")),
                Err(RecvTimeoutError::Timeout) => state.look(progress, &mut shown)?,
            }
        }
    })
}
