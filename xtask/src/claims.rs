//! `cargo xtask claims`: what the seeds promised beside what is measured here.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// What a seed is.
const MEANING: &str = "\
A seed is one of five reports of earlier systems whose claims Netweight answers with measurements.";

/// The seeds: number and subject.
const SEEDS: [(&str, &str); 5] = [
    ("000", "weight store and lazy graph"),
    ("001", "model deltas and routing"),
    ("002", "SeedLM with progressive encoding"),
    ("003", "lazy tensors and LoRA kernels"),
    ("004", "INT8 for small machines"),
];

/// A promise of a seed and its reproduction.
#[derive(Debug)]
struct Claim {
    /// Number of the seed.
    seed: &'static str,
    /// What it promises, in its own figures.
    promise: &'static str,
    /// Repeats it and tells the figure found.
    measure: fn() -> Result<String>,
}

/// A claim joins with the codec that reproduces it.
const CLAIMS: &[Claim] = &[];

/// What a seed is, and their list, for the help.
pub fn help() -> String {
    format!("{MEANING}\n\n{}", listed())
}

fn listed() -> String {
    SEEDS.map(|(number, subject)| format!("  {number}  {subject}")).join("\n")
}

/// Prints every claim of a seed, or of all.
///
/// # Errors
/// If there is no such seed, or a measurement fails.
pub fn run(seed: Option<&str>) -> Result<ExitCode> {
    if let Some(seed) = seed.filter(|seed| SEEDS.iter().all(|(number, _)| number != seed)) {
        bail!("there is no seed `{seed}`; the seeds are\n{}", listed());
    }
    println!("{MEANING}\n");
    for (number, subject) in SEEDS.into_iter().filter(|(number, _)| seed.is_none_or(|seed| seed == *number)) {
        println!("{number}  {subject}");
        let claims: Vec<_> = CLAIMS.iter().filter(|claim| claim.seed == number).collect();
        if claims.is_empty() {
            println!("    no claim is measured yet");
        }
        for claim in claims {
            println!("    {}\n        measured: {}", claim.promise, (claim.measure)()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
