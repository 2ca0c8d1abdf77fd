//! Who answers each request, as text and as JSON.

use std::io::Write;

use anyhow::Result;
use planner::{Aim, Class, Decision, Fleet, Limit, Miss, Offer, Remedy};
use serde::Serialize;

use super::Routed;
use crate::Outcome;
use crate::text::{Align, printable, table, width, write_json};

/// Most characters of a prompt in a table.
const SHOWN: usize = 40;

/// Decides, and prints.
pub(super) fn run(fleet: &Fleet, routed: &[Routed], aim: Aim, json: bool, out: &mut dyn Write) -> Result<Outcome> {
    let decisions: Vec<_> = routed.iter().map(|routed| Decision::new(fleet, &routed.need, aim)).collect();
    let pairs = || routed.iter().zip(&decisions);
    if json {
        write_json(out, &pairs().map(|(routed, decision)| Row::new(routed, decision)).collect::<Vec<_>>())?;
    } else if let ([routed], [decision]) = (routed, &decisions[..]) {
        one(routed, decision, out)?;
    } else {
        let rows = pairs().map(|(routed, decision)| line(routed, decision));
        writeln!(out, "{}", table(&COLUMNS, rows, width()))?;
        refused(pairs(), out)?;
    }
    let all = decisions.iter().all(|decision| decision.chosen().is_some());
    Ok(if all { Outcome::Clean } else { Outcome::Found })
}

const COLUMNS: [(&str, Align); 9] = [
    ("request", Align::Left),
    ("tokens", Align::Right),
    ("class", Align::Left),
    ("quality", Align::Right),
    ("variant", Align::Left),
    ("hardware", Align::Left),
    ("has", Align::Right),
    ("p99", Align::Right),
    ("$/1M tokens", Align::Right),
];

fn line(routed: &Routed, decision: &Decision<'_>) -> Vec<String> {
    let mut cells =
        vec![prompt(routed), tokens(routed), routed.class().to_string(), Limit::Quality.shown(routed.need.quality)];
    match decision.chosen() {
        Some(offer) => cells.extend(figures(offer)),
        None => cells.extend(["none fits", "", "", "", ""].map(str::to_owned)),
    }
    cells
}

fn figures(offer: &Offer<'_>) -> [String; 5] {
    let (variant, hardware) = offer.names();
    let p99 = offer.p99_ms.map_or_else(|| "?".to_owned(), |p99| Limit::P99.shown(p99));
    let cost = format!("{:.2}", offer.cost_per_million);
    [variant.to_owned(), hardware.to_owned(), Limit::Quality.shown(offer.quality), p99, cost]
}

fn prompt(routed: &Routed) -> String {
    let Some(text) = &routed.request.prompt else { return "-".to_owned() };
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

fn tokens(routed: &Routed) -> String {
    format!("{} + {}", routed.lengths.prompt, routed.lengths.output)
}

/// One request, with its alternatives.
fn one(routed: &Routed, decision: &Decision<'_>, out: &mut dyn Write) -> Result<()> {
    let words = routed.request.class_by_words();
    let words = words.map_or_else(String::new, |class| format!(" ({class} by the rule of words)"));
    let limit =
        routed.need.p99_ms.map_or_else(String::new, |limit| format!(", p99 of at most {}", Limit::P99.shown(limit)));
    let quality = Limit::Quality.shown(routed.need.quality);
    writeln!(out, "{} tokens: {}{words}; needs quality {quality}{limit}", tokens(routed), routed.class())?;
    match decision.chosen() {
        Some(offer) => {
            let [variant, hardware, quality, p99, cost] = figures(offer).map(|text| printable(&text));
            writeln!(out, "`{variant}` on `{hardware}`: ${cost} per million tokens, p99 {p99}, quality {quality}")?;
        }
        None => none(decision, out)?,
    }
    let rows =
        decision.alternatives().map(|(offer, reason)| figures(offer).into_iter().chain([reason]).collect::<Vec<_>>());
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let columns: Vec<_> = COLUMNS[4..].iter().copied().chain([("why not", Align::Left)]).collect();
        writeln!(out, "\n{}", table(&columns, rows, None))?;
    }
    Ok(())
}

fn none(decision: &Decision<'_>, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "none fits; this would:")?;
    for Remedy { variant, hardware, misses } in decision.remedies() {
        let [variant, hardware] = [variant, hardware].map(printable);
        let changes: Vec<_> = misses.iter().map(change).collect();
        writeln!(out, "  `{variant}` on `{hardware}`, with {}", changes.join(" and "))?;
    }
    Ok(())
}

/// What would have to change.
fn change(miss: &Miss) -> String {
    let Miss { limit, wanted, found } = miss;
    let wanted = limit.shown(*wanted);
    match found {
        None => format!("a known {limit} of at most {wanted}"),
        Some(found) => format!("{limit} {} in place of {wanted}", limit.shown(*found)),
    }
}

fn refused<'a>(pairs: impl Iterator<Item = (&'a Routed, &'a Decision<'a>)>, out: &mut dyn Write) -> Result<()> {
    for (routed, decision) in pairs.filter(|(_, decision)| decision.chosen().is_none()) {
        write!(out, "`{}`: ", printable(&prompt(routed)))?;
        none(decision, out)?;
    }
    Ok(())
}

/// A decision as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    prompt: Option<&'a str>,
    prompt_tokens: u64,
    output_tokens: u64,
    class: Class,
    class_by_words: Option<Class>,
    quality: f64,
    max_p99_ms: Option<f64>,
    chosen: Option<Shown<'a>>,
    alternatives: Vec<Shown<'a>>,
    remedies: Vec<Remedy<'a>>,
}

/// An offer as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    variant: &'a str,
    hardware: &'a str,
    quality: f64,
    p99_ms: Option<f64>,
    cost_per_million: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

impl<'a> Shown<'a> {
    fn new(offer: &Offer<'a>, why_not: Option<String>) -> Self {
        let (variant, hardware) = offer.names();
        let Offer { quality, p99_ms, cost_per_million, .. } = *offer;
        Self { variant, hardware, quality, p99_ms, cost_per_million, why_not }
    }
}

impl<'a> Row<'a> {
    fn new(routed: &'a Routed, decision: &Decision<'a>) -> Self {
        Self {
            prompt: routed.request.prompt.as_deref(),
            prompt_tokens: routed.lengths.prompt,
            output_tokens: routed.lengths.output,
            class: routed.class(),
            class_by_words: routed.request.class_by_words(),
            quality: routed.need.quality,
            max_p99_ms: routed.need.p99_ms,
            chosen: decision.chosen().map(|offer| Shown::new(offer, None)),
            alternatives: decision.alternatives().map(|(offer, why_not)| Shown::new(offer, Some(why_not))).collect(),
            remedies: decision.remedies(),
        }
    }
}
