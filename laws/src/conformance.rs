//! The tests that [`crate::conformance!`] generates.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use codec_api::Registry;

use super::{Law, Subject, Violation};

/// Checks laws over the configurations of every codec that the crate named `package` registers.
///
/// # Panics
/// If a law is broken (the message lists all violations), or if `package` registers no codec: this
/// function is the body of a test.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn check_crate(laws: &[Law], package: &str, manifest_dir: &str) {
    let subjects = Registry::linked()
        .map_err(|e| e.to_string())
        .and_then(|registry| Subject::of_crate(&registry, package, manifest_dir));
    let subjects = subjects.unwrap_or_else(|reason| panic!("{reason}"));
    assert!(
        !subjects.is_empty(),
        "crate `{package}` registers no codec in this program: is its line `use … as _;` missing in the test?"
    );
    let violations = in_parallel(&subjects, |subject| Law::check_all(laws, subject).err());
    if !violations.is_empty() {
        let lines: Vec<_> = violations.iter().map(|v| format!("\n  {v}")).collect();
        panic!("{} of {} configurations break the law:{}", violations.len(), subjects.len(), lines.concat());
    }
}

/// Checks the subjects with one thread per core. Each thread fetches the next subject when it is
/// free, since some codecs need a hundred times as long as others.
fn in_parallel(subjects: &[Subject], check: impl Fn(&Subject) -> Option<Violation> + Sync) -> Vec<Violation> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((i, subject)) = take(subjects, &next) {
            if let Some(violation) = check(subject)
                && let Ok(mut found) = found.lock()
            {
                found.push((i, violation));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, violation)| violation).collect()
}

fn take<'a>(subjects: &'a [Subject], next: &AtomicUsize) -> Option<(usize, &'a Subject)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, subjects.get(i)?))
}
