//! `cargo xtask bench-matrix`: the main measurement, every codec on the small real model.

use std::fs;
use std::process::ExitCode;

use anyhow::Result;

use crate::tree::{self, Tree};

/// The model, below the root.
const MODEL: &str = "assets/stories260k";

/// The report files, below the root, without file extensions.
const REPORTS: &str = "reports/bench-matrix";

/// Runs `netweight bench`. Without arguments it writes the report files. With arguments it writes
/// only the files that they name, and measures the same suite unless they name another.
///
/// # Errors
/// If cargo cannot be started, or `reports/` cannot be created.
pub fn run(tree: &Tree, args: &[String]) -> Result<ExitCode> {
    eprintln!("xtask: building `netweight` for speed (the first time this takes minutes), then measuring");
    let mut bench = tree.cargo("run");
    // What runs models would make the first build longer.
    bench.args(["--release", "--package", "netweight-cli", "--no-default-features", "--", "bench"]);
    if !args.is_empty() {
        // Relative paths in the arguments start from the caller's directory.
        if !names_suite(args) {
            bench.arg("--suite").arg(suite(tree));
        }
        return Ok(tree::run(bench.args(args))?.into());
    }
    fs::create_dir_all(tree.path("reports"))?;
    bench.current_dir(&tree.root).args(["--suite", &format!("model:{MODEL}"), "--force"]);
    for (option, extension) in [("--json", "jsonl"), ("--csv", "csv"), ("--md", "md")] {
        bench.args([option, &format!("{REPORTS}.{extension}")]);
    }
    let code = tree::run(&mut bench)?;
    // Exit codes 0 and 1 mean that the run was completed.
    if code < 2 {
        let path = tree.path(REPORTS);
        println!("\nreport files: {}.{{jsonl,csv,md}}; the Markdown file has the table of all cells", path.display());
    }
    Ok(code.into())
}

/// Whether the arguments name a suite, or begin with a model.
fn names_suite(args: &[String]) -> bool {
    let is_model = args.first().is_some_and(|first| !first.starts_with('-'));
    is_model || args.iter().any(|arg| arg == "--suite" || arg.starts_with("--suite="))
}

/// The suite of a run without arguments. In the root directory the name is identical, so that
/// `--compare` with the report of an earlier run finds its cells.
fn suite(tree: &Tree) -> String {
    match std::env::current_dir() {
        Ok(here) if here == tree.root => format!("model:{MODEL}"),
        _ => format!("model:{}", tree.path(MODEL).display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_among_the_arguments_is_seen() {
        let names = |args: &[&str]| names_suite(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(names(&["--codecs", "quant.nf4", "--suite", "laplace"]));
        assert!(names(&["--suite=laplace"]) && names(&["my-model", "--wide"]));
        assert!(!names(&["--codecs", "quant.nf4"]) && !names(&["--help"]) && !names(&["--suites"]));
    }

    #[test]
    fn the_model_is_in_the_tree() {
        let elsewhere = Tree { root: "/far/tree".into() };
        assert_eq!(suite(&elsewhere), "model:/far/tree/assets/stories260k");
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(here.join(MODEL).join("model.safetensors").is_file());
    }
}
