//! Errors for unknown names on the command line, with the names that may be meant.

use std::path::Path;

use anyhow::{Error, anyhow};
use codec_api::{CodecEntry, Registry, SpecError};
use harness::suite::{SuiteError, catalogue};
use strsim::osa_distance;

/// At most so many suggestions.
const MOST: usize = 3;

/// The error of a codec spec. For an unknown codec it suggests the ids and presets of that name, or
/// the most similar ids.
pub fn for_spec(error: SpecError, registry: &Registry) -> Error {
    let SpecError::UnknownCodec { id, .. } = &error else { return error.into() };
    let found = codecs(id, registry);
    if found.is_empty() {
        return error.into();
    }
    anyhow!("unknown codec `{id}`; did you mean {}? `netweight list` shows all codecs", join(&found))
}

/// The error of a suite. For an unknown suite it suggests the path of this name, or similar suites.
pub fn for_suite(error: SuiteError) -> Error {
    let SuiteError::Unknown { name, .. } = &error else { return error.into() };
    if !name.is_empty() && Path::new(name).exists() {
        return anyhow!("`{name}` is a path, not a suite; did you mean `netweight bench {}`?", quoted(name));
    }
    let found = suites(name);
    if found.is_empty() {
        return error.into();
    }
    anyhow!("unknown suite `{name}`; did you mean {}? `netweight bench --help` lists all suites", join(&found))
}

/// Whether a text is the name of a suite, perhaps with parameters.
pub fn is_suite(text: &str) -> bool {
    catalogue().iter().any(|(pattern, _)| head(pattern) == head(text))
}

fn codecs(name: &str, registry: &Registry) -> Vec<String> {
    let exact = |entry: &&CodecEntry| last(entry.id).eq_ignore_ascii_case(name) || entry.id.eq_ignore_ascii_case(name);
    let mut found: Vec<String> = registry.entries().filter(exact).map(|entry| entry.id.to_owned()).collect();
    if found.is_empty() {
        // Codecs that are not made of others first.
        let mut entries: Vec<&CodecEntry> = registry.entries().collect();
        entries.sort_by_key(|entry| !entry.children.is_empty());
        let has_preset = |entry: &&CodecEntry| registry.presets_of(entry.id).iter().any(|(preset, _)| *preset == name);
        found.extend(entries.into_iter().filter(has_preset).map(|entry| format!("{}:preset={name}", entry.id)));
    }
    if found.is_empty() {
        found = similar(name, registry.entries().map(|entry| (entry.id, entry.id.to_owned())));
    }
    found.truncate(MOST);
    found
}

fn suites(name: &str) -> Vec<String> {
    let parameters = &name[head(name).len()..];
    let known = catalogue().iter().map(|(pattern, _)| {
        let suggestion = match parameters {
            "" => pattern.split('[').next().unwrap_or(pattern).to_owned(),
            parameters => format!("{}{parameters}", head(pattern)),
        };
        (head(pattern), suggestion)
    });
    similar(head(name), known)
}

/// The suggestions for the known names at the smallest edit distance. A part after the last dot or
/// slash also counts as a name, behind the whole names of the same distance.
fn similar<'a>(name: &str, known: impl Iterator<Item = (&'a str, String)>) -> Vec<String> {
    let name = name.to_lowercase();
    let distance = |known: &str| {
        let (whole, part) = (osa_distance(&name, known), osa_distance(&name, last(known)));
        (whole.min(part), part < whole)
    };
    let limit = (last(&name).chars().count() / 3).min(2);
    let mut near: Vec<_> = known.map(|(known, suggestion)| (distance(known), suggestion)).collect();
    near.retain(|((distance, _), _)| *distance <= limit);
    let nearest = near.iter().map(|(distance, _)| *distance).min();
    near.retain(|(distance, _)| Some(*distance) == nearest);
    near.into_iter().take(MOST).map(|(_, suggestion)| suggestion).collect()
}

/// The part after the last dot or slash.
fn last(id: &str) -> &str {
    id.rsplit(['.', '/']).next().unwrap_or(id)
}

/// A suite without its parameters.
fn head(suite: &str) -> &str {
    suite.split([':', '[']).next().unwrap_or(suite)
}

fn join(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// A path as a word for the shell.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use codecs as _;

    use super::*;

    #[test]
    fn codecs_are_suggested_by_their_last_part_a_preset_or_a_typing_error() {
        let registry = Registry::linked().unwrap();
        for (name, expected) in [
            ("q4_k", &["quant.q4_k"][..]),
            ("Q4_K", &["quant.q4_k"]),
            ("q4k", &["quant.q4_k"]),
            ("quant.itn", &["quant.int"]),
            ("lossless.rwa", &["lossless.raw"]),
            ("quant.nonesuch", &[]),
            ("", &[]),
        ] {
            assert_eq!(codecs(name, &registry), expected, "{name}");
        }
        let presets = codecs("int4", &registry);
        assert!(presets.len() <= MOST && presets[0] == "quant.int:preset=int4", "{presets:?}");
        assert!(presets.iter().all(|spec| registry.parse_spec(spec).is_ok()), "{presets:?}");
    }

    #[test]
    fn suites_are_suggested_with_their_parameters() {
        for (name, expected) in [
            ("gausian", &["gaussian"][..]),
            ("gausian:64x64:bf16", &["gaussian:64x64:bf16"]),
            ("layers", &["seed002/layers"]),
            ("seed2/layers", &["seed002/layers"]),
            ("delta/gausian", &["delta/gaussian:r=0.001"]),
            ("nonesuch", &[]),
            ("", &[]),
        ] {
            assert_eq!(suites(name), expected, "{name}");
        }
        assert!(is_suite("gaussian:64x64") && is_suite("seed002/layers") && is_suite("model:x") && !is_suite("gaus"));
    }

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted("a/b-c.safetensors"), "a/b-c.safetensors");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}
