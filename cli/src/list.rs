//! `netweight list`: the codecs of this program and their presets.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use codec_api::{Codec, CodecEntry, Dtype, Registry, TensorSpec};
use serde::Serialize;

use crate::Outcome;
use crate::args::List;
use crate::text;

/// Shape of the tensor for the nominal rate. Its dtype is F32, or the first dtype of a codec with
/// dtypes of its own.
const NOMINAL: [usize; 2] = [1024, 1024];

/// A spec is not shortened below this many characters.
const LEAST: usize = 10;

#[derive(Serialize)]
struct Listed {
    id: &'static str,
    summary: &'static str,
    #[serde(rename = "crate")]
    package: &'static str,
    version: &'static str,
    experimental: bool,
    presets: Vec<ListedPreset>,
}

#[derive(Serialize)]
struct ListedPreset {
    name: &'static str,
    codec: String,
    /// Least and most; `None` if the codec does not support the nominal tensor.
    bits_per_weight: Option<[f64; 2]>,
}

/// Prints every codec, sorted by id.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &List, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let codecs = registry.entries().map(|entry| listed(entry, registry)).collect::<Result<Vec<_>>>()?;
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

fn listed(entry: &CodecEntry, registry: &Registry) -> Result<Listed> {
    let nominal = TensorSpec::new(entry.only.first().copied().unwrap_or(Dtype::F32), NOMINAL)?;
    let preset = |(name, codec): &(&'static str, Arc<dyn Codec>)| ListedPreset {
        name,
        codec: registry.spec_of(&**codec),
        bits_per_weight: rate(&**codec, &nominal),
    };
    Ok(Listed {
        id: entry.id,
        summary: entry.summary,
        package: entry.origin.0,
        version: entry.origin.1,
        experimental: entry.experimental,
        presets: registry.presets_of(entry.id).iter().map(preset).collect(),
    })
}

fn rate(codec: &dyn Codec, spec: &TensorSpec) -> Option<[f64; 2]> {
    codec.accepts(spec).ok()?;
    let bytes = codec.cost(spec).bytes;
    let bits = |bytes: u64| 8.0 * bytes as f64 / spec.elements() as f64;
    Some([*bytes.start(), *bytes.end()].map(bits))
}

fn bits(range: [f64; 2]) -> String {
    let [least, most] = range.map(|bits| if bits < 10.0 { format!("{bits:.3}") } else { format!("{bits:.2}") });
    if least == most { least } else { format!("{least}–{most}") }
}
