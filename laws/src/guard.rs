//! Catches panics quietly, and notices work that does not end.

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

/// Runs `f`; a panic becomes its message and place, and is not printed.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
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

/// Hears which case is tried next.
pub(crate) struct Watch<'a>(&'a dyn Fn(String));

impl Watch<'_> {
    pub(crate) fn case(&self, name: impl Into<String>) {
        (self.0)(name.into());
    }
}

/// Why watched work has no result.
pub(crate) enum Stuck {
    /// It is still at this case.
    Hangs(String),
    /// It panicked at this case, outside [`catch`].
    Panicked(String),
}

/// Runs `work` on a thread of its own and waits at most `limit` for each case that it announces. A thread that
/// hangs cannot be stopped; it ends with the process.
pub(crate) fn watched<E: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Watch<'_>) -> Result<(), E> + Send + 'static,
) -> Result<Result<(), E>, Stuck> {
    let (sender, events) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more after a hang: then there is nobody to tell.
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
