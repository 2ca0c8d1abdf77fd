//! The hash depends on the model, not on how it is split into files.

use crate::support::{Dir, Raw, entry, file, model, open, pair};

fn hash(tensors: &[Raw<'_>]) -> [u8; 32] {
    open(model(tensors)).unwrap().hash().unwrap()
}

#[test]
fn the_hash_is_the_documented_one() {
    let mut stream = Vec::new();
    for (name, values) in [("a", [1.0f32, 2.0]), ("bb", [3.0, 4.0])] {
        stream.extend((name.len() as u64).to_le_bytes());
        stream.extend(name.as_bytes());
        stream.extend(3u64.to_le_bytes());
        stream.extend(b"F32");
        stream.extend(1u64.to_le_bytes());
        stream.extend(2u64.to_le_bytes());
        stream.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    assert_eq!(hash(&[pair("bb", [3.0, 4.0]), pair("a", [1.0, 2.0])]), *blake3::hash(&stream).as_bytes());
}

#[test]
fn order_shards_and_metadata_make_no_difference() {
    let (a, b) = (pair("a", [1.0, 2.0]), pair("b", [3.0, 4.0]));
    let expected = hash(&[a.clone(), b.clone()]);
    assert_eq!(hash(&[b.clone(), a.clone()]), expected);

    let dir = Dir::new();
    dir.write("1.safetensors", model(std::slice::from_ref(&b)));
    dir.write("2.safetensors", model(std::slice::from_ref(&a)));
    dir.write_index(&[("a", "2.safetensors"), ("b", "1.safetensors")]);
    assert_eq!(dir.open().unwrap().hash().unwrap(), expected);

    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{}}}"#,
        entry("a", "F32", &[2], [0, 8]),
        entry("b", "F32", &[2], [8, 16])
    );
    assert_eq!(open(file(&header, &[a.3, b.3].concat())).unwrap().hash().unwrap(), expected);
}

#[test]
fn name_dtype_shape_and_every_bit_make_a_difference() {
    let bytes = vec![0u8; 8];
    let models: [&[Raw<'_>]; 8] = [
        &[],
        &[("w", "F32", &[2], bytes.clone())],
        &[("v", "F32", &[2], bytes.clone())],
        &[("w", "I32", &[2], bytes.clone())],
        &[("w", "F32", &[2, 1], bytes.clone())],
        &[("w", "F32", &[1, 2], bytes.clone())],
        &[("w", "F32", &[2], vec![0, 0, 0, 0, 0, 0, 0, 1])],
        &[("w", "F32", &[2], bytes.clone()), ("x", "F32", &[0], vec![])],
    ];
    let mut hashes: Vec<_> = models.iter().map(|m| hash(m)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), models.len());
}
