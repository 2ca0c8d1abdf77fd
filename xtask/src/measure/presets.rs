//! What `netweight list` knows.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::tree::Tree;

#[derive(Deserialize)]
struct Listed {
    id: String,
    presets: Vec<Preset>,
}

#[derive(Deserialize)]
struct Preset {
    name: String,
    /// The codec with all its keys.
    codec: String,
}

/// Every preset of every codec as `id:preset=name`, each configuration once.
///
/// # Errors
/// If the program cannot be built.
pub fn presets(tree: &Tree) -> Result<Vec<String>> {
    let mut command = tree.cargo("run");
    command.args(["--release", "--package", "netweight-cli", "--", "list", "--json"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`netweight list` failed");
    specs(&output.stdout)
}

fn specs(json: &[u8]) -> Result<Vec<String>> {
    let codecs: Vec<Listed> = serde_json::from_slice(json).context("`netweight list --json`")?;
    let all = codecs.iter().flat_map(|codec| codec.presets.iter().map(move |preset| (&codec.id, preset)));
    let mut seen = BTreeSet::new();
    let distinct = all.filter(|(_, preset)| seen.insert(preset.codec.as_str()));
    Ok(distinct.map(|(id, preset)| format!("{id}:preset={}", preset.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_under_two_names_is_listed_once() {
        let json = br#"[{"id":"a","summary":"","presets":[{"name":"x","codec":"a:k=1"},{"name":"y","codec":"a:k=1"}]},
            {"id":"b(c)","presets":[{"name":"z","codec":"b(c)"}]}]"#;
        assert_eq!(specs(json).unwrap(), ["a:preset=x", "b(c):preset=z"]);
    }
}
