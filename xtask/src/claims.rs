//! `cargo xtask claims`: what the seed documents promised beside what is measured here.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// The seed documents, by number.
const SEEDS: [&str; 5] = ["000", "001", "002", "003", "004"];

/// A promise of a seed document and its reproduction.
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

/// Prints every claim of a seed, or of all.
///
/// # Errors
/// If there is no such seed, or a measurement fails.
pub fn run(seed: Option<&str>) -> Result<ExitCode> {
    if let Some(seed) = seed.filter(|seed| !SEEDS.contains(seed)) {
        bail!("there is no seed `{seed}`; the seeds are {}", SEEDS.join(", "));
    }
    for number in SEEDS.iter().filter(|number| seed.is_none_or(|seed| seed == **number)) {
        let claims: Vec<_> = CLAIMS.iter().filter(|claim| claim.seed == *number).collect();
        if claims.is_empty() {
            println!("seed {number}: no claim is measured yet");
        }
        for claim in claims {
            println!("seed {number}: {}\n    measured: {}", claim.promise, (claim.measure)()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
