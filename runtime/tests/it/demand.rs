//! Weights that are loaded on demand give the bits of those that stay in memory.

use codec_api::Dtype;
use runtime::{CacheType, Decoder, Options, Resident};

use crate::support::{Tiny, logits, open, reference};

/// The least limit that the model runs with, as the error for a lower one names it.
fn least(tiny: &Tiny, options: Options) -> u64 {
    let error = open(&tiny.path(), options.with_memory(1)).unwrap_err().to_string();
    let (_, number) = error.split_once("a limit of at least ").expect(&error);
    number.split(' ').next().unwrap().parse().unwrap()
}

fn all_bytes(decoder: &Decoder) -> u64 {
    decoder.demand().unwrap().all
}

/// Compares the logits under several limits with those without one.
fn check(tiny: &Tiny, ids: &[u32], resident: Resident) {
    for threads in [1, 3] {
        let options = Options::new(threads).with_resident(resident);
        let free = open(&tiny.path(), options).unwrap();
        let least = least(tiny, options);
        let all = all_bytes(&open(&tiny.path(), options.with_memory(u64::MAX)).unwrap());
        assert!(free.demand().is_none() && free.resident_bytes() == all && least < all);
        assert!(open(&tiny.path(), options.with_memory(least - 1)).is_err());
        for limit in [least, least + (all - least) / 3, all] {
            let decoder = open(&tiny.path(), options.with_memory(limit)).unwrap();
            for piece in [1, 5, ids.len()] {
                let [found, expected] = [&decoder, &free].map(|d| logits(d, ids, piece, CacheType::F32));
                assert!(found == expected, "{limit} of {all} bytes, {threads} threads, {piece} at a time");
                assert!(decoder.resident_bytes() <= limit);
            }
            let demand = decoder.demand().unwrap();
            assert_eq!((demand.limit, demand.all), (limit, all));
            assert_eq!(demand.loads > 0, limit < all, "{demand:?}");
            assert_eq!(demand.read > 0, limit < all, "{demand:?}");
        }
    }
}

#[test]
fn dense_models_give_the_same_bits_within_a_limit() {
    for name in ["gpt2", "llama", "llama-tied-bias", "mixtral", "qwen3-moe"] {
        check(&Tiny::new(name), &reference(name).0, Resident::Packed);
    }
}

#[test]
fn packed_models_give_the_same_bits_within_a_limit() {
    for (name, codec) in [
        ("gpt2", "quant.int:bits=8"),
        ("gpt2", "lossless"),
        ("llama", "quant.q4_0"),
        ("mixtral", "quant.int:bits=4"),
        ("mixtral", "lossless.raw"),
        ("qwen3-moe", "trellis.bitshift:state_bits=10"),
    ] {
        check(&Tiny::new(name).pack(codec), &reference(name).0, Resident::Packed);
    }
    let exact = Tiny::new("gpt2");
    exact.narrow(Dtype::BF16);
    check(&exact.pack("lossless.bf16x12"), &reference("gpt2").0, Resident::Packed);
    check(&Tiny::new("mixtral").pack("quant.int:bits=8"), &reference("mixtral").0, Resident::Dense);
}

#[test]
fn experts_in_memory_are_hits() {
    let (tiny, ids) = (Tiny::new("mixtral"), reference("mixtral").0);
    let demand = |limit| {
        let decoder = open(&tiny.path(), Options::new(2).with_memory(limit)).unwrap();
        logits(&decoder, &ids, 1, CacheType::F32);
        decoder.demand().unwrap()
    };
    let all = demand(u64::MAX);
    // Two experts of four, in two layers.
    assert_eq!((all.experts, all.hits, all.loads), (4 * ids.len() as u64, all.experts, 0));
    let few = demand(least(&tiny, Options::new(2)) + (all.all / 4));
    assert!(few.experts == all.experts && 0 < few.hits && few.hits < few.experts, "{few:?}");
}
