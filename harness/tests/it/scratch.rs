//! Scratch memory, with an allocator that really counts.

use codec_api::Registry;
use harness::matrix::{Options, columns_for, run};
use harness::suite::{Suite, SuiteOptions};

#[test]
fn the_means_are_held_twice_and_nothing_else_is() {
    let registry = Registry::linked().unwrap();
    let suite = Suite::parse("gaussian:1024x1024", &SuiteOptions::default()).unwrap();
    let columns = columns_for(&registry, &["baseline.zeros".to_owned(), "baseline.mean".to_owned()]).unwrap();
    let rows = run(&suite, &columns, &Options::new(&registry), &mut ());
    let scratch: Vec<u64> = rows.iter().map(|row| row.peak_scratch_bytes.unwrap()).collect();
    assert!(scratch[0] < 4096, "the zeros need {} bytes", scratch[0]);
    // Encode and decode each hold 64 KiB of means beside the payload.
    assert!((65_536..65_536 + 4096).contains(&scratch[1]), "the means need {} bytes", scratch[1]);
}
