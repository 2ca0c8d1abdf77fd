//! Tests of the whole program that transcripts cannot express.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use codec_api::{Certificate, EncodeCx, EncodedTensor, Registry, TensorView};
use codecs as _;

pub(crate) fn netweight(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netweight"));
    command.args(args);
    command
}

pub(crate) fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = netweight(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// rustc drops a crate that no source file names: each codec crate of the tree must be in the
/// program.
#[test]
fn every_codec_crate_of_the_tree_is_linked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (_, list, _) = run(&["list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let linked: Vec<_> = list.as_array().unwrap().iter().map(|codec| codec["crate"].as_str().unwrap()).collect();
    let mut found = 0;
    for entry in fs::read_dir(root).unwrap() {
        let directory = entry.unwrap().file_name().into_string().unwrap();
        if directory.starts_with("codec-") && directory != "codec-api" {
            found += 1;
            let package = format!("netweight-{directory}");
            assert!(linked.contains(&package.as_str()), "`codecs/src/lib.rs` does not name {package}: {linked:?}");
        }
    }
    assert!(found > 0, "no codec crate in {}", root.display());
}

fn encoded(spec: &str) -> EncodedTensor {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let weights: Vec<f32> = (0..256).map(|i| i as f32 - 100.0).collect();
    EncodedTensor::encode(codec, TensorView::from_f32([4, 64], &weights).unwrap(), &EncodeCx::new(0)).unwrap()
}

#[test]
fn info_shows_an_encoded_tensor() {
    let encoded = encoded("quant.int:bits=8:group=32");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("w.safetensors");
    let file = file.to_str().unwrap();
    fs::write(file, encoded.to_bytes().unwrap()).unwrap();

    let (code, text, _) = run(&["info", file]);
    assert_eq!(code, Some(0), "{text}");
    let total = format!("\n{} bytes, ", encoded.payload.bytes());
    for part in ["tensor: F32 4x64, 256 weights", "codec:  quant.int:bits=8:group=32", "error:  max |w − ŵ| ", &total]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let (_, json, _) = run(&["info", file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["bytes"].as_u64(), Some(encoded.payload.bytes()));
    assert_eq!(json["header"]["codec"], "quant.int");
    let certificate: Certificate = serde_json::from_value(json["certificate"].clone()).unwrap();
    assert_eq!((certificate, json["nmse"].as_f64()), (encoded.certificate, Some(encoded.certificate.nmse())));
    let sections = json["sections"].as_array().unwrap().iter().map(|section| section["bytes"].as_u64().unwrap());
    assert_eq!(sections.sum::<u64>(), encoded.payload.bytes());
}

/// A file of unknown origin may contain any tensor name.
#[test]
fn names_in_errors_do_not_reach_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("w.safetensors");
    let header = r#"{"w\u001b[2J\nerror: none":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes().chain([0; 12]));
    fs::write(&file, bytes).unwrap();
    let (code, _, stderr) = run(&["info", file.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains(r"tensor `w\u{1b}[2J\u{a}error: none` ends at 16"), "{stderr}");
    assert!(!stderr.contains('\u{1b}') && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_run_is_compared_with_an_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old.jsonl");
    let old = old.to_str().unwrap();
    let bench = |more: &[&str]| run(&[&["bench", "--suite", "gaussian:8x64", "--codecs", "quant.nf4"], more].concat());
    let (code, _, stderr) = bench(&["--json", old]);
    assert_eq!(code, Some(0), "{stderr}");

    let (code, out, _) = bench(&["--compare", old]);
    assert_eq!(code, Some(0));
    assert!(out.contains("1 cells compared: 0 regressions"), "{out}");

    // An earlier run with half the bytes in the same cell.
    let row = fs::read_to_string(old).unwrap();
    let mut row: serde_json::Value = serde_json::from_str(&row).unwrap();
    row["bytes"] = (row["bytes"].as_u64().unwrap() / 2).into();
    fs::write(old, row.to_string()).unwrap();
    let (code, out, _) = bench(&["--compare", old]);
    assert_eq!(code, Some(1));
    assert!(out.contains("1 regressions") && out.contains("bytes"), "{out}");

    let (code, _, stderr) = bench(&["--seed", "1", "--compare", old]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("no cell of the earlier run is in this one"), "{stderr}");
}

/// Encoding to zeros needs no heap for f32 weights, and an f32 copy for other weights.
#[test]
fn scratch_memory_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("r.jsonl");
    let peak = |suite: &str| {
        let args = ["bench", "--suite", suite, "--codecs", "baseline.zeros", "--force", "--json"];
        assert!(netweight(&args).arg(&report).output().unwrap().status.success());
        let row: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        row["peak_scratch_bytes"].as_u64().unwrap()
    };
    let copy = 512 * 512 * 4;
    let (none, some) = (peak("gaussian:512x512"), peak("gaussian:512x512:bf16"));
    assert!(none < copy / 16, "{none}");
    assert!((copy..copy + copy / 16).contains(&some), "{some}");
}

/// The program's option reaches the codecs; without calibration it is an error.
#[test]
fn calibration_is_used_on_demand() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let write = |name: &str, shape: &[usize], values: &[f32]| {
        let end = 4 * values.len();
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{end}]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes().chain(values.iter().flat_map(|v| v.to_le_bytes())));
        fs::write(at(name), bytes).unwrap();
    };
    let weights: Vec<f32> = (0..4 * 256).map(|i| ((i * 7919) % 1009) as f32 / 331.0 - 1.5).collect();
    write("model.safetensors", &[4, 256], &weights);
    let (model, report) = (at(""), at("r.jsonl"));
    let args = ["bench", &model, "--codecs", "quant.q2_k", "--force", "--json", &report];
    let refused = |message: &str| {
        let (code, _, errors) = run(&[&args[..], &["--calibrated"]].concat());
        assert!(code == Some(2) && errors.contains(message), "{errors}");
    };
    let measured = |more: &[&str]| {
        let (code, table, errors) = run(&[&args[..], more].concat());
        assert_eq!(code, Some(0), "{errors}");
        let row: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        assert_eq!(table.contains("quant.q2_k (calibrated)"), row["calibrated"].as_bool().unwrap(), "{table}");
        (row["calibrated"].as_bool().unwrap(), row["nmse"].as_f64().unwrap())
    };
    refused("--calibrated needs `calibration.safetensors` beside a model");
    let squares: Vec<f32> = (0..256).map(|i| [1.0, 0.01, 4.0][i % 3]).collect();
    write("calibration.safetensors", &[256], &squares);
    let (plain, calibrated) = (measured(&[]), measured(&["--calibrated"]));
    assert_eq!((plain.0, calibrated.0), (false, true));
    // The weighted error is smaller; the plain one grows.
    assert!(plain.1 < calibrated.1, "{plain:?} {calibrated:?}");
    // The calibration of another model is no error until it is asked for.
    write("calibration.safetensors", &[4], &squares[..4]);
    assert_eq!(measured(&[]), plain);
    refused("has F32 [4], but F32 [256] fits the columns of F32 [4, 256]");
}

#[test]
fn reports_are_overwritten_only_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["r.jsonl", "r.csv", "r.md"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    let [json, csv, md] = &paths;
    let bench = |more: &[&str]| {
        let args = ["bench", "--suite", "gaussian:8x8", "--codecs", "baseline.zeros", "--json", json, "--csv", csv];
        run(&[&args[..], &["--md", md], more].concat())
    };
    assert_eq!(bench(&[]).0, Some(0));
    let before = paths.each_ref().map(|path| fs::read_to_string(path).unwrap());
    assert!(before.iter().all(|text| text.contains("baseline.zeros")), "{before:?}");
    fs::write(json, "mine").unwrap();

    let (code, _, stderr) = bench(&[]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("r.jsonl` exists already; --force overwrites it"), "{stderr}");
    assert_eq!(fs::read_to_string(json).unwrap(), "mine");

    assert_eq!(bench(&["--force"]).0, Some(0));
    assert!(fs::read_to_string(json).unwrap().contains("baseline.zeros"));
}

#[test]
fn a_reader_that_stops_is_no_error() {
    for args in [&["list"][..], &["list", "--json"]] {
        let mut child = netweight(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn info_says_when_an_encoded_tensor_does_not_decode() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("damaged.safetensors");
    let mut bytes = encoded("lossless.raw").to_bytes().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let (code, text, _) = run(&["info", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it does not decode: section `crc32c` is corrupt"), "{text}");
}

#[test]
fn every_report_needs_its_own_regular_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let bench = ["bench", "--suite", "gaussian:8x8", "--codecs", "quant.int", "--force"];
    let refused = |more: &[&str], message: &str| {
        let (code, _, errors) = run(&[&bench[..], more].concat());
        assert_eq!(code, Some(2), "{more:?}: {errors}");
        assert!(errors.contains(message), "{more:?}: {errors}");
    };
    refused(&["--json", &at("same"), "--csv", &at("same")], "is named twice");
    refused(&["--json", &at("")], "it is not a regular file");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        refused(&["--json", &at("link")], "it is not a regular file");
        assert!(!Path::new(&at("target")).exists());
    }
    fs::write(at("old.jsonl"), "").unwrap();
    refused(&["--compare", &at("old.jsonl"), "--json", &at("old.jsonl")], "is named twice");
    let (code, _, errors) = run(&["bench", "--codecs", ""]);
    assert!(code == Some(2) && errors.contains("--codecs is empty"), "{errors}");
}

#[test]
fn the_positional_model_is_a_suite() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k");
    let model = model.to_str().unwrap();
    let bench = |args: &[&str]| {
        run(&[&["bench"][..], args, &["--codecs", "baseline.zeros", "--include", "model.norm"]].concat())
    };
    let (code, out, errors) = bench(&[&format!("{model}/")]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains(&format!("suite model:{model}, seed 0")), "{out}");
    let (code, _, errors) = bench(&["--suite", model]);
    assert_eq!(code, Some(2));
    assert!(errors.contains(&format!("did you mean `netweight bench {model}`?")), "{errors}");
    let (code, _, errors) = bench(&[model, "--suite", "gaussian"]);
    assert!(code == Some(2) && errors.contains("cannot be used with '--suite <NAME>'"), "{errors}");
}

#[test]
fn colours_follow_the_environment() {
    let log = |variables: &[(&str, &str)]| {
        let mut command = netweight(&["bench", "--suite", "gaussian:8x8", "--codecs", "baseline.zeros", "-v"]);
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && log.contains("harness::matrix"), "{log}");
        log.contains('\u{1b}')
    };
    assert!(!log(&[]), "standard error is no terminal");
    assert!(log(&[("CLICOLOR_FORCE", "1")]));
    assert!(!log(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn tables_fit_the_columns_of_the_environment() {
    let spec = "quant.int:bits=4:group=32:symmetric=true:clip=true,quant.int:bits=5:group=32:symmetric=true:clip=true";
    let widest = |args: &[&str], columns: &str| {
        let output = netweight(args).env("COLUMNS", columns).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.is_empty());
        text.lines().map(|line| line.chars().count()).max().unwrap()
    };
    let bench = ["bench", "--suite", "gaussian:32x32", "--codecs", spec, "--long"];
    for width in [80, 100, 120] {
        let columns = width.to_string();
        assert!(widest(&bench, &columns) <= width);
        assert!(widest(&["list"], &columns) <= width);
    }
    assert!(widest(&bench, "") > 100, "a pipe has no width");
    assert!(widest(&[&bench[..], &["--wide"]].concat(), "80") > 200);
}
