//! `bench --model`: the reports.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::program::run;

fn assets(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(name).display().to_string()
}

#[test]
fn every_recipe_has_a_line_in_every_report() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    fs::write(at("two.toml"), "[[rule]]\nname = 'mlp'\nmin_rank = 2\ncodec = 'quant.int:bits=2'\n").unwrap();
    let (json, md, svg) = (at("r.jsonl"), at("r.md"), at("r.svg"));
    let recipes = format!("lossless,{},quant.int:bits=8", at("two.toml"));
    let bench = [
        "bench",
        "--model",
        &assets("stories260k"),
        "--text",
        &assets("tinystories/eval.jsonl"),
        &assets("stories260k/LICENSE"),
        "--windows",
        "3",
        "--recipes",
        &recipes,
        "--json",
        &json,
        "--md",
        &md,
        "--svg",
        &svg,
    ];
    let (code, out, errors) = run(&bench);
    assert_eq!(code, Some(0), "{errors}");
    let rows: Vec<Value> =
        fs::read_to_string(&json).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |row: usize, key: &str| rows[row][key].as_f64().unwrap_or_else(|| panic!("{row} {key}"));
    let recipes: Vec<_> = rows.iter().map(|row| row["recipe"].as_str().unwrap()).collect();
    assert_eq!(recipes, ["dense", "lossless", &at("two.toml"), "quant.int:bits=8"]);
    assert_eq!((rows[0]["kl"].is_null(), number(0, "bits_per_weight")), (true, 32.0));
    assert_eq!([number(1, "kl"), number(1, "perplexity_change"), number(1, "relative_error")], [0.0; 3]);
    assert_eq!((number(1, "top1"), number(1, "nll")), (1.0, number(0, "nll")));
    assert!(number(2, "kl") > 100.0 * number(3, "kl") && number(3, "kl") > 0.0, "{out}");
    assert!(number(2, "perplexity_change") > 3.0 * number(2, "perplexity_change_error"), "{out}");
    assert!(number(3, "bits_per_weight") < 8.5 && number(3, "resident_bytes") < 0.3 * number(0, "resident_bytes"));
    assert!(rows.iter().all(|row| row["tokens"] == rows[0]["tokens"] && row["weights"] == 260_032));
    let (md, svg) = (fs::read_to_string(&md).unwrap(), fs::read_to_string(&svg).unwrap());
    assert_eq!(md.lines().filter(|line| line.starts_with("| ")).count(), 6, "{md}");
    assert!(md.contains("| recipe | bits/w | file MB | rel. error | ppl | Δppl | KL mean | median |"), "{md}");
    assert_eq!(svg.matches("class=\"mark\"").count(), 2, "{svg}");
    assert!(svg.contains("not drawn: lossless"), "{svg}");
    // Reports are not replaced.
    let (code, _, errors) = run(&bench);
    assert_eq!(code, Some(2));
    assert!(errors.contains("exists already; --force overwrites it"), "{errors}");
}

#[test]
fn a_model_without_a_folder_has_its_configuration_beside_it() {
    let file = PathBuf::from(assets("stories260k/model.safetensors")).display().to_string();
    let text = assets("stories260k/LICENSE");
    let (code, out, errors) = run(&["bench", "--model", &file, "--text", &text, "--recipes", "q4"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.lines().any(|line| line.starts_with("q4 ")), "{out}");
}
