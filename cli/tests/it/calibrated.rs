//! `calibrate`, and `compress --calibration`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::program::run;

fn assets(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(name).display().to_string()
}

/// Standard output of a command that succeeds.
fn done(args: &[&str]) -> String {
    let (code, out, errors) = run(args);
    assert_eq!(code, Some(0), "{args:?}: {errors}");
    out
}

/// The error of a command that fails.
fn error(args: &[&str]) -> String {
    let (code, _, errors) = run(args);
    assert_eq!(code, Some(2), "{args:?}: {errors}");
    errors
}

#[test]
fn a_model_with_statistics_meets_its_size_and_predicts_as_before() {
    const BITS: f64 = 5.0;
    let (place, model, text) = (tempfile::tempdir().unwrap(), assets("stories260k"), assets("tinystories/eval.jsonl"));
    let at = |name: &str| place.path().join(name).display().to_string();
    let calibrate = ["calibrate", &model, "--text", &text, "--tokens", "4096", "-o", &at("s.safetensors")];
    done(&calibrate);
    assert!(error(&calibrate).contains("--force"));
    assert!(!place.path().join("s.safetensors.tmp").exists());
    let pack = |out: &str, threads: &str| {
        let of = ["--calibration", &at("s.safetensors"), "--target-bpw", "5", "-j", threads];
        done(&[&["compress", &model, "-o", &at(out)], &of[..]].concat());
        fs::read(place.path().join(out).join("model.nw.safetensors")).unwrap()
    };
    let file = pack("packed", "2");
    let bits = file.len() as f64 * 8.0 / 260_032.0;
    assert!((0.995 * BITS..=BITS).contains(&bits), "{bits}");
    assert!(file == pack("again", "1"), "one thread and two give other bytes");
    done(&["verify", &at("packed")]);
    let eval = ["eval", &at("packed"), "--text", &text, "--windows", "20", "--reference", &model, "--json"];
    let found: Value = serde_json::from_str(&done(&eval)).unwrap();
    let kl = found["kl"]["mean"].as_f64().or(found["kl"].as_f64()).unwrap();
    assert!((0.0..0.1).contains(&kl), "{found}");

    let of = |model: &str, rest: &[&str]| {
        let (out, statistics) = (at("none"), at("s.safetensors"));
        error(&[&["compress", model, "-o", &out, "--calibration", &statistics], rest].concat())
    };
    assert!(of(&assets("gpt2_mini_layers"), &["--target-bpw", "5"]).contains("statistics of another model"));
    assert!(of(&model, &[]).contains("--target-bpw"));
    assert!(of(&model, &["--target-bpw", "0.1"]).contains("too few"));
    assert!(!place.path().join("none").exists());
}

#[test]
fn a_short_text_and_a_packed_model_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    fs::write(at("short.txt"), "A").unwrap();
    let model = assets("stories260k");
    let short = error(&["calibrate", &model, "--text", &at("short.txt"), "-o", &at("s.safetensors")]);
    assert!(short.contains("token") || short.contains("text"), "{short}");
    done(&["compress", &model, "-o", &at("packed")]);
    let packed = error(&["calibrate", &at("packed"), "--text", &at("short.txt"), "-o", &at("s.safetensors")]);
    assert!(packed.contains("statistics belong to the dense model"), "{packed}");
    assert!(!place.path().join("s.safetensors").exists());
}
