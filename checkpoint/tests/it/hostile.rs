//! For any bytes, opening returns an error or a checkpoint with readable tensors.

use checkpoint::{Checkpoint, Error};
use proptest::prelude::*;

use crate::support::{Dir, file, model, pair};

thread_local! {
    /// The directory of all cases of a test: some disks take seconds to remove thousands.
    static DIR: Dir = Dir::new();
}

/// Opens a file with these bytes, in the place of the last one.
fn open(bytes: impl AsRef<[u8]>) -> Result<Checkpoint, Error> {
    DIR.with(|dir| Checkpoint::open(dir.write("made.safetensors", bytes)))
}

/// Reads every tensor. The lengths must match the specs, and add up to `data_len` bytes if it is
/// known.
fn assert_sound(opened: Result<Checkpoint, Error>, data_len: Option<usize>) -> Result<(), TestCaseError> {
    let model = match opened {
        Ok(model) => model,
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            return Ok(());
        }
    };
    let mut total = 0;
    for name in model.names() {
        let tensor = model.tensor(name).unwrap();
        prop_assert_eq!(tensor.bytes().len(), tensor.spec().byte_len());
        prop_assert_eq!(tensor.to_f32().is_ok(), tensor.spec().is_float());
        prop_assert_eq!(&model.bytes(name).unwrap().1[..], tensor.bytes());
        total += tensor.bytes().len();
    }
    prop_assert!(data_len.is_none_or(|n| n == total), "{total} bytes");
    drop(model.hash());
    Ok(())
}

/// Sizes at which arithmetic overflows, or that are no sizes.
const EDGES: &[&str] =
    &["-1", "1.0", "4294967296", "9223372036854775807", "18446744073709551608", "18446744073709551615"];

/// An edge case, or a size that fits a small file.
fn size() -> impl Strategy<Value = String> {
    prop_oneof![3 => (0u8..10).prop_map(|n| n.to_string()), 1 => prop::sample::select(EDGES).prop_map(str::to_owned)]
}

/// A header entry as a hostile writer would make it.
fn hostile_entry() -> impl Strategy<Value = String> {
    let name = prop::sample::select(&["a", "b", "c", "", "__metadata__", "\\u0061"]);
    let dtype = prop::sample::select(&["F32", "BF16", "U8", "F4", "F6_E2M3", "F64", "X"]);
    (name, dtype, prop::collection::vec(size(), 0..4), prop::collection::vec(size(), 2)).prop_map(
        |(name, dtype, shape, offsets)| {
            let (shape, offsets) = (shape.join(","), offsets.join(","));
            format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offsets}]}}"#)
        },
    )
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Mostly characters that occur in a header.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"0123456789\"{}[],:-e"[..])];
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        2 => at().prop_map(Mutation::Remove),
        2 => (at(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => at().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        match mutation {
            Mutation::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Mutation::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_sound(open(bytes), None)?;
    }

    #[test]
    fn random_header_text(header in "\\PC{0,60}", data in prop::collection::vec(any::<u8>(), 0..20)) {
        assert_sound(open(file(&header, &data)), Some(data.len()))?;
    }

    #[test]
    fn hostile_headers(entries in prop::collection::vec(hostile_entry(), 0..4), length in 0usize..16) {
        let header = format!("{{{}}}", entries.join(","));
        assert_sound(open(file(&header, &vec![0; length])), Some(length))?;
    }

    #[test]
    fn mutated_files(mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut bytes = model(&[pair("v", [1.0, 2.0]), ("s", "BF16", &[], vec![0; 2]), pair("w", [3.0, 4.0])]);
        mutate(&mut bytes, &mutations);
        assert_sound(open(bytes), None)?;
    }

    #[test]
    fn mutated_indexes(mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut index = br#"{"weight_map":{"a":"1","b":"2"}}"#.to_vec();
        mutate(&mut index, &mutations);
        let opened = DIR.with(|dir| {
            dir.write("1", model(&[pair("a", [1.0, 2.0])]));
            dir.write("2", model(&[pair("b", [1.0, 2.0])]));
            dir.write("model.safetensors.index.json", index);
            dir.open()
        });
        assert_sound(opened, None)?;
    }
}
