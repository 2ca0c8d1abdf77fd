//! `calibrate`, and `compress --calibration`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::program::{netweight, run};

/// Statistics of a few short sequences.
const SHORT: [&str; 4] = ["--context", "128", "--tokens", "3000"];

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
    let statistics = at("s.safetensors");
    let calibrate = [&["calibrate", &model, "--text", &text, "-o", &statistics], &SHORT[..]].concat();
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
    let kl = divergence(&at("packed"), &text);
    assert!((0.0..0.1).contains(&kl), "{kl}");

    let of = |model: &str, rest: &[&str]| {
        let (out, statistics) = (at("none"), at("s.safetensors"));
        error(&[&["compress", model, "-o", &out, "--calibration", &statistics], rest].concat())
    };
    assert!(of(&assets("gpt2_mini_layers"), &["--target-bpw", "5"]).contains("statistics of another model"));
    assert!(of(&model, &[]).contains("--target-kl, --recipe or --codec"));
    assert!(of(&model, &["--codec", "best:bits=4"]).contains("tries codecs without feedback"));
    assert!(of(&model, &["--target-kl", "0"]).contains("1e-9 to 10"));
    assert!(of(&model, &["--target-bpw", "0.1"]).contains("too few"));
    assert!(!place.path().join("none").exists());
}

/// A process that is killed leaves its folder; the same command goes on, and another is refused.
#[test]
fn a_killed_calibration_goes_on() {
    let (place, model, text) = (tempfile::tempdir().unwrap(), assets("stories260k"), assets("tinystories/eval.jsonl"));
    let at = |name: &str| place.path().join(name).display().to_string();
    let args = |out: &str, tokens: &str| {
        ["calibrate", &model, "--text", &text, "--tokens", tokens, "-o", &at(out)].map(str::to_owned)
    };
    let again = |out: &str, tokens: &str| run(&args(out, tokens).each_ref().map(|arg| &**arg));
    let (code, _, errors) = again("whole", "12000");
    assert!(code == Some(0) && errors.contains("of memory;") && errors.contains("whole.work"), "{errors}");
    let mut process = netweight(&args("killed", "12000").each_ref().map(|arg| &**arg));
    let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let work = place.path().join("killed.work");
    // Three layers forward are done.
    while !work.join("inputs-3").exists() && process.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    if work.exists() {
        let (code, _, errors) = again("killed", "11000");
        assert!(code == Some(2) && errors.contains("killed.work") && errors.contains("delete it"), "{errors}");
    }
    let (code, _, errors) = again("killed", "12000");
    assert_eq!(code, Some(0), "{errors}");
    assert!(fs::read(at("whole")).unwrap() == fs::read(at("killed")).unwrap());
    assert!(!work.exists());
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

/// The divergence of a packed model from the dense one.
fn divergence(packed: &str, text: &str) -> f64 {
    let (reference, windows) = (assets("stories260k"), ["--context", "128", "--windows", "20", "--json"]);
    let eval = [&["eval", packed, "--text", text, "--reference", &reference], &windows[..]].concat();
    let found: Value = serde_json::from_str(&done(&eval)).unwrap();
    found["kl"].as_f64().unwrap()
}

#[test]
fn feedback_helps_codecs_of_a_recipe_and_goals_are_met() {
    let (place, model, text) = (tempfile::tempdir().unwrap(), assets("stories260k"), assets("tinystories/eval.jsonl"));
    let at = |name: &str| place.path().join(name).display().to_string();
    done(&[&["calibrate", &model, "--text", &text, "-o", &at("s.safetensors")], &SHORT[..]].concat());
    let pack = |out: &str, rest: &[&str]| done(&[&["compress", &model, "-o", &at(out)], rest].concat());
    let (statistics, codec) = (at("s.safetensors"), "quant.int:bits=4:group=64");
    let calibrated = ["--calibration", &statistics, "--damping", "0.02"];
    pack("plain", &["--codec", codec, "--exclude", "embed"]);
    pack("fed", &[&calibrated[..], &["--codec", codec, "--exclude", "embed"]].concat());
    let size = |out: &str| fs::metadata(place.path().join(out).join("model.nw.safetensors")).unwrap().len();
    assert!(size("fed").abs_diff(size("plain")) < 2000, "{} and {} bytes", size("fed"), size("plain"));
    let [plain, fed] = ["plain", "fed"].map(|out| divergence(&at(out), &text));
    assert!(fed < 0.6 * plain, "{fed} with feedback, {plain} without");
    let info = done(&["info", &at("fed")]);
    assert!(info.contains("quant.int"), "{info}");

    pack("tuned", &[&calibrated[..], &["--codec", codec, "--exclude", "embed", "--tune"]].concat());
    let tuned = divergence(&at("tuned"), &text);
    assert!(tuned < 1.02 * fed, "{tuned} after tuning, {fed} before");
    assert!(done(&["info", &at("tuned")]).contains("quant.cast:to=f16"));
    let out = pack("sized", &[&calibrated[..], &["--target-size", "150kB", "--tune"]].concat());
    assert!(out.contains("held-out tokens"), "{out}");
    assert!((149_000..=150_000).contains(&size("sized")), "{}", size("sized"));
    let out = pack("near", &[&calibrated[..], &["--target-kl", "0.05"]].concat());
    let kl = out.split("KL divergence ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!((0.04..=0.05).contains(&kl), "{out}");

    let formats = "quant.int:bits=3:group=64,quant.int:bits=4:group=64,quant.int:bits=6:group=64";
    pack("chosen", &[&calibrated[..], &["--target-size", "160kB", "--candidates", formats]].concat());
    assert!((156_000..=160_000).contains(&size("chosen")), "{}", size("chosen"));
    let info = done(&["info", &at("chosen")]);
    assert!(info.contains("bits=3") && info.contains("bits=6"), "{info}");
    let out = at("few");
    let few = [&["compress", &model, "-o", &out, "--candidates", formats], &calibrated[..]].concat();
    assert!(error(&[&few[..], &["--target-size", "100kB"]].concat()).contains("the smallest of the candidates make"));
    assert!(error(&[&few[..], &["--target-kl", "0.1"]].concat()).contains("cannot be used with"));
    for out in ["fed", "tuned", "sized", "near", "chosen"] {
        done(&["verify", &at(out)]);
    }
}

#[test]
fn recipes_with_methods_are_better_than_rounding_of_the_same_size() {
    let (place, model, text) = (tempfile::tempdir().unwrap(), assets("stories260k"), assets("tinystories/eval.jsonl"));
    let at = |name: &str| place.path().join(name).display().to_string();
    done(&[&["calibrate", &model, "--text", &text, "-o", &at("s.safetensors")], &SHORT[..]].concat());
    let measure = |how: &[&str]| {
        let out = at(how[1]);
        done(&[&["compress", &model, "--force", "-o", &out], how].concat());
        done(&["verify", &out, "--against", &model]);
        (fs::metadata(Path::new(&out).join("model.nw.safetensors")).unwrap().len(), divergence(&out, &text))
    };
    let int4 = "quant.int:bits=4:group=128:symmetric=false";
    for (recipe, codec, most) in
        [("gptq_quality", int4, 0.6), ("awq_quality", int4, 0.9), ("imatrix:q4_0", "quant.q4_0", 0.98)]
    {
        let plain = measure(&["--codec", codec]);
        let found = measure(&["--recipe", recipe, "--calibration", &at("s.safetensors")]);
        assert!(found.0.abs_diff(plain.0) < 4000, "{recipe}: {} bytes, {} without", found.0, plain.0);
        assert!(found.1 < most * plain.1, "{recipe}: {} with calibration, {} without", found.1, plain.1);
    }
    let damped = ["--recipe", "imatrix:q4_0", "--calibration", &at("s.safetensors"), "--damping", "0.1"];
    assert!(error(&[&["compress", &model, "-o", &at("none")], &damped[..]].concat()).contains("no feedback"));
    let missing = error(&["compress", &model, "-o", &at("none"), "--recipe", "awq_balanced"]);
    assert!(missing.contains("netweight calibrate") && missing.contains("--calibration"), "{missing}");
}
