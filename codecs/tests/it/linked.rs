//! The codec crates that the umbrella links, and the tensors that their codecs support.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use codec_api::Registry;
use codecs as _;

#[test]
fn every_codec_crate_of_the_tree_is_linked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let registry = Registry::linked().unwrap();
    let linked: BTreeSet<_> = registry.entries().map(|entry| entry.origin.0).collect();
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("codec-") && name != "codec-api" {
            let package = format!("netweight-{name}");
            assert!(
                linked.contains(package.as_str()),
                "{name} is in the tree but registers nothing: name it in codecs/src/lib.rs and codecs/Cargo.toml"
            );
        }
    }
}

#[test]
fn support_by_dtype_and_rank() {
    let registry = Registry::linked().unwrap();
    // Only codecs with a stable format, as for golden files, so that experiments do not change the
    // snapshot.
    let ours = registry.entries().filter(|e| e.origin.0.starts_with("netweight-codec-") && !e.experimental);
    let table = laws::support::table(&Registry::from_entries(ours.copied()).unwrap());
    insta::assert_snapshot!(table);
}
