//! The laws that every codec keeps, as functions that a test of any codec crate can call.
//!
//! A codec crate gets all of them with two lines in `tests/conformance.rs`:
//!
//! ```ignore
//! use codec_x as _;
//! harness::conformance!();
//! ```
//!
//! Each law takes a [`Subject`], one preset of one registered codec, and returns the first [`Violation`] it finds.
//! Inputs are fixed: the list of [`nasty`] tensors, and property-generated ones from a fixed seed; a codec that takes only
//! rows of whole blocks also gets them with longer rows. The environment
//! variable `PROPTEST_CASES` sets how many of the latter there are.

mod bound;
mod cancel;
mod conformance;
mod cost;
mod determinism;
mod docs;
mod exact;
mod guard;
mod header;
mod hostile;
mod linear;
mod mutations;
mod nasty;
mod progressive;
mod refusals;
mod sample;
mod subject;
mod trial;
mod violation;

pub use bound::bound;
pub use conformance::check_crate;
pub use cost::cost;
pub use determinism::determinism;
pub use docs::docs;
pub use header::header;
pub use hostile::{hostile, hostile_within};
pub use linear::linear;
pub use nasty::{ALL_DTYPES, FLOAT_DTYPES, nasty};
pub use progressive::progressive;
pub use refusals::refusals;
pub use sample::{Activations, Sample};
pub use subject::Subject;
pub use violation::{Law, Violation};

/// Nine tests, one for each law, over every preset of every codec that the calling crate registers.
///
/// The crate must be linked into the test by name (`use codec_x as _;`), or rustc leaves it out.
#[macro_export]
macro_rules! conformance {
    () => {
        $crate::conformance! {
            law_1_bound Bound
            law_2_determinism Determinism
            law_3_cost Cost
            law_4_hostile Hostile
            law_5_header Header
            law_6_refusals Refusals
            law_7_progressive Progressive
            law_8_linear Linear
            law_9_docs Docs
        }
    };
    ($($test:ident $law:ident)+) => {$(
        #[test]
        fn $test() {
            $crate::laws::check_crate($crate::laws::Law::$law, env!("CARGO_PKG_NAME"), env!("CARGO_MANIFEST_DIR"));
        }
    )+};
}
