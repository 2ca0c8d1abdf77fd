//! What [`crate::conformance!`] runs.

use codec_api::Registry;

use super::{Law, Subject};

/// Checks one law over every preset of every codec that the crate named `package` registers.
///
/// # Panics
/// With all violations, or if `package` registers no codec: this is the body of a test.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn check_crate(law: Law, package: &str, manifest_dir: &str) {
    let registry = match Registry::linked() {
        Ok(registry) => registry,
        Err(e) => panic!("{e}"),
    };
    let subjects = Subject::of_crate(&registry, package, manifest_dir);
    assert!(
        !subjects.is_empty(),
        "crate `{package}` registers no codec in this program: is its line `use … as _;` missing in the test?"
    );
    let violations: Vec<_> = subjects.iter().filter_map(|subject| law.check(subject).err()).collect();
    if !violations.is_empty() {
        let lines: Vec<_> = violations.iter().map(|v| format!("\n  {v}")).collect();
        panic!("{} of {} presets break the law:{}", violations.len(), subjects.len(), lines.concat());
    }
}
