//! A registry refuses ambiguous or incomplete entries, and the message says what to do.

use crate::sign::{Sign, entry, presets};
use codec_api::{CodecEntry, Preset, Registry, RegistryError, Upgrade};

#[test]
fn empty_registry_names_the_missing_line() {
    let error = Registry::from_entries([]).expect_err("no codec");
    assert!(matches!(error, RegistryError::Empty));
    assert!(error.to_string().contains("use codecs as _;"), "{error}");
}

#[test]
fn an_id_registered_twice_names_both_crates() {
    let other = CodecEntry::new("test.sign", "another", ("codec-b", "2.0.0"), presets);
    for entries in [[entry(), other], [other, entry()]] {
        let error = Registry::from_entries(entries).expect_err("one id, two crates").to_string();
        assert_eq!(error, "codec id `test.sign` is registered twice: by codec-a 1.0.0 and by codec-b 2.0.0");
    }
}

#[test]
fn a_tag_that_is_not_the_id_is_named() {
    let other = CodecEntry::new("test.signs", "one letter more", ("codec-a", "1.0.0"), presets);
    let error = Registry::from_entries([other]).expect_err("another tag").to_string();
    assert!(error.contains("codec `test.signs` of codec-a"), "{error}");
    assert!(error.contains("preset `default` serialises as `test.sign`"), "{error}");
}

#[test]
fn presets_of_one_name_are_refused() {
    fn twins() -> Vec<Preset> {
        vec![Preset::new("same", Sign::default()), Preset::new("same", Sign::default())]
    }
    let twice = CodecEntry::new("test.sign", "…", ("codec-a", "1.0.0"), twins);
    let error = Registry::from_entries([twice]).expect_err("two presets of one name").to_string();
    assert_eq!(error, "codec `test.sign` of codec-a: two presets are named `same`");
}

#[test]
fn a_codec_without_presets_is_refused() {
    let none = CodecEntry::new("test.sign", "…", ("codec-a", "1.0.0"), Vec::new);
    let error = Registry::from_entries([none]).expect_err("no preset").to_string();
    assert!(error.contains("codec `test.sign` of codec-a: it has no preset"), "{error}");
    // A combinator may have no preset left, because none of its children is linked.
    let wrap = CodecEntry::new("test.wrap", "…", ("codec-a", "1.0.0"), Vec::new).children(&["inner"]);
    assert!(Registry::from_entries([wrap]).is_ok());
}

#[test]
fn presets_from_specs_need_their_children_linked_and_right() {
    fn presets() -> Vec<Preset> {
        vec![
            Preset::from_spec("other", "test.wrap(test.not_linked)"),
            Preset::from_spec("sign", "test.wrap(test.sign:exponent=2)"),
        ]
    }
    let wrap = |presets| CodecEntry::new("test.wrap", "…", ("codec-a", "1.0.0"), presets).children(&["inner"]);
    let registry = Registry::from_entries([entry(), wrap(presets)]).expect("two codecs");
    let names: Vec<_> = registry.presets_of("test.wrap").iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["sign"]);
    let wrong = || vec![Preset::from_spec("wrong", "test.wrap(test.sign:exponent=16)")];
    let error = Registry::from_entries([entry(), wrap(wrong)]).expect_err("a wrong spec").to_string();
    assert!(
        error.starts_with("codec `test.wrap` of codec-a: preset `wrong`: codec `test.sign`: exponent: 16"),
        "{error}"
    );
}

#[test]
fn versions_and_upgrades_must_agree() {
    const UPGRADES: &[Upgrade] = &[Upgrade::new(r#"{"codec":"test.sign","version":1}"#, |_| Ok(()))];
    let error = Registry::from_entries([entry().upgrades(UPGRADES)]).expect_err("version 1").to_string();
    assert!(error.contains("preset `default` has version 1") && error.contains("`FormatVersion<2>`"), "{error}");
}
