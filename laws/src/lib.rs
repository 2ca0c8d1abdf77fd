//! The laws that every codec must obey, as functions that a test of any codec crate can call.
//!
//! A codec crate checks all laws with two lines in a test:
//!
//! ```ignore
//! use codec_x as _;
//! laws::conformance!();
//! ```
//!
//! Each law checks a [`Subject`], one configuration of one registered codec, and returns the first
//! [`Violation`] it finds. The configurations are the presets and the probes (further
//! configurations, for tests only) of the crate's codecs ([`Subject::of_crate`]). The inputs are
//! fixed: the list of [`nasty`] tensors, and tensors that proptest generates from a fixed seed
//! ([`strategies`]). If a codec encodes only rows of whole blocks, it also gets these tensors with
//! longer rows. The environment variable `PROPTEST_CASES` sets the number of generated tensors.

mod cancel;
mod certificate;
mod chunks;
mod conformance;
mod cost;
mod damage;
mod determinism;
mod docs;
mod encodes;
mod exact;
mod extremes;
mod guard;
mod header;
mod hostile;
mod linear;
mod mutations;
mod nasty;
mod panels;
mod progressive;
mod refusals;
mod rows;
mod sample;
pub mod strategies;
mod subject;
pub mod support;
mod trial;
mod violation;

/// Whether the environment variable `NETWEIGHT_LAWS` is `full`: the long run of the laws.
fn everything() -> bool {
    std::env::var("NETWEIGHT_LAWS").is_ok_and(|laws| laws == "full")
}

pub use certificate::certificate;
pub use conformance::check_crate;
pub use cost::cost;
pub use damage::damage;
pub use determinism::determinism;
pub use docs::docs;
pub use extremes::check_extremes;
pub use guard::catch;
pub use header::header;
pub use heap;
pub use hostile::{MAX_HEAP, SMALL_PAYLOAD, hostile, hostile_within};
pub use linear::{linear, linear_with};
pub use nasty::{ALL_DTYPES, FLOAT_DTYPES, nasty};
pub use panels::panels;
pub use progressive::progressive;
pub use proptest;
pub use refusals::refusals;
pub use rows::rows;
pub use sample::{Activations, Sample};
pub use subject::Subject;
pub use violation::{Law, Violation};

/// Tests of all eleven laws, over the configurations of every codec that the calling crate
/// registers ([`Subject::of_crate`]). Laws 1, 3 and 6 are one test, since they judge the same
/// encodes.
///
/// The macro also installs [`heap::Counting`] as the test's allocator: law 3 compares the scratch
/// memory that a codec states with the measured one.
///
/// The test must name the crate (`use codec_x as _;`), or rustc does not link it.
#[macro_export]
macro_rules! conformance {
    () => {
        #[global_allocator]
        static HEAP: $crate::heap::Counting = $crate::heap::Counting;

        $crate::conformance! {
            laws_1_3_6_certificate_cost_refusals [Certificate, Cost, Refusals]
            law_2_determinism [Determinism]
            law_4_hostile [Hostile]
            law_5_header [Header]
            law_7_progressive [Progressive]
            law_8_linear [Linear]
            law_9_docs [Docs]
            law_10_rows [Rows]
            law_11_panels [Panels]
        }
    };
    ($($test:ident [$($law:ident),+])+) => {$(
        #[test]
        fn $test() {
            let laws = [$($crate::Law::$law),+];
            $crate::check_crate(&laws, env!("CARGO_PKG_NAME"), env!("CARGO_MANIFEST_DIR"));
        }
    )+};
}
