//! `cargo xtask claims`: what the seeds promised beside what is measured here.

mod part;
mod seed000;
mod seed001;
mod seed002;
mod versions;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::tree::Tree;

/// What a seed is.
const MEANING: &str = "\
A seed is one of five reports of earlier systems whose claims Netweight answers with measurements.";

/// A report of an earlier system.
#[derive(Debug)]
struct Seed {
    /// Three digits.
    number: &'static str,
    subject: &'static str,
    /// Measures its claims and tells them as Markdown.
    measure: Option<fn(&Tree) -> Result<String>>,
}

const SEEDS: [Seed; 5] = [
    Seed { number: "000", subject: "weight store and lazy graph", measure: Some(seed000::measure) },
    Seed { number: "001", subject: "model deltas and routing", measure: Some(seed001::measure) },
    Seed { number: "002", subject: "SeedLM with progressive encoding", measure: Some(seed002::measure) },
    Seed { number: "003", subject: "lazy tensors and LoRA kernels", measure: None },
    Seed { number: "004", subject: "INT8 for small machines", measure: None },
];

/// What a seed is, and their list, for the help.
pub fn help() -> String {
    format!("{MEANING}\n\n{}", listed())
}

fn listed() -> String {
    SEEDS.map(|seed| format!("  {}  {}", seed.number, seed.subject)).join("\n")
}

/// Measures and prints every claim of a seed, or of all.
///
/// # Errors
/// If there is no such seed, or a measurement fails.
pub fn run(tree: &Tree, seed: Option<&str>) -> Result<ExitCode> {
    let wanted = seed.map(find).transpose()?;
    let seeds = SEEDS.iter().filter(|seed| wanted.is_none_or(|wanted| wanted.number == seed.number));
    let pages = seeds.map(|seed| page(tree, seed)).collect::<Result<Vec<_>>>()?;
    print!("{}", pages.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn page(tree: &Tree, seed: &Seed) -> Result<String> {
    let Seed { number, subject, measure } = seed;
    let text = match measure {
        None => "no claim is measured yet\n".to_owned(),
        Some(measure) => {
            format!("`cargo xtask claims seed{number}` prints this page. {MEANING}\n\n{}", measure(tree)?)
        }
    };
    Ok(format!("# Seed {number}: {subject}\n\n{text}"))
}

/// The seed that is called `002` or `seed002`.
fn find(name: &str) -> Result<&'static Seed> {
    let number = name.strip_prefix("seed").unwrap_or(name);
    let found = SEEDS.iter().find(|seed| seed.number == number);
    found.with_context(|| format!("there is no seed `{name}`; the seeds are\n{}", listed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_two_spellings() {
        for name in ["002", "seed002"] {
            assert_eq!(find(name).unwrap().number, "002");
        }
        for name in ["2", "seed", "", "005", "seedseed002"] {
            let message = find(name).unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")) && message.contains("  004  INT8"), "{message}");
        }
    }
}
