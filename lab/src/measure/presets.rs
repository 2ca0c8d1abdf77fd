//! The presets of all codecs.

use std::collections::BTreeSet;

use codec_api::Registry;

/// Every preset of every codec as `id:preset=name`, each configuration once.
pub fn presets(registry: &Registry) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let distinct = registry.presets().filter(|(.., codec)| seen.insert(registry.spec_of(&**codec)));
    distinct.map(|(entry, name, _)| format!("{}:preset={name}", entry.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_is_listed_once() {
        let registry = Registry::linked().unwrap();
        let presets = presets(&registry);
        let spec = |preset: &String| registry.spec_of(&*registry.parse_spec(preset).unwrap());
        let specs: BTreeSet<_> = presets.iter().map(spec).collect();
        assert_eq!(specs.len(), presets.len());
        assert!(presets.contains(&"seedlm:preset=4bit".to_owned()));
    }
}
