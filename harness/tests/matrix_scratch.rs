//! Scratch memory, with an allocator that really counts.

use codec_api::Registry;
use harness::matrix::{Options, ScratchMeter, columns_for, run};
use harness::suite::{Suite, SuiteOptions};
use peak_alloc::PeakAlloc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(Default)]
struct Meter(AtomicUsize);

impl ScratchMeter for Meter {
    fn start(&self) {
        ALLOCATOR.reset_peak_usage();
        self.0.store(ALLOCATOR.current_usage(), Ordering::Relaxed);
    }

    fn peak(&self) -> u64 {
        ALLOCATOR.peak_usage().saturating_sub(self.0.load(Ordering::Relaxed)) as u64
    }
}

#[test]
fn the_means_are_held_twice_and_nothing_else_is() {
    let registry = Registry::linked().unwrap();
    let suite = Suite::parse("gaussian:1024x1024", &SuiteOptions::default()).unwrap();
    let columns = columns_for(&registry, &["baseline.zeros".to_owned(), "baseline.mean".to_owned()]).unwrap();
    let meter = Meter::default();
    let rows = run(&suite, &columns, &Options::new(&registry).meter(&meter), &mut ());
    let scratch: Vec<u64> = rows.iter().map(|row| row.peak_scratch_bytes.unwrap()).collect();
    assert!(scratch[0] < 4096, "the zeros need {} bytes", scratch[0]);
    // Encode and decode each hold 64 KiB of means beside the payload.
    assert!((65_536..65_536 + 4096).contains(&scratch[1]), "the means need {} bytes", scratch[1]);
}
