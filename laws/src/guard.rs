//! Catches panics without printing them, and detects work that hangs.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `f`.
///
/// # Errors
/// Message and location of a panic, which is not printed.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                PLACE.set(info.location().map(|place| format!(" at {place}")).unwrap_or_default());
            } else {
                previous(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(before);
    result.map_err(|payload| format!("panicked: {}{}", text(&*payload), PLACE.take()))
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

enum Event<E> {
    Case(String),
    Done(Result<(), E>),
}

/// Receives the name of each case before the case starts.
pub(crate) struct Watch<'a>(&'a dyn Fn(String));

impl Watch<'_> {
    pub(crate) fn case(&self, name: impl Into<String>) {
        (self.0)(name.into());
    }
}

/// The reason why watched work has no result.
pub(crate) enum Stuck {
    /// The work hangs in this case.
    Hangs(String),
    /// The work panicked in this case, outside [`catch`].
    Panicked(String),
}

/// Runs `work` on a separate thread and waits at most `limit` for each case that it announces. A
/// hanging thread cannot be stopped; it ends with the process.
pub(crate) fn watched<E: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Watch<'_>) -> Result<(), E> + Send + 'static,
) -> Result<Result<(), E>, Stuck> {
    let (sender, events) = mpsc::channel();
    thread::spawn(move || {
        // After a hang the receiver is gone, so a failed send is ignored.
        let result = work(&Watch(&|name| drop(sender.send(Event::Case(name)))));
        drop(sender.send(Event::Done(result)));
    });
    let mut case = "the first case".to_owned();
    loop {
        match events.recv_timeout(limit) {
            Ok(Event::Case(name)) => case = name,
            Ok(Event::Done(result)) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => return Err(Stuck::Hangs(case)),
            Err(RecvTimeoutError::Disconnected) => return Err(Stuck::Panicked(case)),
        }
    }
}
