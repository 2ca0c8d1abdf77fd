//! Measures the heap memory of a piece of work.
//!
//! A program installs [`Counting`] as its global allocator; [`peak`] then returns the largest
//! amount of heap that a closure held at once. Each thread has its own counters, which count only
//! inside [`peak`]. Outside [`peak`], an allocation costs one additional read of a thread-local
//! variable.
//!
//! ```
//! #[global_allocator]
//! static HEAP: heap::Counting = heap::Counting;
//!
//! let (sum, bytes) = heap::peak(|| vec![1u8; 1000].into_iter().map(u32::from).sum::<u32>());
//! assert_eq!((sum, bytes), (1000, Some(1000)));
//! ```
//!
//! Three kinds of memory are not counted: `malloc` in C libraries, memory maps, and allocations of
//! other threads.

// `GlobalAlloc`, the only trait that this crate implements, is unsafe to implement; `malloc_trim`
// is a foreign function.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// Bytes of one measurement, counted from its start.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Allocated minus freed bytes. Negative when the work frees memory from before its start.
    live: i64,
    /// The largest value of `live`, at least 0.
    peak: i64,
}

thread_local! {
    /// The current measurement of this thread. The initial value is a constant and the type has no
    /// destructor, so that an allocator may use it at any time.
    static COUNT: Cell<Option<Count>> = const { Cell::new(None) };
}

/// The system allocator; counts allocations inside [`peak`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// Adds bytes to the measurement of this thread, if there is one.
#[inline]
fn add(bytes: i64) {
    if let Some(Count { live, peak }) = COUNT.get() {
        let live = live + bytes;
        COUNT.set(Some(Count { live, peak: peak.max(live) }));
    }
}

/// Gives freed memory back to the system. The allocator of glibc would otherwise keep some of what
/// a large piece of work has freed; with other allocators, the function does nothing.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function, which only touches memory that is free.
        unsafe { malloc_trim(0) };
    }
}

// SAFETY: every call goes to `System` with the caller's own arguments; counting neither allocates
// nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work` and returns the most bytes that this thread held above the value at the start.
///
/// The bytes are `None` if the program's allocator is not [`Counting`]. Measurements may be nested.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    /// Ends the measurement, also after a panic, and adds it to the enclosing one.
    struct Outer(Option<Count>);
    impl Drop for Outer {
        fn drop(&mut self) {
            let inner = COUNT.get().unwrap_or_default();
            COUNT.set(
                self.0.map(|Count { live, peak }| Count { live: live + inner.live, peak: peak.max(live + inner.peak) }),
            );
        }
    }

    let installed = is_installed();
    let outer = Outer(COUNT.replace(Some(Count::default())));
    let result = work();
    let count = COUNT.get().unwrap_or_default();
    drop(outer);
    (result, installed.then_some(count.peak as u64))
}

/// Whether the program's allocations go through [`Counting`].
fn is_installed() -> bool {
    let outer = COUNT.replace(Some(Count::default()));
    drop(black_box(Box::new(0u8)));
    let counted = COUNT.replace(outer).unwrap_or_default();
    counted.peak > 0
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    #[global_allocator]
    static HEAP: Counting = Counting;

    fn hold(bytes: usize) {
        drop(black_box(vec![1u8; bytes]));
    }

    #[test]
    fn the_peak_is_what_is_held_at_once() {
        assert_eq!(peak(|| (hold(100), hold(300), hold(200))).1, Some(300));
        let both = || black_box((vec![1u8; 100], vec![0u8; 300]));
        assert_eq!(peak(both).1, Some(400));
        assert_eq!(peak(|| ()).1, Some(0));
    }

    #[test]
    fn growing_in_place_counts_the_larger_size() {
        let grow = || {
            let mut bytes = Vec::<u8>::with_capacity(100);
            bytes.reserve_exact(1000);
            black_box(bytes);
        };
        assert_eq!(peak(grow).1, Some(1000));
    }

    #[test]
    fn freeing_older_memory_does_not_count() {
        let old = vec![1u8; 5000];
        let work = || {
            drop(black_box(old));
            hold(100);
        };
        assert_eq!(peak(work).1, Some(0));
    }

    #[test]
    fn a_measurement_inside_another_is_part_of_it() {
        let outer = || {
            let kept = black_box(vec![1u8; 50]);
            assert_eq!(peak(|| hold(400)).1, Some(400));
            drop(kept);
            hold(300);
        };
        assert_eq!(peak(outer).1, Some(450));
    }

    #[test]
    fn other_threads_do_not_count() {
        thread::scope(|scope| {
            let busy = scope.spawn(|| (0..1000).for_each(|_| hold(1 << 20)));
            (0..1000).for_each(|_| assert_eq!(peak(|| hold(10)).1, Some(10)));
            busy.join().unwrap();
        });
    }

    #[test]
    fn a_panic_ends_the_measurement() {
        drop(catch_unwind(AssertUnwindSafe(|| peak(|| std::panic::resume_unwind(Box::new(1))))));
        assert!(COUNT.get().is_none());
    }
}
