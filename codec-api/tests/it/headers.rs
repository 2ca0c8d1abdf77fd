//! Invalid codec texts and invalid encoded files are refused with a message that names the fault.

use crate::sign::{entry, registry, wrap};
use codec_api::{Bytes, DecodeCx, EncodeCx, EncodedTensor, Payload, Registry, Section, SpecError, TensorView};

/// The error message for a JSON header.
fn refusal(json: &str) -> String {
    registry().parse_header(json).expect_err(json).to_string()
}

#[test]
fn unknown_field_is_named_with_the_known_ones() {
    let error = refusal(r#"{"codec":"test.sign","version":1,"exponnt":3}"#);
    assert!(error.contains("`exponnt`") && error.contains("`exponent`"), "{error}");
}

#[test]
fn newer_version_says_to_update() {
    let error = refusal(r#"{"codec":"test.sign","version":2}"#);
    assert!(error.contains("format version 2 is newer than 1") && error.contains("update netweight"), "{error}");
}

#[test]
fn missing_version_is_refused() {
    let error = refusal(r#"{"codec":"test.sign","exponent":3}"#);
    assert_eq!(error, "codec `test.sign`: the header has no `version`");
}

#[test]
fn a_header_states_every_key() {
    assert_eq!(refusal(r#"{"codec":"test.sign","version":1}"#), "codec `test.sign`: the header has no `exponent`");
}

#[test]
fn value_out_of_range_names_field_and_range() {
    for value in ["16", "-1", "4000000000"] {
        let error = refusal(&format!(r#"{{"codec":"test.sign","version":1,"exponent":{value}}}"#));
        let wanted = format!("codec `test.sign`: exponent: {value} is out of range: an integer from 0 to 15 is wanted");
        assert_eq!(error, wanted);
    }
}

#[test]
fn unknown_codec_lists_the_known_ones() {
    let error = refusal(r#"{"codec":"test.sing","version":1}"#);
    assert_eq!(error, "unknown codec `test.sing`; the linked codecs are: test.sign, test.wrap");
}

#[test]
fn thousand_nested_codecs_are_refused_before_they_are_parsed() {
    let header = r#"{"codec":"test.wrap","version":1,"inner":"#.repeat(1000) + "1" + &"}".repeat(1000);
    let spec = "test.wrap(".repeat(1000) + "test.sign" + &")".repeat(1000);
    let arrays = format!(r#"{{"codec":"test.sign","version":1,"exponent":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    for answer in [registry().parse_header(&header), registry().parse_spec(&spec), registry().parse_header(&arrays)] {
        assert!(matches!(answer, Err(SpecError::TooDeep)), "{answer:?}");
    }
    assert_eq!(SpecError::TooDeep.to_string(), "codecs are nested more than 8 deep");
}

#[test]
fn eight_nested_codecs_are_fine() {
    let spec = "test.wrap(".repeat(7) + "test.sign:exponent=3" + &")".repeat(7);
    let codec = registry().parse_spec(&spec).expect("seven around one");
    assert_eq!(registry().spec_of(&*codec), spec);
}

/// An encoded tensor of six weights, as a file.
fn encoded() -> EncodedTensor {
    let weights = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0];
    let tensor = TensorView::from_f32([2, 3], &weights).expect("six weights");
    let codec = registry().parse_spec("test.wrap(test.sign)").expect("a codec");
    EncodedTensor::encode(codec, tensor, &EncodeCx::new(0)).expect("a payload")
}

#[test]
fn every_truncation_of_a_file_is_refused() {
    let file = Bytes::from(encoded().to_bytes().expect("a file"));
    let whole = EncodedTensor::from_bytes(&file, &registry()).expect("what was written");
    assert_eq!(whole.decode(&DecodeCx::new()).expect("weights"), [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
    for n in 0..file.len() {
        let error = EncodedTensor::from_bytes(&file.slice(..n), &registry()).expect_err("cut off").to_string();
        assert!(error.starts_with("not a readable safetensors file"), "{n} bytes: {error}");
    }
}

#[test]
fn truncated_section_is_corrupt_by_its_sizes() {
    let mut encoded = encoded();
    let signs = encoded.payload.sections()["signs"].clone();
    let cut = Section::new(signs.spec().dtype(), [5], signs.data().slice(..5)).expect("five signs");
    encoded.payload = Payload::new().with("signs", cut).expect("one section");
    let error = encoded.decode(&DecodeCx::new()).expect_err("five signs for six weights").to_string();
    assert_eq!(error, "section `*` is corrupt: 5 bytes in total; expected 6 to 6 for a F32 [2, 3] tensor");
    let mut out = [0.0; 6];
    let answer = encoded.codec.decode(&encoded.spec, encoded.payload.view(), &DecodeCx::new(), &mut out);
    let error = answer.expect_err("five signs for six weights").to_string();
    assert_eq!(error, "section `signs` is corrupt: it is I8 [5], expected I8 [6]");
}

/// The error message for a spec text.
fn spec_refusal(spec: &str) -> String {
    registry().parse_spec(spec).expect_err(spec).to_string()
}

#[test]
fn wrong_keys_and_types_of_a_spec_are_named() {
    let wanted = [
        ("test.sign:codec=test.wrap", "codec `test.sign`: `codec` is no key: the id stands before the first `:`"),
        ("test.sign:exponent=1:exponent=2", "codec `test.sign`: `exponent` is given twice"),
        (
            "test.sign:exponent=2.5",
            "codec `test.sign`: exponent: invalid type: floating point `2.5`, expected an integer from 0 to 15",
        ),
        (
            "test.sign:exponent=no",
            "codec `test.sign`: exponent: invalid type: string \"no\", expected an integer from 0 to 15",
        ),
        (
            "test.wrap(test.sign:exponent=16)",
            "codec `test.sign`: exponent: 16 is out of range: an integer from 0 to 15 is wanted",
        ),
        ("test.sign(test.sign)", "codec `test.sign`: takes no codec in parentheses"),
        ("test.wrap", "codec `test.wrap`: takes 1 in parentheses: test.wrap(inner)"),
        (
            "test.sign:exponent",
            "cannot read codec spec `test.sign:exponent`: at character 18: `exponent` wants a value: `exponent=…`",
        ),
    ];
    for (spec, message) in wanted {
        assert_eq!(spec_refusal(spec), message);
    }
}

#[test]
fn children_left_out_are_the_default_ones() {
    let registry = |specs| Registry::from_entries([entry(), wrap().default_children(specs)]).expect("two codecs");
    let codec = registry(&["test.sign:exponent=3"]).parse_spec("test.wrap").expect("a default child");
    assert_eq!(registry(&[]).spec_of(&*codec), "test.wrap(test.sign:exponent=3)");
    let around = registry(&["test.wrap"]).parse_spec("test.wrap");
    assert!(matches!(around, Err(SpecError::TooDeep)), "{around:?}");
    let error = registry(&["test.other"]).parse_spec("test.wrap").expect_err("no such codec").to_string();
    assert_eq!(error, "unknown codec `test.other`; the linked codecs are: test.sign, test.wrap");
}

#[test]
fn nested_codecs_state_their_version_too() {
    let error = refusal(r#"{"codec":"test.wrap","version":1,"inner":{"codec":"test.sign"}}"#);
    assert_eq!(error, "codec `test.sign`: the header has no `version`");
    let error = refusal(r#"{"codec":"test.wrap","version":1,"inner":{"codec":"test.other","version":1}}"#);
    assert_eq!(error, "unknown codec `test.other`; the linked codecs are: test.sign, test.wrap");
}

#[test]
fn a_certificate_that_means_nothing_is_neither_written_nor_read() {
    let encoded = EncodedTensor::encode(
        registry().parse_spec("test.sign").expect("a spec"),
        TensorView::from_f32([2], &[1.0, -1.0]).expect("two values"),
        &EncodeCx::new(0),
    );
    let mut encoded = encoded.expect("it encodes");
    let file = encoded.to_bytes().expect("a file");
    for bad in [f64::INFINITY, f64::NAN, -1.0] {
        encoded.certificate.max_abs = bad;
        let error = encoded.to_bytes().expect_err("no such error").to_string();
        assert!(error.contains("is not a valid certificate"), "{error}");
    }
    let mut file = file;
    let text = br#"max_abs\":0.0"#;
    let at = file.windows(text.len()).position(|window| window == text).expect("the largest error");
    file[at + text.len() - 3..at + text.len()].copy_from_slice(b"-10");
    let error = EncodedTensor::from_bytes(&file.into(), &registry()).expect_err("no such error");
    assert!(error.to_string().contains("is not a valid certificate"), "{error}");
}
