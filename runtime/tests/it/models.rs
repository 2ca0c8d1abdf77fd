//! Logits of tiny models of every family.

use codec_api::Dtype;
use runtime::{CacheType, Options, Resident};
use simd::{Level, with_level};

use crate::support::{MODELS, Tiny, difference, logits, open, reference};

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let (ids, expected) = reference(name);
        let decoder = Tiny::new(name).decoder(2).unwrap();
        // All at once, and one by one.
        for piece in [ids.len(), 7, 1] {
            let found = difference(&logits(&decoder, &ids, piece, CacheType::F32), &expected);
            assert!(found < 2e-4, "{name}, {piece} at a time: {found}");
        }
        let found = difference(&logits(&decoder, &ids, 1, CacheType::F16), &expected);
        assert!(found > 0.0 && found < 2e-2, "{name}, with a cache of 16 bits: {found}");
    }
}

#[test]
fn threads_and_instructions_give_the_same_bits() {
    for name in MODELS {
        let (ids, tiny) = (reference(name).0, Tiny::new(name));
        let all = |threads, level| {
            let decoder = tiny.decoder(threads).unwrap();
            with_level(level, || logits(&decoder, &ids, 1, CacheType::F32))
        };
        let expected = all(1, Level::Scalar);
        for level in Level::available() {
            for threads in 1..=3 {
                assert!(all(threads, level) == expected, "{name}, {threads} threads, {level}");
            }
        }
    }
}

#[test]
fn packed_weights_give_the_logits_of_the_decoded_ones() {
    let recipes = ["lossless.raw", "quant.int:bits=8", "quant.q4_0", "transpose(quant.int:bits=8)"];
    for name in ["gpt2", "llama-tied-bias", "mixtral"] {
        let (ids, expected) = reference(name);
        let tiny = Tiny::new(name);
        for codec in recipes {
            let packed = tiny.pack(codec);
            let options = Options::new(2);
            let dense = open(&packed.path(), options.with_resident(Resident::Dense)).unwrap();
            let exact = codec == "lossless.raw";
            let all = logits(&dense, &ids, 1, CacheType::F32);
            let found = difference(&all, &expected);
            assert!(if exact { found < 2e-4 } else { found > 1e-3 }, "{name}, {codec}: {found}");
            for threads in 1..=3 {
                let packed = open(&packed.path(), Options::new(threads)).unwrap();
                let own = logits(&packed, &ids, 1, CacheType::F32);
                let found = difference(&own, &all);
                assert!(found < 5e-2, "{name}, {codec}, {threads} threads: {found}");
                assert!(packed.resident_bytes() <= dense.resident_bytes(), "{name}, {codec}");
                let batch = difference(&logits(&packed, &ids, 64, CacheType::F32), &own);
                assert!(batch < 5e-2, "{name}, {codec}, batch: {batch}");
            }
        }
    }
}

#[test]
fn packed_weights_give_the_same_bits_with_any_number_of_threads() {
    for codec in ["quant.int:bits=4", "lossless.raw"] {
        let (ids, packed) = (reference("gpt2").0, Tiny::new("gpt2").pack(codec));
        let all = |threads| logits(&open(&packed.path(), Options::new(threads)).unwrap(), &ids, 1, CacheType::F32);
        let expected = all(1);
        assert!(all(2) == expected && all(3) == expected, "{codec}");
    }
}

#[test]
fn stacked_experts_are_those_that_are_apart() {
    for (name, experts, [gate, up, down], count) in [
        ("mixtral", "block_sparse_moe.experts", ["w1", "w3", "w2"], 4),
        ("qwen3-moe", "mlp.experts", ["gate_proj", "up_proj", "down_proj"], 6),
    ] {
        let (ids, tiny) = (reference(name).0, Tiny::new(name));
        let expected = logits(&tiny.decoder(1).unwrap(), &ids, 1, CacheType::F32);
        tiny.rewrite(|tensors| {
            for layer in 0..2 {
                let prefix = format!("model.layers.{layer}.{experts}");
                let mut take = |parts: &[&str]| {
                    let names = (0..count).flat_map(|i| parts.iter().map(move |part| format!(".{i}.{part}.weight")));
                    let all = names.map(|name| tensors.remove(&(prefix.clone() + &name)).unwrap()).collect::<Vec<_>>();
                    let shape = [count, parts.len() * all[0].1[0], all[0].1[1]].to_vec();
                    (all[0].0, shape, all.into_iter().flat_map(|tensor| tensor.2).collect())
                };
                let stacks = [take(&[gate, up]), take(&[down])];
                for (name, stack) in ["gate_up_proj", "down_proj"].into_iter().zip(stacks) {
                    tensors.insert(format!("{prefix}.{name}"), stack);
                }
            }
        });
        assert!(logits(&tiny.decoder(3).unwrap(), &ids, 1, CacheType::F32) == expected, "{name}");
        let found =
            difference(&logits(&tiny.pack("lossless.raw").decoder(2).unwrap(), &ids, 1, CacheType::F32), &expected);
        assert!(found < 1e-5, "{name}: {found}");
    }
}

#[test]
fn weights_of_16_bits_give_the_same_bits_packed_and_dense() {
    for (name, dtype, codec) in [
        ("llama", Dtype::BF16, "lossless.bf16x12"),
        ("gpt2", Dtype::BF16, "lossless.bf16x12"),
        ("llama", Dtype::F16, "lossless.raw"),
        ("llama-tied-bias", Dtype::BF16, "lossless.raw"),
    ] {
        let (ids, expected) = reference(name);
        let tiny = Tiny::new(name);
        tiny.narrow(dtype);
        let dense = tiny.decoder(2).unwrap();
        let all = logits(&dense, &ids, 1, CacheType::F32);
        let found = difference(&all, &expected);
        assert!(found > 0.0 && found < 0.1, "{name} as {dtype}: {found}");
        let packed = tiny.pack(codec).decoder(2).unwrap();
        assert!(logits(&packed, &ids, 1, CacheType::F32) == all, "{name}, {codec}");
        let found = difference(&logits(&dense, &ids, 40, CacheType::F32), &all);
        assert!(found < 1e-4, "{name} as {dtype}, batch: {found}");
    }
}
