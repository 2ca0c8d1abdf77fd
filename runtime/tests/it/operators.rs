//! The generic operator keeps law 8 over every codec that has no operator of its own.

use codecs as _;
use laws::Subject;

#[test]
fn every_codec_has_an_operator_within_its_tolerance() {
    let registry = codec_api::Registry::linked().expect("all codecs");
    let packages: std::collections::BTreeSet<_> = registry.entries().map(|entry| entry.origin.0).collect();
    for package in packages {
        let subjects = Subject::of_crate(&registry, package, env!("CARGO_MANIFEST_DIR")).expect("its probes");
        for subject in subjects.iter().filter(|subject| subject.preset != "(probe)") {
            laws::linear_with(subject, &|encoded, cx| runtime::operator(encoded, cx)).expect("a product");
        }
    }
}
