//! What a search decided, and what it found.

use std::collections::BTreeMap;
use std::io::{self, Write};

use planner::{Bench, Constraints, Dropped, Found, Miss, Near, Objective, Profile, Round, Search, Stage, pareto};

use super::measured::Measured;
use crate::profile::{Variant, write_table};
use crate::text::{count, printable};

/// Candidates that a message about misses names.
const NEAREST: usize = 3;

/// A stage in words.
pub fn stage_in_words(stage: Stage, windows: usize) -> String {
    match stage {
        Stage::Estimate => "estimated sizes".to_owned(),
        Stage::Size => "sizes".to_owned(),
        Stage::Quick => "a few requests".to_owned(),
        Stage::Windows(part) => format!("{part} of {windows} windows"),
        Stage::Full => "all of the text and all requests".to_owned(),
        Stage::Requests => "more requests".to_owned(),
    }
}

/// Writes what a round measured, what that took, and who does not go on.
pub fn round(round: &Round, variants: &[Variant], windows: usize, out: &mut dyn Write) -> io::Result<()> {
    let name = |index: usize| printable(&variants[index].name);
    let measured = count(round.measured.len(), "candidate");
    writeln!(out, "{}: {measured}, {:.1} s", stage_in_words(round.stage, windows), round.seconds)?;
    let mut waiting = Vec::new();
    let (mut beaten, mut like) = (BTreeMap::<usize, Vec<String>>::new(), BTreeMap::<usize, Vec<String>>::new());
    for (index, dropped) in &round.dropped {
        match dropped {
            Dropped::Failed(reason) => writeln!(out, "  {}: {}", name(*index), printable(reason))?,
            Dropped::Misses(misses) => writeln!(out, "  {}: {}", name(*index), list(misses))?,
            Dropped::Beaten(by) => beaten.entry(*by).or_default().push(name(*index)),
            Dropped::Like(other) => like.entry(*other).or_default().push(name(*index)),
            Dropped::Waits => waiting.push(name(*index)),
        }
    }
    for (other, names) in like {
        writeln!(out, "  as {}, at other rates: {}", name(other), names.join(", "))?;
    }
    for (by, names) in beaten {
        writeln!(out, "  {} keeps the limits and is better than: {}", name(by), names.join(", "))?;
    }
    if !waiting.is_empty() {
        writeln!(out, "  others go first; these wait: {}", waiting.join(", "))?;
    }
    out.flush()
}

fn list(misses: &[Miss]) -> String {
    misses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The table of the candidates that no other one beats in size and quality, and in time if all were
/// timed, as far as this was measured.
pub fn front(search: &Search, found: &Found, variants: &[Variant], out: &mut dyn Write) -> io::Result<()> {
    let known: Vec<(usize, &Profile)> =
        found.profiles.iter().enumerate().filter_map(|(i, profile)| Some((i, profile.as_ref()?))).collect();
    let profiles: Vec<Profile> = known.iter().map(|(_, profile)| (*profile).clone()).collect();
    let timed = search.exhaustive || search.stages().contains(&Stage::Quick);
    let mut objectives = vec![(Objective::Size, "size"), (Objective::Quality, "quality")];
    objectives.extend(timed.then_some((Objective::Latency, "time")));
    objectives.retain(|(objective, _)| profiles.iter().any(|profile| objective.value(profile).is_some()));
    let (objectives, named): (Vec<_>, Vec<_>) = objectives.into_iter().unzip();
    let mut best: Vec<(usize, &Profile)> = pareto(&profiles, &objectives).into_iter().map(|at| known[at]).collect();
    best.sort_by_key(|(_, profile)| profile.bytes_on_disk);
    let part = |index: usize, profile: &Profile| match profile.key.settings.windows {
        Some(windows) if !found.full[index] && windows > 0 => format!(" ({windows} windows)"),
        _ => String::new(),
    };
    let names: Vec<_> =
        best.iter().map(|(index, profile)| format!("{}{}", variants[*index].name, part(*index, profile))).collect();
    writeln!(out, "no other candidate beats these in {}:", named.join(", "))?;
    let rows: Vec<_> = names.iter().zip(&best).map(|(name, (_, profile))| (&**name, *profile)).collect();
    write_table(&rows, out)
}

/// Writes by how much the nearest candidates miss the limits.
pub fn nearest(found: &Found, constraints: &Constraints, variants: &[Variant], out: &mut dyn Write) -> io::Result<()> {
    let reason = if found.out_of_time { "before the budget ended, " } else { "" };
    writeln!(out, "{reason}no candidate keeps all limits; the nearest:")?;
    for Near { index, misses } in found.nearest(constraints).iter().take(NEAREST) {
        writeln!(out, "  {}: {}", printable(&variants[*index].name), list(misses))?;
    }
    Ok(())
}

/// Writes what the search cost, beside measuring every candidate in full at the mean time of those
/// that were.
pub fn cost(found: &Found, bench: &mut Measured<'_>) -> io::Result<()> {
    let (seconds, all) = (bench.seconds(), found.profiles.len());
    let full = found.full.iter().filter(|full| **full).count();
    write!(bench.out, "{seconds:.1} s, {full} of {all} candidates measured in full")?;
    let means = bench.packing.mean().zip(bench.full.mean()).filter(|_| full < all);
    if let Some((packing, measuring)) = means {
        let everything = (packing + measuring) * all as f64;
        write!(bench.out, "; all of them would take about {everything:.1} s")?;
    }
    writeln!(bench.out)
}
