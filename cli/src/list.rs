//! `netweight list`: the codecs of this program and their presets.

use std::io::Write;

use anyhow::Result;
use codec_api::Registry;
use harness::listing::{self, Listed, ListedPreset};

use crate::Outcome;
use crate::args::List;
use crate::text;

/// A spec is not shortened below this many characters.
const LEAST: usize = 10;

/// Prints every codec, sorted by id.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &List, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let codecs = listing::codecs(registry)?;
    if args.json {
        text::write_json(out, &codecs)?;
        return Ok(Outcome::Clean);
    }
    print(&codecs, args.wide, if args.wide { None } else { text::width() }, out)?;
    Ok(Outcome::Clean)
}

fn print(codecs: &[Listed], wide: bool, width: Option<usize>, out: &mut dyn Write) -> Result<()> {
    let columns = ["preset", "bits/w"];
    let cells =
        |preset: &ListedPreset| [preset.name.to_owned(), preset.bits_per_weight.map_or_else(|| "–".to_owned(), bits)];
    let presets = || codecs.iter().flat_map(|codec| &codec.presets).map(cells);
    let [named, rated] =
        [0, 1].map(|i| presets().map(|cells| cells[i].chars().count()).fold(columns[i].len(), usize::max));
    let line = |name: &str, rate: &str, spec: &str| format!("    {name:named$}  {rate:>rated$}  {spec}");
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(line("", "", "").len()).max(LEAST));
    writeln!(out, "codec  summary\n{}", line(columns[0], columns[1], "spec"))?;
    for codec in codecs {
        let experimental = if codec.experimental { " (experimental)" } else { "" };
        let package = if wide { format!(" [{} {}]", codec.package, codec.version) } else { String::new() };
        let title = format!("{}  {}{experimental}{package}", codec.id, codec.summary);
        writeln!(out, "{}", text::wrap(&title, " ", width.unwrap_or(usize::MAX)))?;
        let specs: Vec<&str> = codec.presets.iter().map(|preset| preset.codec.as_str()).collect();
        for (preset, spec) in codec.presets.iter().zip(text::shorten_all(&specs, room)) {
            let [name, rate] = cells(preset);
            writeln!(out, "{}", line(&name, &rate, &spec))?;
        }
    }
    Ok(())
}

fn bits(range: [f64; 2]) -> String {
    let [least, most] = range.map(|bits| if bits < 10.0 { format!("{bits:.3}") } else { format!("{bits:.2}") });
    if least == most { least } else { format!("{least}–{most}") }
}
