//! Pins the random stream: codecs that draw random numbers must give the same payloads in every
//! version. The expected numbers come from an independent implementation of BLAKE3, splitmix64 and
//! xoshiro256++.

use codec_api::EncodeCx;
use rand_xoshiro::rand_core::Rng;

#[test]
fn chunk_seeds_and_block_streams_never_change() {
    let chunks = [("model.layers.0.weight", 0), ("model.layers.0.weight", 4096), ("", 0)];
    let seeds = chunks.map(|(tensor, row)| EncodeCx::for_chunk(7, tensor, row).seed);
    assert_eq!(seeds, [7_484_812_555_177_605_581, 9_052_098_658_204_818_362, 12_920_462_387_676_588_995]);
    let cx = EncodeCx::for_chunk(7, "model.layers.0.weight", 0);
    let first = [0, 1, u64::MAX].map(|block| {
        let mut rng = cx.rng(block);
        [rng.next_u64(), rng.next_u64()]
    });
    let wanted = [
        [11_523_030_101_335_858_844, 15_500_933_834_859_428_582],
        [17_456_798_037_114_322_604, 12_547_038_688_849_501_548],
        [11_956_180_764_386_117_044, 15_465_489_459_922_586_732],
    ];
    assert_eq!(first, wanted);
}
