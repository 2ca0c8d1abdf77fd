//! Pins the random stream: codecs that draw random numbers must give the same payloads in every
//! version. The expected numbers come from an independent implementation of BLAKE3, splitmix64 and
//! xoshiro256++.

use codec_api::{Dtype, EncodeCx, TensorSpec};
use rand_xoshiro::rand_core::Rng;

#[test]
fn chunk_seeds_and_block_streams_never_change() {
    let tensors = ["model.layers.0.weight", ""].map(|tensor| EncodeCx::for_tensor(7, tensor).seed);
    assert_eq!(tensors, [15_251_981_284_670_777_640, 12_495_585_627_257_247_677]);
    let spec = TensorSpec::new(Dtype::F32, [8192, 4]).expect("a matrix");
    let tensor = EncodeCx::for_tensor(7, "model.layers.0.weight");
    let chunk = |first| tensor.for_rows(&spec, first..first + 4096).expect("a chunk");
    assert_eq!([0, 4096].map(|first| chunk(first).seed), [17_464_841_448_242_255_301, 17_871_606_278_468_567_511]);
    let cx = chunk(0);
    let first = [0, 1, u64::MAX].map(|block| {
        let mut rng = cx.rng(block);
        [rng.next_u64(), rng.next_u64()]
    });
    let wanted = [
        [13_305_816_811_775_108_965, 8_407_422_197_332_695_561],
        [15_108_009_494_637_977_433, 8_736_463_742_062_670_245],
        [10_123_902_970_248_705_467, 1_202_281_211_989_962_000],
    ];
    assert_eq!(first, wanted);
}
