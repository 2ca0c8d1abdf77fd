//! `netweight list`: the codecs of this program.

use std::io::Write;

use anyhow::Result;
use codec_api::{Codec, CodecEntry, Dtype, Registry, TensorSpec};
use serde::Serialize;

use crate::Outcome;
use crate::args::List;
use crate::text;

/// What the nominal rate is told for: such a matrix of F32, or of the first dtype that the codec is for.
const NOMINAL: [usize; 2] = [1024, 1024];

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
    /// Least and most; `None` if the codec does not take such a tensor.
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
    let presets = || codecs.iter().flat_map(|codec| &codec.presets);
    let widest = presets().map(|preset| preset.codec.len()).max().unwrap_or(0);
    let named = presets().map(|preset| preset.name.len()).max().unwrap_or(0);
    for codec in &codecs {
        let experimental = if codec.experimental { " (experimental)" } else { "" };
        writeln!(out, "{}  {}{experimental} [{} {}]", codec.id, codec.summary, codec.package, codec.version)?;
        for preset in &codec.presets {
            let bits = preset.bits_per_weight.map_or_else(|| "–".to_owned(), bits);
            writeln!(out, "    {:named$}  {:widest$}  {bits} bits/weight", preset.name, preset.codec)?;
        }
    }
    Ok(Outcome::Clean)
}

fn listed(entry: &CodecEntry, registry: &Registry) -> Result<Listed> {
    let nominal = TensorSpec::new(entry.only.first().copied().unwrap_or(Dtype::F32), NOMINAL)?;
    let preset = |preset: codec_api::Preset| ListedPreset {
        name: preset.name,
        codec: registry.spec_of(&*preset.codec),
        bits_per_weight: rate(&*preset.codec, &nominal),
    };
    Ok(Listed {
        id: entry.id,
        summary: entry.summary,
        package: entry.origin.0,
        version: entry.origin.1,
        experimental: entry.experimental,
        presets: (entry.presets)().into_iter().map(preset).collect(),
    })
}

fn rate(codec: &dyn Codec, spec: &TensorSpec) -> Option<[f64; 2]> {
    codec.accepts(spec).ok()?;
    let bytes = codec.cost(spec).bytes;
    let bits = |bytes: u64| 8.0 * bytes as f64 / spec.elements() as f64;
    Some([*bytes.start(), *bytes.end()].map(bits))
}

fn bits(range: [f64; 2]) -> String {
    let [least, most] = range.map(|bits| format!("{bits:.3}"));
    if least == most { least } else { format!("{least} to {most}") }
}
