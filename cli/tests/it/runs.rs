//! Runs of `bench` on files: what they spare, refuse, and keep.

use std::fs;
use std::process::{Command, Stdio};

use super::program::{netweight, run};

/// Writes a model with one tensor `w` of 64 weights.
fn model(path: &str, dtype: safetensors::Dtype, bytes: &[u8]) {
    let shape = vec![1, bytes.len() * 8 / dtype.bitsize()];
    let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
    fs::write(path, safetensors::serialize([("w", view)], None).unwrap()).unwrap();
}

#[test]
fn a_report_never_replaces_what_the_run_reads() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (tuned, base, statistics) = (at("m.safetensors"), at("b.safetensors"), at("calibration.safetensors"));
    let ones = [1f32; 64].map(f32::to_le_bytes).concat();
    for path in [&tuned, &base, &statistics] {
        model(path, safetensors::Dtype::F32, &ones);
    }
    let before = [&tuned, &base, &statistics].map(|path| fs::read(path).unwrap());
    let bench =
        ["bench", "--suite", &format!("model:{tuned}"), "--base", &base, "--codecs", "baseline.zeros", "--force"];
    let refused = |path: &str| {
        for option in ["--json", "--csv", "--md"] {
            let (code, _, errors) = run(&[&bench[..], &[option, path]].concat());
            assert_eq!(code, Some(2), "{option} {path}: {errors}");
            assert!(errors.contains(&format!("`{path}` is named twice")), "{option} {path}: {errors}");
        }
    };
    refused(&tuned);
    refused(&base);
    refused(&statistics);
    refused(&at("./m.safetensors"));
    #[cfg(unix)]
    {
        fs::hard_link(&tuned, at("same")).unwrap();
        refused(&at("same"));
    }
    assert_eq!([&tuned, &base, &statistics].map(|path| fs::read(path).unwrap()), before);
}

#[test]
fn a_cast_never_makes_infinities() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.safetensors").display().to_string();
    let mut bytes = [0x47c3u16.to_le_bytes()].concat();
    bytes.extend([0x3ca4u16; 63].iter().flat_map(|bits| bits.to_le_bytes()));
    model(&path, safetensors::Dtype::BF16, &bytes);
    let bench = |cast: &str| run(&["bench", &path, "--cast", cast, "--codecs", "lossless,quant.int:bits=8"]);
    let (code, out, _) = bench("f16");
    assert_eq!(code, Some(0), "{out}");
    let refusals = out.lines().filter(|line| line.starts_with("unsupported: "));
    let reason = "1 tensor: 1 weight of `w` is beyond F16 (largest 99840)";
    assert_eq!(refusals.filter(|line| line.ends_with(reason)).count(), 2, "{out}");
    assert!(bench("f32").1.contains("100.0 %"));
}

#[test]
fn other_float_dtypes_are_measured_after_a_cast() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.safetensors").display().to_string();
    let bench = |cast: &[&str]| run(&[&["bench", &path, "--codecs", "quant.int:bits=8"][..], cast].concat()).1;
    let doubles: Vec<u8> = (0..64).flat_map(|i| (f64::from(i) / 3.0).to_le_bytes()).collect();
    model(&path, safetensors::Dtype::F64, &doubles);
    assert!(bench(&[]).contains("unsupported: quant.int"));
    let out = bench(&["--cast", "f32"]);
    assert!(out.contains("100.0 %") && out.contains("note: 1 F64 tensor rounded to F32"), "{out}");
    for dtype in [safetensors::Dtype::F8_E4M3, safetensors::Dtype::F8_E5M2] {
        model(&path, dtype, &(0..64).collect::<Vec<u8>>());
        let out = bench(&["--cast", "bf16"]);
        assert!(out.contains("100.0 %") && !out.contains("note: "), "{out}");
    }
}

#[test]
fn one_model_is_compared_however_its_path_is_typed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (name, weight) in [("m.safetensors", 2f32), ("b.safetensors", 1.0), ("copy.safetensors", 2.0)] {
        model(&at(name), safetensors::Dtype::F32, &[weight; 64].map(f32::to_le_bytes).concat());
    }
    fs::create_dir(at("sub")).unwrap();
    let bench = |model: &str, base: &str, more: &[&str]| {
        let args = ["bench", model, "--base", base, "--cast", "bf16", "--codecs", "baseline.mean"];
        let mut command = netweight(&[&args[..], more].concat());
        let output = command.current_dir(directory.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, errors) = bench("m.safetensors", "./b.safetensors", &["--json", "r.jsonl"]);
    assert_eq!(code, Some(0), "{errors}");
    for (model, base) in [
        ("./m.safetensors", "b.safetensors"),
        (&*at("m.safetensors"), "b.safetensors"),
        ("m.safetensors", &*at("b.safetensors")),
        ("sub/../m.safetensors", ".//b.safetensors"),
    ] {
        let (code, out, errors) = bench(model, base, &["--compare", "r.jsonl"]);
        assert_eq!(code, Some(0), "{model}: {errors}");
        assert!(out.contains("1 cells compared: 0 regressions, 0 improvements\n"), "{model}: {out}");
        let (code, _, errors) = bench(model, base, &["--json", "r.jsonl", "--resume"]);
        assert_eq!(code, Some(0), "{model}: {errors}");
    }
    for (model, base) in [("copy.safetensors", "b.safetensors"), ("m.safetensors", "copy.safetensors")] {
        let (code, out, errors) = bench(model, base, &["--compare", "r.jsonl"]);
        assert_eq!(code, Some(2), "{model}: {out}");
        assert!(errors.contains("no cell of the earlier run is in this one"), "{errors}");
    }
}

#[test]
fn an_interrupted_run_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("r.jsonl").display().to_string();
    let bench = |seed: &str, codecs: &str, more: &[&str]| {
        let args = ["bench", "--suite", "seed002/models/mlp", "--seed", seed, "--codecs", codecs, "--json", &report];
        run(&[&args[..], more].concat())
    };
    let both = "baseline.zeros,baseline.mean";
    let whole = bench("0", both, &[]);
    assert_eq!(whole.0, Some(0), "{}", whole.2);
    let lines = fs::read_to_string(&report).unwrap();
    assert_eq!(lines.lines().count(), 16);
    // What a killed process leaves: five rows and a part of the sixth.
    let five: usize = lines.split_inclusive('\n').take(5).map(str::len).sum();
    fs::write(&report, &lines[..five + 40]).unwrap();
    let (code, out, errors) = bench("0", both, &["--resume"]);
    assert_eq!(code, Some(0), "{errors}");
    let now = fs::read_to_string(&report).unwrap();
    assert!(now.starts_with(&lines[..five]) && now.lines().count() == 16, "{now}");
    let columns = |text: &str| -> Vec<(String, String, Option<f64>)> {
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| (row["tensor"].to_string(), row["codec"].to_string(), row["nmse"].as_f64())).collect()
    };
    assert_eq!(columns(&now), columns(&lines));
    // The table shows the whole run: zeros have a relative error of 1 on all eight tensors.
    assert!(out.contains("8 tensors") && out.contains("1.00") && out.contains("100.0 %"), "{out}");

    let (code, _, errors) = bench("1", both, &["--resume"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("is the report of another run") && errors.contains("its seed is `0`"), "{errors}");
    assert_eq!(fs::read_to_string(&report).unwrap(), now);
    let (code, _, errors) = run(&["bench", "--resume"]);
    assert!(code == Some(2) && errors.contains("--json <FILE>"), "{errors}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_a_summary() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("r.jsonl").display().to_string();
    // The second codec takes far longer than this test.
    let codecs = "baseline.zeros,seedlm";
    let args = ["bench", "--suite", "gaussian:2048x2048", "--codecs", codecs, "--json", &report];
    let child = netweight(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !fs::read_to_string(&report).is_ok_and(|text| text.ends_with('\n')) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}");
    assert!(out.contains("interrupted: 1 of 2 cells are measured; the same command with --resume goes on"), "{out}");
    assert!(out.contains("baseline.zeros") && fs::read_to_string(&report).unwrap().lines().count() == 1);
}
