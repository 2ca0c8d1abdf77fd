//! Single files that are refused: each message names the file, the tensor and what to do.

use checkpoint::{Checkpoint, Error};

use crate::support::{Dir, assert_says, entry, file, floats, model, open, pair};

/// Opens a damaged file. The message must contain `parts`, the file name and what to do.
#[track_caller]
fn assert_invalid(bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let error = open(bytes).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert_says(&error, &["made.safetensors", "fetch it or write it again"]);
    assert_says(&error, parts);
}

/// A file with these header entries and `length` bytes of data.
fn with_entries(entries: &[String], length: usize) -> Vec<u8> {
    file(&format!("{{{}}}", entries.join(",")), &vec![0; length])
}

#[test]
fn a_path_to_nothing() {
    let error = Checkpoint::open("no/such/model.safetensors").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert_says(&error, &["no/such/model.safetensors", "does not exist", "give a .safetensors file"]);
}

#[cfg(unix)]
#[test]
fn a_device_is_no_file() {
    let error = Checkpoint::open("/dev/null").unwrap_err();
    assert!(matches!(error, Error::NotAFile { .. }));
    assert_says(&error, &["/dev/null", "not a regular file", "give a .safetensors file"]);
}

#[test]
fn files_too_short_for_a_header() {
    assert_invalid([], &["0 bytes are too few"]);
    assert_invalid([0; 7], &["7 bytes are too few"]);
}

#[test]
fn every_truncation_is_refused() {
    let whole = model(&[pair("v", [1.0, 2.0]), pair("w", [3.0, 4.0])]);
    for length in 0..whole.len() {
        assert!(matches!(open(&whole[..length]).unwrap_err(), Error::Invalid { .. }), "{length} bytes");
    }
    assert_invalid(&whole[..whole.len() - 1], &["`w` ends at 16, the file has 15 bytes", "cut off"]);
    assert_invalid(&whole[..whole.len() - 9], &["`v` ends at 8, the file has 7 bytes", "cut off"]);
}

#[test]
fn a_header_length_beyond_the_file() {
    let mut bytes = model(&[pair("w", [1.0, 2.0])]);
    bytes[..8].copy_from_slice(&1_000_000u64.to_le_bytes());
    assert_invalid(&bytes, &["header claims 1000000 bytes"]);
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_invalid(&bytes, &["header claims 18446744073709551615 bytes"]);
}

#[test]
fn a_header_beyond_the_limit_of_the_format() {
    let dir = Dir::new();
    let path = dir.write("made.safetensors", 100_000_001u64.to_le_bytes());
    // A sparse file: it takes no disk space.
    std::fs::File::options().append(true).open(&path).unwrap().set_len(200_000_000).unwrap();
    assert_says(&Checkpoint::open(&path).unwrap_err(), &["made.safetensors", "the format allows 100000000"]);
}

#[test]
fn a_header_that_is_no_text_or_no_json() {
    assert_invalid([&4u64.to_le_bytes()[..], b"{\xff\xfe}"].concat(), &["not UTF-8"]);
    assert_invalid(file("", &[]), &["header: EOF"]);
    assert_invalid(file("{\"w\":", &[]), &["header: EOF"]);
    assert_invalid(file("[]", &[]), &["a JSON object"]);
    assert_invalid(file("{} {}", &[]), &["trailing"]);
    assert_invalid(file(&"[".repeat(100_000), &[]), &["header:"]);
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    assert_invalid(file(&format!("{{\"w\":{open}{close}}}"), &[]), &["header:", "tensor `w`"]);
}

#[test]
fn metadata_other_than_strings() {
    assert_invalid(file(r#"{"__metadata__":{"step":3}}"#, &[]), &["`__metadata__`", "expected a string"]);
    assert_invalid(file(r#"{"__metadata__":{"a":"1","a":"2"}}"#, &[]), &["`__metadata__`", "`a` occurs twice"]);
}

#[test]
fn a_name_that_occurs_twice() {
    // Each entry is valid alone, and both refer to the same bytes: only the name is wrong.
    let twice = [entry("w", "U8", &[4], [0, 4]), entry("w", "I8", &[4], [0, 4])];
    assert_invalid(with_entries(&twice, 4), &["`w` occurs twice"]);
    let behind = [entry("w", "U8", &[4], [0, 4]), entry("w", "U8", &[4], [4, 8])];
    assert_invalid(with_entries(&behind, 8), &["`w` occurs twice"]);
    // The same name, written with an escape.
    let escaped = [entry("w", "U8", &[4], [0, 4]), entry(r"\u0077", "U8", &[4], [0, 4])];
    assert_invalid(with_entries(&escaped, 4), &["`w` occurs twice"]);
    let metadata = r#""__metadata__":{}"#.to_owned();
    assert_invalid(with_entries(&[metadata.clone(), metadata], 0), &["`__metadata__` occurs twice"]);
}

#[test]
fn a_field_that_occurs_twice_or_not_at_all() {
    let two = r#"{"w":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#;
    assert_invalid(file(two, &[0]), &["tensor `w`", "duplicate field `shape`"]);
    let none = r#"{"w":{"dtype":"U8","data_offsets":[0,1]}}"#;
    assert_invalid(file(none, &[0]), &["tensor `w`", "missing field `shape`"]);
}

#[test]
fn an_unknown_dtype() {
    assert_invalid(with_entries(&[entry("w", "F128", &[1], [0, 16])], 16), &["tensor `w`", "`F128`", "`BF16`"]);
}

#[test]
fn numbers_that_are_no_sizes() {
    for (shape, offsets) in [("[-1]", "[0,4]"), ("[1.5]", "[0,4]"), ("[1e30]", "[0,4]"), ("[1]", "[-4,0]")] {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        assert_invalid(file(&header, &[0; 4]), &["tensor `w`"]);
    }
}

#[test]
fn tensors_that_overlap() {
    let entries = [entry("v", "U8", &[8], [0, 8]), entry("w", "U8", &[8], [4, 12])];
    assert_invalid(with_entries(&entries, 12), &["`w` begins at 4", "ends at 8"]);
    let same = [entry("v", "U8", &[8], [0, 8]), entry("w", "U8", &[8], [0, 8])];
    assert_invalid(with_entries(&same, 8), &["`w` begins at 0"]);
    // An empty tensor inside another tensor.
    let inside = [entry("v", "U8", &[8], [0, 8]), entry("w", "U8", &[0], [4, 4])];
    assert_invalid(with_entries(&inside, 8), &["`w` begins at 4"]);
}

#[test]
fn bytes_that_no_tensor_owns() {
    let between = [entry("v", "U8", &[4], [0, 4]), entry("w", "U8", &[4], [8, 12])];
    assert_invalid(with_entries(&between, 12), &["the 4 bytes before tensor `w`"]);
    assert_invalid(with_entries(&[entry("w", "U8", &[4], [1, 5])], 5), &["the 1 bytes before tensor `w`"]);
    assert_invalid(with_entries(&[entry("w", "U8", &[4], [0, 4])], 5), &["declares 4 bytes", "has 5"]);
    assert_invalid(with_entries(&[], 5), &["declares 0 bytes", "has 5"]);
}

#[test]
fn offsets_that_contradict_the_shape() {
    assert_invalid(with_entries(&[entry("w", "F32", &[2], [0, 7])], 7), &["`w` is F32 [2]", "takes 8", "0 to 7"]);
    assert_invalid(with_entries(&[entry("w", "F32", &[2], [8, 0])], 8), &["before tensor `w`"]);
    let backwards = [entry("v", "U8", &[8], [0, 8]), entry("w", "U8", &[4], [8, 4])];
    assert_invalid(with_entries(&backwards, 8), &["`w`", "8 to 4"]);
}

#[test]
fn a_tensor_of_ten_terabytes() {
    const TEN_TB: usize = 10_000_000_000_000;
    assert_invalid(with_entries(&[entry("w", "U8", &[TEN_TB], [0, TEN_TB])], 8), &["`w` ends at 10000000000000"]);
    assert_invalid(with_entries(&[entry("w", "U8", &[TEN_TB], [0, 8])], 8), &["`w`", "takes 10000000000000 bytes"]);
}

#[test]
fn sizes_that_overflow() {
    let too_large = ["tensor `w`", "has more than"];
    assert_invalid(with_entries(&[entry("w", "U8", &[1 << 32, 1 << 32], [0, 0])], 0), &too_large);
    assert_invalid(with_entries(&[entry("w", "U8", &[1 << 33, 1 << 33, 4], [0, 16])], 16), &too_large);
    assert_invalid(with_entries(&[entry("w", "F32", &[1 << 62], [0, 0])], 0), &too_large);
    assert_invalid(with_entries(&[entry("w", "U8", &[usize::MAX], [0, usize::MAX])], 0), &too_large);
    // Declared sizes whose wrapped sum equals the size of the file.
    let wrapping = [entry("v", "U8", &[8], [0, 8]), entry("w", "U8", &[8], [usize::MAX - 7, 0])];
    assert_invalid(with_entries(&wrapping, 8), &["before tensor `w`"]);
}

#[test]
fn elements_that_do_not_fill_a_byte() {
    assert_invalid(with_entries(&[entry("w", "F4", &[3], [0, 2])], 2), &["tensor `w`", "whole number of bytes"]);
}

#[test]
fn other_formats_are_named() {
    let cases: [(&[u8], &str, &str); 6] = [
        (b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0", "GGUF", "take the .safetensors files"),
        (b"PK\x03\x04\0\0\x08\x08\0\0\0\0", "PyTorch (.bin, .pt)", "`safetensors.torch.save_file`"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle", "`safetensors.torch.save_file`"),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0K\x01.", "pickle", "`safetensors.torch.save_file`"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5", "convert it"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "NumPy", "convert it"),
    ];
    for (bytes, format, remedy) in cases {
        assert_foreign(bytes, &[format, remedy]);
    }
}

#[track_caller]
fn assert_foreign(bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let error = open(bytes).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    assert_says(&error, &["made.safetensors", "which this program does not read"]);
    assert_says(&error, parts);
}

/// What a failed download or a clone without LFS leaves under the name of a model.
#[test]
fn texts_are_named_and_quoted() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    assert_foreign(pointer, &["Git LFS pointer", "`git lfs pull`"]);
    for text in ["Entry not found", "404", "\u{feff}Entry not found\r\n", "Eintrag fehlt: größer"] {
        let line = text.trim_start_matches('\u{feff}').trim();
        assert_foreign(text, &[&format!("plain text (`{line}`)"), "download the file again"]);
    }
    assert_foreign("<!DOCTYPE html>\n<html>", &["HTML or XML text (`<!DOCTYPE html>`)", "failed download"]);
    let answer = r#"{"error":"Repository not found"}"#;
    assert_foreign(answer, &[&format!("JSON text (`{answer}`)"), "its index", "download"]);
    assert_foreign(r#"{"metadata":{},"weight_map":{}}"#, &["JSON text", "give the model's directory"]);
    // A long text is cut off, also between the bytes of a character.
    for text in ["ä".repeat(1000), format!("a{}", "ä".repeat(1000))] {
        let quote: String = text.chars().take(60).collect();
        assert_foreign(&text, &[&format!("plain text (`{quote}…`)")]);
    }
    assert_invalid("text\0", &["5 bytes are too few"]);
    assert_invalid(" \n", &["2 bytes are too few"]);
}

#[test]
fn a_damaged_file_is_not_taken_for_another_format() {
    // The header length begins with the bytes of a pickle.
    let header = format!("{:<640}", format!("{{{}}}", entry("w", "F32", &[2], [0, 8])));
    let bytes = file(&header, &floats(&[1.0, 2.0]));
    assert_eq!(bytes[..2], [0x80, 2]);
    assert!(open(&bytes).is_ok());
    assert_invalid(&bytes[..bytes.len() - 1], &["cut off"]);
}
