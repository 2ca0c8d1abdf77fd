//! Each law finds the faults that it is meant for; a law without findings would accept every codec.

use std::fs;
use std::time::Duration;

use crate::broken::headers::{
    self, Clamps, Divides, Drifts, FORGETS_KEY, Forgets, Mumbles, NO_EXAMPLE, SOUND, Second, TakesUnknown,
    TakesVersions,
};
use crate::broken::lossy::{Fault, Lossy, presets};
use crate::broken::{assert_caught, exact, scaled, subject, upgraded};
use laws::{Law, Subject};

fn lossy(fault: Fault) -> Subject {
    subject(Lossy::with(fault), presets)
}

/// The law finds each fault, and the message contains the reason.
fn finds(law: Law, faults: &[(Fault, &str)]) {
    for (fault, reason) in faults {
        assert_caught(law, &lossy(*fault), reason);
    }
}

#[test]
fn without_a_fault_they_keep_the_laws() {
    let second = upgraded(Second::default(), headers::second, &[SOUND]);
    let sound = [
        lossy(Fault::None),
        subject(exact::Exact::default(), exact::presets),
        second,
        subject(scaled::Scaled::default(), scaled::presets),
    ];
    for law in Law::ALL.into_iter().filter(|law| *law != Law::Docs) {
        for subject in &sound {
            law.check(subject).expect("a sound codec");
        }
    }
}

#[test]
fn certificate_law_finds_lossy_faults() {
    finds(
        Law::Certificate,
        &[
            (Fault::SmallerError, "the errors of the decoded tensor"),
            (Fault::LargerError, "the errors of the decoded tensor"),
            (Fault::WrongSquares, "the errors of the decoded tensor"),
            (Fault::WrongEnergy, "the errors of the decoded tensor"),
            (Fault::ForgetsRounding, "F16 [16, 64]"),
            (Fault::FalseExact, "exact if and only if the codec is lossless"),
            (Fault::AcceptsAll, "refuses it as unsupported"),
            (Fault::AcceptsNothing, "it refuses them all"),
        ],
    );
}

#[test]
fn certificate_law_finds_exact_faults() {
    for (fault, reason) in [
        (exact::Fault::NoChecksum, "was flipped"),
        (exact::Fault::OneNan, "every bit comes back"),
        (exact::Fault::NoNegativeZero, "every bit comes back"),
        (exact::Fault::FloatsOnly, "a lossless codec encodes every dtype"),
        (exact::Fault::DecodesIntegers, "f32 for F32, F16 and BF16 only"),
        (exact::Fault::NotExact, "a lossless codec is exact"),
    ] {
        assert_caught(Law::Certificate, &subject(exact::Exact::with(fault), exact::presets), reason);
    }
}

#[test]
fn certificate_law_lets_exact_codecs_be_for_some_dtypes_alone() {
    use codec_api::Dtype;
    let only = |fault, dtypes| {
        let mut subject = subject(exact::Exact::with(fault), exact::presets);
        subject.entry = subject.entry.only(dtypes);
        subject
    };
    let floats = &[Dtype::F32, Dtype::F16, Dtype::BF16];
    laws::certificate(&only(exact::Fault::FloatsOnly, floats)).expect("what it is registered for");
    laws::refusals(&only(exact::Fault::FloatsOnly, floats)).expect("what it is registered for");
    let (more, fewer) = (&[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I16], &[Dtype::BF16]);
    assert_caught(Law::Certificate, &only(exact::Fault::FloatsOnly, more), "a lossless codec encodes every dtype");
    assert_caught(Law::Certificate, &only(exact::Fault::FloatsOnly, fewer), "it is accepted");
}

#[test]
fn determinism_law_finds_its_faults() {
    finds(
        Law::Determinism,
        &[
            (Fault::Counts, "the same payload always"),
            (Fault::EncodesByThreads, "other chunk payloads with 2 threads"),
            (Fault::EncodesByAddress, "with the tensor at an odd address"),
            (Fault::DecodesByAddress, "with sections at odd addresses"),
        ],
    );
    // Only a CPU with more than one level shows a difference between levels.
    if simd::Level::detected() > simd::Level::Scalar {
        finds(
            Law::Determinism,
            &[
                (Fault::EncodesByLevel, "other payload at SIMD level"),
                (Fault::DecodesByLevel, "other decoded values at SIMD level"),
                (Fault::TailsByLevel, "[3, 77]: other payload at SIMD level"),
                (Fault::FlushesByLevel, "1e-40` F32 [3, 77]: other payload at SIMD level"),
            ],
        );
    }
}

#[test]
fn cost_law_finds_its_faults() {
    finds(
        Law::Cost,
        &[
            (Fault::WrongCost, "as `cost` says"),
            (Fault::WideCost, "1.25 times the dense size"),
            (Fault::ForgetsScratch, "bytes of scratch memory are held; wanted: at most 16384"),
            (Fault::BoastsScratch, "`cost` says 1073741824 bytes of scratch memory"),
            (Fault::ExpectsLess, "`cost` expects a relative error of 1e-6, and it is"),
            (Fault::FixedWork, "2 to 32 times as many"),
        ],
    );
}

#[test]
fn hostile_law_finds_its_faults() {
    finds(
        Law::Hostile,
        &[
            (Fault::TrustsSections, "panicked: index out of bounds"),
            (Fault::AllocatesFirst, "bytes of heap for a payload of"),
            (Fault::CostsNothing, "a lower end of the cost that grows with the tensor"),
            (Fault::LevelsCostNothing, "bytes that grow with the tensor, from the first level on"),
            (Fault::NoLevels, "there is no level; wanted: at least one"),
        ],
    );
}

#[test]
fn hostile_law_finds_hangs() {
    let violation = laws::hostile_within(&lossy(Fault::Hangs), Duration::from_secs(1)).expect_err("it hangs");
    let text = violation.to_string();
    assert!(text.contains("section `high` filled with 0x7f") && text.contains("no answer after 1 s"), "{text}");
}

#[test]
fn header_law_finds_its_faults() {
    let clamps = subject(Clamps::default(), headers::clamps);
    for (subject, reason) in [
        (subject(TakesUnknown::default(), headers::takes_unknown), "an unknown field: it is read"),
        (subject(TakesVersions::default(), headers::takes_versions), "version 2: it is read"),
        (clamps, "field `group` = 4000000000: it is read, and written as 64"),
        (subject(Divides::default(), headers::divides), "field `group` = 0: panicked"),
        (subject(Forgets::eight(), headers::forgets), "the header has no `group`; wanted: it reads back"),
        (subject(Drifts::default(), headers::drifts), r#""group":6"#),
        (subject(Mumbles::default(), headers::mumbles), "a message that names `group`"),
        (upgraded(Second::default(), headers::second, &[FORGETS_KEY]), "the header has no `group`; wanted: it is read"),
        (upgraded(Second::default(), headers::second, &[NO_EXAMPLE]), "a header with this id and version"),
    ] {
        assert_caught(Law::Header, &subject, reason);
    }
}

#[test]
fn refusals_law_finds_its_faults() {
    finds(
        Law::Refusals,
        &[
            (Fault::FailsOnZeros, "the scale is zero"),
            (Fault::FailsOnZerosInBlocks, "the scale is zero"),
            (Fault::RefusesSilently, "`Unsuitable` with reason and number"),
            (Fault::RefusesLate, "`accepts` takes it"),
            (Fault::KeepsNan, "wanted: `NonFinite` with index 0"),
            (Fault::WrongIndex, "`NonFinite` with index"),
            (Fault::PanicsOnEmpty, "no maximum of nothing"),
            (Fault::ForgetsCalibration, "without its calibration: it is encoded"),
            (Fault::IgnoresCancel, "cancelled before it begins, it encodes all the same"),
            (Fault::TicksTwice, "its progress adds up to 2048 weights; wanted: 1024"),
        ],
    );
    for (fault, reason) in [
        (exact::Fault::RefusesInfinity, "an exact codec keeps NaN and infinities"),
        (exact::Fault::IgnoresBase, "without its base tensor: it is encoded"),
    ] {
        assert_caught(Law::Refusals, &subject(exact::Exact::with(fault), exact::presets), reason);
    }
}

#[test]
fn progressive_law_finds_its_faults() {
    finds(
        Law::Progressive,
        &[
            (Fault::GetsWorse, "an error that does not rise"),
            (Fault::NamesTwice, "each section once"),
            (Fault::NeedsAll, "it decodes without the later sections"),
        ],
    );
}

#[test]
fn linear_law_finds_its_faults() {
    finds(
        Law::Linear,
        &[
            (Fault::WrongProduct, "Forward in 1 parts, vector 0 of a batch of 1: output 0"),
            (Fault::WrongTransposed, "Transposed in 1 parts"),
            (Fault::Overwrites, "Transposed in 3 parts"),
            (Fault::IgnoresRange, "Forward in 3 parts"),
            (Fault::AddsByThread, "several threads give other bits"),
            (Fault::RoundsByRange, "divided into ranges"),
            (Fault::ClipsOutliers, "of a batch of 17"),
            (Fault::KeepsDense, "24576 resident bytes"),
            (Fault::TakesAnyLength, "are taken by 64 x 96"),
            (Fault::PromisesNothing, "a tolerance from 0 to 0.01"),
        ],
    );
}

#[test]
fn rows_law_finds_its_faults() {
    finds(
        Law::Rows,
        &[
            (Fault::WrongRows, "as in the whole tensor"),
            (Fault::WrongShape, "a reader of (96, 64)"),
            (Fault::Allocates, "a read allocates"),
            (Fault::ReadsByThread, "as in the whole tensor"),
            (Fault::TakesAnyRows, "rows 65..65 of 64 x 96 are read"),
        ],
    );
}

#[test]
fn determinism_law_finds_statistics_that_depend_on_the_cuts() {
    for (fault, reason) in [
        (scaled::Fault::CutsNothing, "chunks that share statistics"),
        (scaled::Fault::IgnoresShared, "3 chunks decode to other values"),
        (scaled::Fault::CountsChunks, "3 chunks give other statistics"),
    ] {
        assert_caught(Law::Determinism, &subject(scaled::Scaled::with(fault), scaled::presets), reason);
    }
}

#[test]
fn panels_law_finds_its_faults() {
    for (fault, reason) in [
        (scaled::Fault::OtherScale, "without feedback it differs: codes"),
        (scaled::Fault::ReturnsTargets, "without feedback value 0 was returned"),
        (scaled::Fault::AnyOrder, "rows out of order is taken"),
        (scaled::Fault::OneOrder, "columns after each other are wanted"),
        (scaled::Fault::DependsOnOrder, "columns of blocks after each other give another payload"),
        (scaled::Fault::EndsEarly, "the end before the last block is taken"),
        (scaled::Fault::CutsNoTensor, "panels of some tensor"),
    ] {
        assert_caught(Law::Panels, &subject(scaled::Scaled::with(fault), scaled::presets), reason);
    }
}

const DOCS: &str = r#"//! Keeps the upper half.
//!
//! # Source
//! None.
//!
//! # Sections
//! Some.
//!
//! # Header
//! ```
//! let json = r"{"codec":"broken.lossy"}";
//! # assert!(true);
//! ```
//!
//! # Bound
//! Measured.
//!
//! # Cost
//! Little.
//!
//! # Limits
//! None.
#[typetag::serde(name = "broken.lossy")]
impl Codec for Lossy {}
"#;

#[test]
fn docs_law_finds_what_is_not_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("src")).expect("a folder");
    let mut subject = lossy(Fault::None);
    subject.manifest_dir = folder.path().to_owned();
    let file = folder.path().join("src/lossy.rs");
    let caught = |text: String, reason: &str| {
        fs::write(&file, text).expect("a file");
        assert_caught(Law::Docs, &subject, reason);
    };
    caught(String::new(), "no source file defines the codec");
    caught(DOCS.replace("//! Keeps the upper half.\n", ""), "no `//!` paragraph at the top");
    for heading in ["Source", "Sections", "Header", "Bound", "Cost", "Limits"] {
        let reason = format!("no section `# {heading}`");
        caught(DOCS.replace(&format!("//! # {heading}\n"), ""), &reason);
    }
    caught(DOCS.replace("//! Measured.\n", ""), "no section `# Bound`, or an empty one");
    caught(DOCS.replace("//! ```\n//! let", "//! ```json\n//! let"), "`# Header` has no doctest with the id");
    caught(DOCS.replacen("broken.lossy", "broken.other", 1), "`# Header` has no doctest with the id");
    fs::write(&file, DOCS).expect("a file");
    laws::docs(&subject).expect("documented in full");
}

#[test]
fn support_table_shows_failures() {
    fn presets() -> Vec<codec_api::Preset> {
        vec![codec_api::Preset::new("false", Lossy::with(Fault::SmallerError))]
    }
    let table = laws::support::table(&subject(Lossy::with(Fault::SmallerError), presets).registry);
    assert!(table.contains("  FAIL FAIL FAIL FAIL FAIL  F16 F32\n"), "{table}");
}
