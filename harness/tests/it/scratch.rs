//! Scratch memory, with an allocator that really counts.

use codec_api::Registry;
use harness::matrix::{Options, columns_for, run};
use harness::suite::{Suite, SuiteOptions};

#[test]
fn an_f32_copy_of_other_weights_is_held_and_nothing_else_is() {
    const COPY: u64 = 4 << 20;
    let registry = Registry::linked().unwrap();
    let columns = columns_for(&registry, &["baseline.zeros".to_owned(), "baseline.mean".to_owned()]).unwrap();
    for (suite, copy) in [("gaussian:1024x1024", 0), ("gaussian:1024x1024:bf16", COPY)] {
        let suite = Suite::parse(suite, &SuiteOptions::default()).unwrap();
        for row in run(&suite, &columns, &Options::new(&registry), &mut ()) {
            // The means are the payload, and no scratch.
            let scratch = row.peak_scratch_bytes.unwrap();
            assert!((copy..copy + 4096).contains(&scratch), "{}: {} holds {scratch} bytes", suite.name, row.codec);
        }
    }
}
