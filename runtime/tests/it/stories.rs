//! A trained model, its tokenizer, and texts.

use std::fs;
use std::path::{Path, PathBuf};

use runtime::{CacheType, Decoder, Options, Protocol, Sampler, Sampling, Stops, Text, Tokenizer, evaluate, generate};
use serde_json::Value;

use crate::support::{Tiny, logits, open};

/// The first 64 tokens of the first text that the reference was computed on.
const FIRST: [u32; 64] = [
    1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 381, 261, 259, 266, 418, 422,
    329, 295, 395, 274, 266, 418, 422, 351, 358, 401, 396, 399, 284, 425, 402, 426, 274, 266, 418, 422, 286, 262, 427,
    411, 429, 417, 412, 421, 267, 311, 329, 429, 412, 425, 372, 281, 286, 318, 416, 417, 456,
];

/// The first logits of the last of these tokens, computed in 64 bits with other software.
const LAST: [f64; 8] = [
    -12.474_959_558_495_666,
    -3.602_889_178_924_355_6,
    -12.474_882_363_100_683,
    -12.474_062_379_270_075,
    -12.475_031_988_348_732,
    -12.476_102_216_039_529,
    -12.473_282_412_464_698,
    -12.475_474_320_418_1,
];

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets")
}

fn model() -> PathBuf {
    assets().join("stories260k")
}

/// The texts that the reference was computed on.
fn texts() -> Vec<Text> {
    let tokenizer = Tokenizer::open(&model()).unwrap();
    let lines = fs::read_to_string(assets().join("tinystories/eval.jsonl")).unwrap();
    let text = |line: &str| {
        let text = serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
        Text { ids: tokenizer.encode(&text).unwrap(), bytes: Some(text.len() as u64), first_window: true }
    };
    lines.lines().map(text).collect()
}

#[test]
fn perplexity_is_that_of_the_reference() {
    let (decoder, texts) = (open(&model(), Options::new(2)).unwrap(), texts());
    assert_eq!((texts.len(), &texts[0].ids[..64]), (200, &FIRST[..]));
    let mut processed = 0;
    let found = evaluate(&decoder, None, &texts, Protocol::default(), |tokens| {
        processed += tokens;
        Ok(())
    })
    .unwrap();
    // The first token of each text is not predicted.
    assert_eq!((found.tokens, found.processed, processed), (70_853, 71_053, 71_053));
    assert!((found.nll / 103_237.974_777_692_73 - 1.0).abs() < 1e-6, "{}", found.nll);
    assert!((found.perplexity() - 4.293_373).abs() < 1e-4);
    let bytes: u64 = texts.iter().filter_map(|text| text.bytes).sum();
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    let bits = found.nll / 70_853.0 / std::f64::consts::LN_2 * tokens as f64 / bytes as f64;
    assert!((found.bits_per_byte.unwrap() - bits).abs() < 1e-12);
    assert!(found.difference.is_none());
}

#[test]
fn windows_predict_each_token_once() {
    let decoder = open(&model(), Options::new(1)).unwrap();
    let ids: Vec<u32> = texts().into_iter().take(3).flat_map(|text| text.ids).take(900).collect();
    let texts = [Text { ids, bytes: None, first_window: false }];
    let tokens = |context, stride, windows| {
        let protocol = Protocol { context: Some(context), stride: Some(stride), windows, skip: 0 };
        let found = evaluate(&decoder, None, &texts, protocol, |_| Ok(())).unwrap();
        (found.tokens, found.processed, found.perplexity())
    };
    let apart = tokens(256, 256, None);
    assert_eq!((apart.0, apart.1), (896, 900));
    assert_eq!(tokens(256, 256, Some(2)).0, 510);
    let overlapping = tokens(256, 128, None);
    assert_eq!((overlapping.0, overlapping.1), (899, 256 * 6 + 132));
    assert!(overlapping.2 < apart.2, "{overlapping:?} {apart:?}");
    let error = |context, stride| {
        let protocol = Protocol { context: Some(context), stride: Some(stride), windows: None, skip: 0 };
        evaluate(&decoder, None, &texts, protocol, |_| Ok(())).unwrap_err().to_string()
    };
    assert_eq!(error(513, 1), "a window of 513 tokens; the model allows 2 to 512");
    assert!(error(1, 1).starts_with("a window of 1 tokens") && error(8, 9).starts_with("a stride of 9 tokens"));
    let short = [Text { ids: vec![1], bytes: None, first_window: false }];
    let error = evaluate(&decoder, None, &short, Protocol::default(), |_| Ok(())).unwrap_err().to_string();
    assert_eq!(error, "the longest text has 1 tokens; at least two are needed to predict one from the other");
}

#[test]
fn a_model_is_compared_with_its_reference() {
    let (dense, mut texts) = (open(&model(), Options::new(2)).unwrap(), texts());
    texts.truncate(8);
    let compare = |decoder: &Decoder, texts: &[Text]| {
        let found = evaluate(decoder, Some(&dense), texts, Protocol::default(), |_| Ok(())).unwrap();
        (found.perplexity(), found.difference.unwrap())
    };
    let (_, same) = compare(&dense, &texts);
    assert_eq!((same.kl, same.kl_quantiles, same.top1), (0.0, [0.0; 3], 1.0));
    assert_eq!((same.perplexity_change, same.perplexity_change_error), (0.0, 0.0));
    let mut divergences = Vec::new();
    for codec in ["quant.int:bits=8", "quant.int:bits=4"] {
        let packed = Tiny::at(&model()).pack(codec).decoder(2).unwrap();
        let (perplexity, found) = compare(&packed, &texts);
        let [median, most, extreme] = found.kl_quantiles;
        assert!(0.0 < median && median < found.kl && found.kl < most && most <= extreme, "{codec}: {found:?}");
        assert!((found.perplexity_change - (perplexity - found.reference_perplexity)).abs() < 1e-9);
        assert!(found.perplexity_change_error > 0.0 && found.top1 < 1.0, "{codec}: {found:?}");
        divergences.push(found.kl);
    }
    assert!(divergences[0] < 1e-3 && divergences[1] > 10.0 * divergences[0], "{divergences:?}");
    let other = Tiny::new("llama").decoder(1).unwrap();
    let error = evaluate(&other, Some(&dense), &texts, Protocol::default(), |_| Ok(())).unwrap_err().to_string();
    assert!(error.starts_with("the reference model has 512 tokens, the model 128"), "{error}");
}

/// Continues a text.
fn story(prompt: &str, threads: usize, sampling: Sampling, stop: &[&str]) -> (String, String) {
    let (decoder, tokenizer) = (open(&model(), Options::new(threads)).unwrap(), Tokenizer::open(&model()).unwrap());
    let (mut sampler, mut text) = (Sampler::new(sampling), String::new());
    let stops = Stops::new(stop.iter().map(ToString::to_string));
    let prompt = tokenizer.encode(prompt).unwrap();
    let mut session = decoder.session(CacheType::F32);
    let write = |piece: &str| {
        text.push_str(piece);
        true
    };
    let found = generate(&mut session, &tokenizer, &prompt, 60, (&mut sampler, stops), write).unwrap();
    assert!(found.tokens <= 60 && found.prompt_tokens == prompt.len());
    (text, found.ended_by.to_owned())
}

#[test]
fn stories_go_on() {
    let (greedy, why) = story("Once upon a time", 1, Sampling::default(), &[]);
    assert!(greedy.starts_with(", there was a little girl named Lily."), "{greedy}");
    assert_eq!(why, "number of tokens");
    assert_eq!(story("Once upon a time", 3, Sampling::default(), &[]).0, greedy);
    let (cut, why) = story("Once upon a time", 2, Sampling::default(), &["named Lily", "zebra"]);
    assert_eq!((cut.as_str(), why.as_str()), (", there was a little girl ", "stop string"));
    let warm = Sampling { temperature: 1.0, top_p: Some(0.9), seed: 3, ..Sampling::default() };
    let (drawn, _) = story("Once upon a time", 1, warm, &[]);
    assert_eq!(story("Once upon a time", 2, warm, &[]).0, drawn);
    assert_ne!(drawn, greedy);
    assert_ne!(story("Once upon a time", 1, Sampling { seed: 4, ..warm }, &[]).0, drawn);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let (decoder, tokenizer) = (open(&model(), Options::new(1)).unwrap(), Tokenizer::open(&model()).unwrap());
    let (mut sampler, prompt) = (Sampler::new(Sampling::default()), vec![3; 512]);
    let mut session = decoder.session(CacheType::F32);
    let mut continued =
        |prompt: &[u32]| generate(&mut session, &tokenizer, prompt, 9, (&mut sampler, Stops::default()), |_| true);
    let error = continued(&prompt).unwrap_err().to_string();
    assert_eq!(error, "the prompt has 512 tokens, and the model's context is 512 tokens; a shorter prompt is needed");
    let found = continued(&prompt[..510]).unwrap();
    assert!(found.tokens == 3 && found.ended_by == "context" || found.ended_by == "end of text", "{found:?}");
}

#[test]
fn logits_are_those_of_the_reference() {
    let decoder = open(&model(), Options::new(2)).unwrap();
    for piece in [64, 1] {
        let all = logits(&decoder, &FIRST, piece, CacheType::F32);
        for (found, expected) in all[63].iter().zip(LAST) {
            assert!((f64::from(*found) - expected).abs() < 2e-4, "{found}, not {expected}");
        }
        let best = (0..512).max_by(|&a, &b| all[63][a].total_cmp(&all[63][b])).unwrap();
        assert!(best == 425 && (all[63][best] - 21.372_31).abs() < 2e-4, "{best}: {}", all[63][best]);
    }
}
