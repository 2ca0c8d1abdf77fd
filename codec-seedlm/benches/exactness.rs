//! Counts the blocks for which the search and brute force over all seeds find different codes, in
//! over ten thousand Gaussian, Laplace and trained blocks. The run takes about two minutes and
//! fails on the first difference.

use std::time::Instant;

use codec_api::{Codec, EncodeCx, Payload, TensorView};
use codec_seedlm::SeedLm;
use harness::testing::weights;

const BLOCKS: usize = 1700;

fn main() {
    let model = concat!("model:", env!("CARGO_MANIFEST_DIR"), "/../assets/stories260k");
    let mut blocks = 0;
    for (kind, suite) in [("gaussian", "gaussian"), ("laplace", "laplace"), ("trained", model)] {
        for (preset, codec, size) in [("4bit", SeedLm::four_bit(), 8), ("3bit", SeedLm::three_bit(), 12)] {
            let values = weights(suite, BLOCKS * size);
            let tensor = TensorView::from_f32([values.len()], &values).expect("the shape fits");
            let (found, quick) = timed(|| codec.encode(tensor.clone(), &EncodeCx::new(0)));
            let (expected, slow) = timed(|| codec.encode_by_brute_force(&tensor, &EncodeCx::new(0)));
            assert!(found == expected, "{preset}, {kind}: the search differs from brute force");
            let times = slow / quick;
            println!("{preset} {kind:9} {BLOCKS} blocks, 0 mismatches; brute force took {times:.0} times as long");
            blocks += BLOCKS;
        }
    }
    println!("{blocks} blocks, 0 mismatches");
}

fn timed(encode: impl FnOnce() -> codec_api::Result<Payload>) -> (Payload, f64) {
    let start = Instant::now();
    let payload = encode().expect("it encodes");
    (payload, start.elapsed().as_secs_f64())
}
