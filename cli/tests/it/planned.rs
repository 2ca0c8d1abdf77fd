//! `profile` and `optimize`.

use std::fs;
use std::path::{Path, PathBuf};

use planner::{Constraints, Objective, Profile, Profiles, choose};
use tempfile::TempDir;

use super::program::run;

/// Candidates that are packed in no time.
const PLAIN: &str = "dense,lossless,bnb_int8,bnb_nf4,q4,quant.int:bits=6,quant.int:bits=3";
/// One that needs calibration.
const CALIBRATED: &str = "gptq_quality";

/// How candidates are measured.
const USUAL: [&str; 8] = ["--windows", "12", "--context", "128", "--runs", "2", "--request", "8+4"];

struct Case {
    place: TempDir,
    model: String,
    text: String,
}

impl Case {
    fn new() -> Self {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
        let at = |name: &str| assets.join(name).display().to_string();
        Self { place: tempfile::tempdir().unwrap(), model: at("stories260k"), text: at("tinystories/eval.jsonl") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Exit code, standard output and error of `optimize`.
    fn optimize(&self, out: &str, rest: &[&str]) -> (Option<i32>, String, String) {
        let out = self.shown(out);
        let model = ["optimize", &self.model, "--text", &self.text, "-o", &out];
        run(&[&model[..], &USUAL, rest].concat())
    }

    fn profiles(&self, name: &str) -> Vec<Profile> {
        Profiles::open_existing(&self.at(name)).unwrap().all().to_vec()
    }
}

#[test]
fn the_winner_keeps_the_limits_when_it_is_measured_again_and_none_is_better() {
    let case = Case::new();
    let all = [PLAIN, CALIBRATED].join(",");
    let limit = ["--candidates", &all, "--max-kl", "0.02"];
    let (code, out, errors) = case.optimize("small", &[&limit[..], &["--svg", &case.shown("front.svg")]].concat());
    assert_eq!(code, Some(0), "{out}{errors}");
    let [winner] = &case.profiles("small/profile.jsonl")[..] else { panic!("one profile") };
    assert!(out.contains(&format!("small`: {}", winner.key.recipe.split(',').next().unwrap())), "{out}");
    assert!(fs::read_to_string(case.at("front.svg")).unwrap().contains("KL divergence"));
    assert!(!case.at("small.search").exists());

    // The same text, of which a quarter was for calibration.
    let text = fs::read_to_string(&case.text).unwrap();
    let rest = text[text.len() / 4..].split_once('\n').unwrap().1;
    fs::write(case.at("rest.jsonl"), rest).unwrap();
    let (small, rest) = (case.shown("small"), case.shown("rest.jsonl"));
    let again = ["profile", &small, "--reference", &case.model, "--text", &rest, "--json"];
    let (code, out, errors) = run(&[&again[..], &USUAL].concat());
    assert_eq!(code, Some(0), "{errors}");
    let again: Profile = serde_json::from_str(&out).unwrap();
    assert_eq!((again.kl, again.perplexity, again.bytes_on_disk), (winner.kl, winner.perplexity, winner.bytes_on_disk));
    let constraints = Constraints { max_kl: Some(0.02), ..Constraints::default() };
    assert_eq!(constraints.misses(&again), []);

    let (code, out, errors) = case.optimize("all", &[&limit[..], &["--exhaustive"]].concat());
    assert_eq!(code, Some(0), "{out}{errors}");
    let measured = case.profiles("all.profiles.jsonl");
    assert_eq!(measured.len(), all.split(',').count());
    let best = choose(&measured, &constraints, Objective::Size).unwrap();
    assert_eq!(measured[best].key.recipe, winner.key.recipe);
}

#[test]
fn a_search_without_a_winner_says_what_is_near_and_is_used_again() {
    let case = Case::new();
    let plain = |rest: &[&str]| case.optimize("none", &[&["--candidates", PLAIN], rest].concat());
    let (code, out, errors) = plain(&["--max-kl", "0.0001", "--max-size", "200kB"]);
    assert_eq!(code, Some(1), "{out}{errors}");
    assert!(out.contains("no candidate keeps all limits; the nearest:\n"), "{out}");
    assert!(out.contains(" is above 0.200 MB"), "{out}");
    assert!(!case.at("none").exists() && case.at("none.search").exists());
    let packed = || fs::read_dir(case.at("none.search")).unwrap().count();
    let before = packed();
    // Packed candidates are used again.
    let (code, out, errors) = plain(&["--max-size", "200kB"]);
    assert_eq!(code, Some(0), "{out}{errors}");
    assert!(before > 0 && case.at("none/model.nw.safetensors").exists());
}

#[test]
fn limits_of_time_and_memory_are_measured_early() {
    let case = Case::new();
    let limits = ["--max-latency-p99", "100s", "--min-throughput", "0.01", "--max-memory", "1GB"];
    let plain = |out, rest: &[&str]| case.optimize(out, &[&["--candidates", PLAIN], rest].concat());
    let (code, out, errors) = plain("fast", &[&limits[..], &["--price", "0.5", "--max-kl", "0.05"]].concat());
    assert_eq!(code, Some(0), "{out}{errors}");
    assert!(out.contains("a few requests: ") && out.contains(" per million tokens"), "{out}");
    let (code, out, errors) = plain("none", &["--max-latency-p99", "0.01ms"]);
    assert_eq!(code, Some(1), "{out}{errors}");
    assert!(out.contains("the nearest:\n") && out.contains(" ms is above 0.01 ms"), "{out}");
}

#[test]
fn the_dense_model_is_a_candidate() {
    let case = Case::new();
    let rest = ["--objective", "quality", "--candidates", "dense,bnb_nf4", "--budget", "10"];
    let out = case.shown("best");
    let model = ["optimize", &case.model, "--text", &case.text, "-o", &out, "--windows", "4", "--runs", "1"];
    let (code, out, errors) = run(&[&model[..], &rest].concat());
    assert_eq!(code, Some(0), "{out}{errors}");
    let same = fs::read(Path::new(&case.model).join("model.safetensors")).unwrap();
    assert!(fs::read(case.at("best/model.safetensors")).unwrap() == same);
}

#[test]
fn profiles_are_measured_once() {
    let case = Case::new();
    let file = case.shown("p.jsonl");
    let profile = |rest: &[&str]| {
        let (code, out, errors) =
            run(&[&["profile", &case.model, "--text", &case.text, "--runs", "2", "-o", &file], rest].concat());
        assert_eq!(code, Some(0), "{errors}");
        out
    };
    let both = ["-j", "1", "--windows", "4", "--recipe", "dense", "--recipe", "int8"];
    assert_eq!(profile(&both), profile(&both));
    assert_eq!(case.profiles("p.jsonl").len(), 2);
    let usual = ["-j", "1", "--windows", "4"];
    let others = [
        vec!["-j", "1", "--windows", "5"],
        vec!["-j", "2", "--windows", "4"],
        [&usual[..], &["--request", "4+4"]].concat(),
        [&usual[..], &["--recipe", "int8", "--seed", "1"]].concat(),
    ];
    for (done, rest) in others.iter().enumerate() {
        profile(rest);
        assert_eq!(case.profiles("p.jsonl").len(), 3 + done);
    }
    profile(&usual);
    assert_eq!(case.profiles("p.jsonl").len(), 6);
    let dense = &case.profiles("p.jsonl")[0];
    assert_eq!((dense.kl.unwrap().high, dense.top1.unwrap().low), (0.0, 1.0));
    assert_eq!(dense.latencies.len(), 1);
    assert!(dense.peak_rss_bytes.unwrap() > dense.resident_bytes.unwrap());
}

#[test]
fn wrong_arguments_are_clear() {
    let case = Case::new();
    let out = case.shown("out");
    fs::write(case.at("short.txt"), "Once upon a time, there was a cat.").unwrap();
    fs::create_dir(case.at("full")).unwrap();
    fs::write(case.at("full/file"), "kept").unwrap();
    let (short, full) = (case.shown("short.txt"), case.shown("full"));
    let text = ["--text", &case.text, "-o", &out];
    let cases: [(&[&str], &str); 12] = [
        (&["--text", &short, "-o", &out, "--candidates", "q4"], "the text is too short"),
        (&["--text", "/nowhere.txt", "-o", &out], "cannot read `/nowhere.txt`"),
        (&["--text", &case.text, "-o", &full], "is not empty"),
        (&[&text[..], &["--candidates", "q5"]].concat(), "`q5` is no built-in recipe"),
        (&[&text[..], &["--candidates", "q4,q4"]].concat(), "names `q4` twice"),
        (&[&text[..], &["--objective", "cost"]].concat(), "needs --price"),
        (&[&text[..], &["--price=-1"]].concat(), "price per hour"),
        (&[&text[..], &["--price", "nan"]].concat(), "price per hour"),
        (&[&text[..], &["--max-kl=-1"]].concat(), "`max_kl` is -1"),
        (&[&text[..], &["--max-latency-p99", "100"]].concat(), "a time is 100ms or 1.5s"),
        (&[&text[..], &["--request", "5000+1", "--candidates", "q4"]].concat(), "context of 512 tokens"),
        (&["-o", &out, "--objective", "quality"], "needs --text"),
    ];
    for (rest, says) in cases {
        let (code, _, errors) = run(&[&["optimize", &*case.model], rest].concat());
        assert_eq!(code, Some(2), "{rest:?}: {errors}");
        assert!(errors.contains(says), "{rest:?}: {errors}");
    }
    assert_eq!(fs::read_to_string(case.at("full/file")).unwrap(), "kept");
    // The folder of packed candidates, which is removed after a search.
    fs::create_dir(case.at("my.search")).unwrap();
    fs::write(case.at("my.search/file"), "kept").unwrap();
    let (mine, svg) = (case.shown("my"), case.shown("my.search/front.svg"));
    for (rest, says) in [(&[][..], "is not of an earlier search"), (&["--svg", &svg], "removed after the search")] {
        let usual = ["optimize", &case.model, "--text", &case.text, "-o", &mine, "--candidates", "q4"];
        let (code, _, errors) = run(&[&usual[..], rest].concat());
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
    assert_eq!(fs::read_to_string(case.at("my.search/file")).unwrap(), "kept");
    let packed = case.shown("packed");
    assert_eq!(run(&["compress", &case.model, "-o", &packed, "--recipe", "int8"]).0, Some(0));
    for (args, says) in [
        (vec!["profile", &packed], "--reference names the dense model"),
        (vec!["profile", &case.model, "--reference", &packed], "is not dense"),
        (vec!["profile", &case.model, "--recipe", "gptq_quality"], "needs --calibration"),
        (vec!["optimize", &packed, "--text", &case.text, "-o", &out, "--candidates", "q4"], "is not dense"),
    ] {
        let (code, _, errors) = run(&args);
        assert_eq!(code, Some(2), "{args:?}: {errors}");
        assert!(errors.contains(says), "{args:?}: {errors}");
    }
}
