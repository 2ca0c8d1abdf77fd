//! What was saved and lost, and what to do next.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use checkpoint::{Packed, Plan};
use codec_api::Registry;

use crate::info::packed::Model;
use crate::text;

/// Prints sizes, codecs, the largest error and the time of a committed plan, and the commands that
/// verify and undo it. `model`, `packed` and `bases` are their arguments.
///
/// # Errors
/// If the packed file cannot be opened, or the output cannot be written.
pub fn print(
    plan: &Plan,
    [model, packed]: [&Path; 2],
    bases: &[PathBuf],
    verified: bool,
    time: Duration,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<()> {
    let shown = print_made(plan, packed, bases, verified, time, registry, out)?;
    let (model, packed) = (text::path(model), text::path(&shown));
    let option = |base: &PathBuf| format!(" --base {}", text::path(base));
    let base = bases.iter().map(option).collect::<Vec<_>>().concat();
    writeln!(out, "`netweight verify {packed}{base} --against {model}` compares it with the source")?;
    writeln!(out, "`netweight decompress {packed}{base} -o DENSE` writes the dense model")?;
    Ok(())
}

/// Prints sizes, codecs, the largest error and the time of a committed plan. Returns `packed`, or
/// the index of the set of files in its place.
///
/// # Errors
/// As [`print()`].
pub fn print_made(
    plan: &Plan,
    packed: &Path,
    bases: &[PathBuf],
    verified: bool,
    time: Duration,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<PathBuf> {
    let found = Model::read(&Packed::open(plan.written(), registry)?.with_bases(bases, registry)?, registry)?;
    writeln!(out, "{}", found.totals())?;
    let checked = if verified { "checked: it decodes to what it states" } else { "not checked yet" };
    let speed = found.dense_bytes() as f64 / 1e6 / time.as_secs_f64().max(1e-3);
    writeln!(out, "it took {:.1} s, {speed:.0} MB/s; {checked}", time.as_secs_f64())?;
    // A set has other names than the file in whose place it is.
    let index = plan.written().file_name().map(|name| packed.with_file_name(name)).filter(|_| !packed.exists());
    Ok(index.unwrap_or_else(|| packed.to_owned()))
}
