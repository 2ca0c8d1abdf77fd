//! `cargo xtask claims`: the claims of earlier systems, each with a measured value.

mod expressions;
mod language;
mod part;
mod seed000;
mod seed001;
mod seed002;
mod seed003;
mod seed004;
mod timing;
mod versions;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::measure::paragraph;
use crate::stamp::stamp;

/// What a seed is.
const MEANING: &str = "\
A seed is one of five reports of earlier systems. Netweight measures what they claim.";

/// A report of an earlier system.
#[derive(Debug)]
struct Seed {
    /// Three digits.
    number: &'static str,
    subject: &'static str,
    /// Measures the claims; the result is Markdown.
    measure: Option<fn(&Lab) -> Result<String>>,
}

const SEEDS: [Seed; 5] = [
    Seed { number: "000", subject: "weight store and lazy graph", measure: Some(seed000::measure) },
    Seed { number: "001", subject: "model deltas and routing", measure: Some(seed001::measure) },
    Seed { number: "002", subject: "SeedLM with progressive encoding", measure: Some(seed002::measure) },
    Seed { number: "003", subject: "lazy tensors and LoRA kernels", measure: Some(seed003::measure) },
    Seed { number: "004", subject: "INT8 for small machines", measure: Some(seed004::measure) },
];

/// What a seed is, and the list of seeds.
pub fn help() -> String {
    format!("{MEANING}\n\n{}", listed())
}

fn listed() -> String {
    SEEDS.map(|seed| format!("  {}  {}", seed.number, seed.subject)).join("\n")
}

/// Measures every claim of a seed, or of all seeds.
///
/// # Errors
/// If there is no such seed, or a measurement fails.
pub fn pages(lab: &Lab, seed: Option<&str>) -> Result<String> {
    let chosen = seed.map(find).transpose()?;
    let seeds = SEEDS.iter().filter(|seed| chosen.is_none_or(|chosen| chosen.number == seed.number));
    let pages = seeds.map(|seed| page(lab, seed)).collect::<Result<Vec<_>>>()?;
    Ok(pages.join("\n"))
}

fn page(lab: &Lab, seed: &Seed) -> Result<String> {
    let Seed { number, subject, measure } = seed;
    let text = match measure {
        None => "no claim is measured yet\n".to_owned(),
        Some(measure) => {
            let stamp = stamp(&lab.root, &format!("claims seed{number}"));
            format!("{}\n{}", paragraph(&format!("{stamp} {MEANING}")), measure(lab)?)
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
