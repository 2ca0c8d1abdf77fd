//! Profiles as a table.

use std::io::{self, Write};

use planner::{Estimate, Limit, Profile};

use crate::text::{self, Align, table};

/// Writes a table with a line for each profile. `names` are what people call them.
///
/// # Errors
/// Those of `out`.
pub fn write(profiles: &[(&str, &Profile)], out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("variant", Align::Left),
        ("size", Align::Right),
        ("memory", Align::Right),
        ("perplexity", Align::Right),
        ("change", Align::Right),
        ("KL\nnats", Align::Right),
        ("top-1", Align::Right),
        ("prefill\ntokens/s", Align::Right),
        ("decode\ntokens/s", Align::Right),
        ("p50\nms", Align::Right),
        ("p99\nms", Align::Right),
    ];
    let rows = profiles.iter().map(|(name, profile)| row(name, profile));
    writeln!(out, "{}", table(&columns, rows, text::width()))
}

fn row(name: &str, profile: &Profile) -> Vec<String> {
    let none = || "–".to_owned();
    let number = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.0}"));
    let slowest = |of: fn(&planner::Latency) -> f64| {
        let most = profile.latencies.iter().map(of).reduce(f64::max);
        most.map_or_else(none, |most| format!("{most:.2}"))
    };
    vec![
        name.to_owned(),
        text::size(profile.bytes_on_disk),
        profile.memory().map_or_else(none, text::size),
        profile.perplexity.map_or_else(none, |found| format!("{:.4}", found.value)),
        profile.perplexity_change.map_or_else(none, |found| Limit::PerplexityChange.shown(found.value)),
        profile.kl.map_or_else(none, divergence),
        profile.top1.map_or_else(none, |found| format!("{:.2} %", 100.0 * found.value)),
        number(profile.prefill_tokens_per_s),
        number(profile.decode_tokens_per_s),
        slowest(|latency| latency.p50_ms),
        slowest(|latency| latency.p99_ms),
    ]
}

/// A divergence and half of its interval.
fn divergence(Estimate { value, low, high }: Estimate) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.2e} ±{:.0} %", 50.0 * (high - low) / value) }
}
