//! The columns of a matrix: its codecs.

use std::sync::Arc;

use codec_api::{Codec, Registry, SpecError, header};

/// One codec of a matrix.
#[derive(Clone, Debug)]
pub struct Column {
    /// The codec as spec text with all its keys.
    pub spec: String,
    /// Name of the preset with this configuration, if any.
    pub preset: Option<String>,
    /// The codec.
    pub codec: Arc<dyn Codec>,
}

/// One column per codec spec, duplicates removed; without specs, one per preset of every codec.
///
/// # Errors
/// [`SpecError`] of the first spec that does not parse.
pub fn columns_for(registry: &Registry, specs: &[String]) -> Result<Vec<Column>, SpecError> {
    let mut columns: Vec<Column> = Vec::new();
    if specs.is_empty() {
        let all = registry.presets().map(|(_, name, codec)| Column {
            spec: registry.spec_of(&*codec),
            preset: Some(name.to_owned()),
            codec,
        });
        columns.extend(all);
    }
    for spec in specs {
        let codec = registry.parse_spec(spec)?;
        let spec = registry.spec_of(&*codec);
        if columns.iter().all(|column| column.spec != spec) {
            columns.push(Column { spec, preset: preset_of(registry, &*codec)?, codec });
        }
    }
    Ok(columns)
}

fn preset_of(registry: &Registry, codec: &dyn Codec) -> Result<Option<String>, SpecError> {
    let wanted = header(codec)?;
    let same = |preset: &dyn Codec| header(preset).is_ok_and(|text| text == wanted);
    let mut presets = registry.presets().filter(|(entry, ..)| entry.id == codec.typetag_name());
    Ok(presets.find(|(.., preset)| same(&**preset)).map(|(_, name, _)| name.to_owned()))
}
