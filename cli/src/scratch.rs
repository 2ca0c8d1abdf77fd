//! The allocator that counts, as the matrix wants to ask it.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::matrix::ScratchMeter;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Measures the program's heap.
#[derive(Debug, Default)]
pub struct HeapMeter {
    level: AtomicUsize,
}

impl ScratchMeter for HeapMeter {
    fn start(&self) {
        HEAP.reset_peak_usage();
        self.level.store(HEAP.current_usage(), Ordering::Relaxed);
    }

    fn peak(&self) -> u64 {
        HEAP.peak_usage().saturating_sub(self.level.load(Ordering::Relaxed)) as u64
    }
}
