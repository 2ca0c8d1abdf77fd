//! A file of each version of a format is read, and its header becomes one of the newest version.
//! `golden/steps.v1` and `v2` were written by hand from the documentation of `test.steps`.

use codec_api::{Bytes, DecodeCx, EncodedTensor, Registry, header};

const V1: &[u8] = include_bytes!("../golden/steps.v1.safetensors");
const V2: &[u8] = include_bytes!("../golden/steps.v2.safetensors");

fn read(file: &'static [u8]) -> EncodedTensor {
    let registry = Registry::linked().expect("the codecs of these tests");
    EncodedTensor::from_bytes(&Bytes::from_static(file), &registry).expect("a golden file")
}

#[test]
fn golden_files_of_both_versions_decode_to_the_same() {
    for (file, codes) in [(V1, "shifted"), (V2, "signed")] {
        let encoded = read(file);
        assert_eq!(encoded.decode(&DecodeCx::new()).expect("values"), [63.5, -63.5, 0.0, 0.5, -1.0, 12.5]);
        let newest = format!(r#"{{"codec":"test.steps","version":2,"codes":"{codes}"}}"#);
        assert_eq!(header(&*encoded.codec).expect("a header"), newest);
        let again = encoded.to_bytes().expect("a file");
        let registry = Registry::linked().expect("the codecs of these tests");
        let again = EncodedTensor::from_bytes(&again.into(), &registry).expect("a file of the newest version");
        assert_eq!(again.payload, encoded.payload);
        assert_eq!(again.certificate, encoded.certificate);
    }
}

#[test]
fn nested_headers_are_upgraded_too() {
    let registry = Registry::linked().expect("the codecs of these tests");
    let nest = |inner: &str| format!(r#"{{"codec":"test.negate","version":1,"inner":{inner}}}"#);
    let codec = registry.parse_header(&nest(&nest(r#"{"codec":"test.steps","version":1}"#))).expect("a codec");
    let newest = nest(&nest(r#"{"codec":"test.steps","version":2,"codes":"shifted"}"#));
    assert_eq!(header(&*codec).expect("a header"), newest);
}

#[test]
fn versions_that_never_were_are_refused() {
    let registry = Registry::linked().expect("the codecs of these tests");
    for version in ["0", "3", "4294967296", "-1", "1.5", "\"1\"", "null", "[]"] {
        let text = format!(r#"{{"codec":"test.steps","version":{version},"codes":"signed"}}"#);
        let error = registry.parse_header(&text).expect_err(version).to_string();
        assert!(error.contains("version"), "{version}: {error}");
    }
    // Version 1 has no `codes`.
    let error = registry.parse_header(r#"{"codec":"test.steps","version":1,"code":"signed"}"#).expect_err("unknown");
    assert!(error.to_string().contains("`code`"), "{error}");
}
