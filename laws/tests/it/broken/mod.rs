//! Codecs with one fault each, for the laws to find.

pub mod exact;
pub mod headers;
pub mod lossy;
mod opened;
pub mod scaled;

use std::sync::Arc;

use codec_api::{Codec, CodecEntry, Preset, Registry, Upgrade};
use laws::{Law, Subject};

/// A subject with this codec, the only one of its registry; `presets` are the presets of that
/// registry.
pub fn subject(codec: impl Codec + 'static, presets: fn() -> Vec<Preset>) -> Subject {
    upgraded(codec, presets, &[])
}

/// The same, with upgrades.
pub fn upgraded(codec: impl Codec + 'static, presets: fn() -> Vec<Preset>, upgrades: &'static [Upgrade]) -> Subject {
    let entry = CodecEntry::new(codec.typetag_name(), "has a fault", ("broken", "0.1.0"), presets).upgrades(upgrades);
    let registry = Registry::from_entries([entry]).expect("one codec");
    let subjects = Subject::of_crate(&registry, "broken", env!("CARGO_MANIFEST_DIR"));
    let mut subject = subjects.expect("no probe").remove(0);
    subject.codec = Arc::new(codec);
    subject
}

/// Checks that the law finds the fault and that the message contains `reason`.
#[track_caller]
pub fn assert_caught(law: Law, subject: &Subject, reason: &str) {
    let violation = law.check(subject).expect_err(reason);
    let text = violation.to_string();
    assert_eq!(violation.law, law, "{text}");
    assert!(text.contains(reason), "{text}\ndoes not say: {reason}");
    assert!(text.contains(subject.entry.id) && text.contains(subject.preset), "{text}");
}
