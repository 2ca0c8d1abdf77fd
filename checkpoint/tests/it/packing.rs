//! A packed model gives back what was packed.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Hash, Packed, Plan, Recipe, Rule};
use codec_api::{
    DecodeCx, Dtype, EncodeCx, EncodedTensor, NoProgress, TensorSpec, TensorView, read_safetensors_header,
};
use half::bf16;
use proptest::prelude::*;

use crate::support::packed::{noise, pack, registry};
use crate::support::{Dir, Raw, entry, file, floats, model};

fn odd_tensors() -> Vec<Raw<'static>> {
    vec![
        ("a/b%c/wörter", "F32", &[3, 5], floats(&[0.25; 15])),
        ("scalar", "F64", &[], noise(8)),
        ("empty", "F32", &[0, 4], Vec::new()),
        ("bf16", "BF16", &[2, 3], noise(12)),
        ("f16", "F16", &[7], noise(14)),
        ("i64", "I64", &[2], noise(16)),
        ("bool", "BOOL", &[3], vec![0, 1, 1]),
        ("f8", "F8_E4M3", &[3, 3], noise(9)),
        ("f4", "F4", &[2, 3], noise(3)),
        ("", "U8", &[5], noise(5)),
        ("a", "U8", &[5], noise(5)),
        ("tied", "F32", &[3, 5], floats(&[0.25; 15])),
    ]
}

/// A header in another order than the data, with metadata and two kinds of white space.
fn odd_file() -> Vec<u8> {
    let entries = [
        entry("späť/", "I16", &[2], [8, 12]),
        r#""__metadata__":{"format":"pt","ü":"\n"}"#.to_owned(),
        entry("first", "F64", &[1, 1], [0, 8]),
    ];
    file(&format!("{{ {} }}\n \t", entries.join(" ,\n")), &noise(12))
}

fn unpack(target: &Path, to: &Path) {
    let packed = Packed::open(target, &registry()).unwrap();
    assert!(packed.verify(&NoProgress).is_empty());
    packed.unpack(to, &NoProgress).unwrap();
}

#[test]
fn every_tensor_and_the_file_come_back() {
    let dir = Dir::new();
    let tensors = odd_tensors();
    let source = dir.write("model.safetensors", model(&tensors));
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::default());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no parts are left");
    let packed = Packed::open(&target, &registry()).unwrap();
    for (name, dtype, shape, bytes) in &tensors {
        let tensor = packed.tensor(name).unwrap();
        assert_eq!(&tensor.decode_bytes().unwrap(), bytes, "{name}");
        assert_eq!((tensor.spec().dtype().to_string().as_str(), tensor.spec().shape()), (*dtype, *shape));
        assert_eq!(tensor.hash(), Hash::of(bytes), "{name}");
        assert!(tensor.certificate().exact);
    }
    assert_eq!(packed.tensor("tied").unwrap().same_as(), Some("a/b%c/wörter"));
    assert_eq!(packed.tensor("tied").unwrap().bytes(), 0);
    assert_eq!(packed.tensor("a").unwrap().same_as(), Some(""));
    packed.unpack_single(&dir.path().join("back.safetensors"), &NoProgress).unwrap();
    assert_eq!(fs::read(dir.path().join("back.safetensors")).unwrap(), fs::read(&source).unwrap());
}

#[test]
fn files_of_any_header_come_back_byte_for_byte() {
    let metadata_only = file(r#"{"__metadata__":{"a":"b"}}"#, &[]);
    for bytes in [odd_file(), model(&[]), metadata_only] {
        let dir = Dir::new();
        let source = dir.write("x.safetensors", &bytes);
        let target = pack(&source, &dir.path().join("packed"), &Recipe::default());
        assert_eq!(target, dir.path().join("packed/x.nw.safetensors"));
        unpack(&target, &dir.path().join("back"));
        assert_eq!(fs::read(dir.path().join("back/x.safetensors")).unwrap(), bytes);
    }
}

#[test]
fn a_sharded_model_comes_back_with_its_index() {
    let dir = Dir::new();
    let tensors = odd_tensors();
    let shards = ["model-00001-of-00003.safetensors", "sub/model-2.safetensors", "model-00003-of-00003.safetensors"];
    let mut places = Vec::new();
    for (shard, tensors) in shards.iter().zip([&tensors[..4], &tensors[4..7], &tensors[7..]]) {
        dir.write(&format!("in/{shard}"), model(tensors));
        places.extend(tensors.iter().map(|(name, ..)| (*name, *shard)));
    }
    let places: Vec<_> = places.iter().map(|(tensor, shard)| format!(r#""{tensor}":"{shard}""#)).collect();
    dir.write("in/model.safetensors.index.json", format!(r#"{{"weight_map": {{{}}} }}  "#, places.join(",")));
    let target = pack(&dir.path().join("in"), &dir.path().join("packed"), &Recipe::default());
    assert_eq!(target, dir.path().join("packed/model.nw.safetensors"));
    unpack(&dir.path().join("packed"), &dir.path().join("back"));
    for name in shards.iter().chain(&["model.safetensors.index.json"]) {
        let read = |folder: &str| fs::read(dir.path().join(folder).join(name)).unwrap();
        assert_eq!(read("back"), read("in"), "{name}");
    }
    let packed = Packed::open(&target, &registry()).unwrap();
    let error = packed.unpack_single(&dir.path().join("one.safetensors"), &NoProgress).unwrap_err();
    crate::support::assert_says(&error, &["one.safetensors", "3 files", "give a directory"]);
}

#[test]
fn lossy_codecs_keep_their_certificates_and_leave_the_rest_exact() {
    let dir = Dir::new();
    let values: Vec<f32> = (0..40 * 64).map(|i| ((i * 7919) % 1009) as f32 / 331.0 - 1.5).collect();
    let halves: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    let mut damaged = values.clone();
    damaged[77] = f32::NAN;
    let source = dir.write(
        "model.safetensors",
        model(&[
            ("w", "F32", &[40, 64], floats(&values)),
            ("half", "BF16", &[40, 64], halves.clone()),
            ("nan", "F32", &[40, 64], floats(&damaged)),
            ("norm", "F32", &[64], floats(&values[..64])),
            ("ids", "I32", &[2, 2], noise(16)),
        ]),
    );
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::built_in("int8").unwrap());
    let packed = Packed::open(&target, &registry()).unwrap();
    for (name, stored) in [("w", floats(&values)), ("half", halves)] {
        let tensor = packed.tensor(name).unwrap();
        let source = TensorView::new(tensor.spec().clone(), &stored).unwrap().to_f32().unwrap();
        let decoded = tensor.to_f32().unwrap();
        let worst = source.iter().zip(&decoded).map(|(x, y)| (f64::from(*x) - f64::from(*y)).abs()).fold(0.0, f64::max);
        assert_eq!(worst, tensor.certificate().max_abs, "{name}: the error is that of the returned values");
        assert!(worst > 0.0 && tensor.certificate().rel_frobenius() < 0.02);
        let bytes = tensor.decode_bytes().unwrap();
        let again = TensorView::new(tensor.spec().clone(), &bytes).unwrap().to_f32().unwrap().into_owned();
        assert_eq!(again, decoded, "{name}: rows and bytes are the same values");
        assert_eq!(tensor.chunks().next().unwrap().encoded().codec.typetag_name(), "quant.int");
    }
    for (name, stored) in [("nan", floats(&damaged)), ("norm", floats(&values[..64])), ("ids", noise(16))] {
        let tensor = packed.tensor(name).unwrap();
        assert_eq!(tensor.decode_bytes().unwrap(), stored, "{name}");
        let chunk = tensor.chunks().next().unwrap();
        assert_eq!(chunk.encoded().codec.typetag_name(), "lossless");
        assert_eq!(chunk.refused().is_some(), name == "nan", "only `nan` has a rule and is refused");
    }
    let reason = packed.tensor("nan").unwrap().chunks().next().unwrap().refused().unwrap().to_owned();
    assert!(reason.contains("flat index 77"), "{reason}");
}

/// Rows of 1024 bf16 weights, which make three chunks.
const ROWS: usize = 4200;

fn large() -> (PathBuf, Vec<u8>, Dir) {
    let dir = Dir::new();
    let weight = |i: usize| bf16::from_f32(((i * 7919) % 10_007) as f32 / 3301.0 - 1.5).to_le_bytes();
    let bytes: Vec<u8> = (0..ROWS * 1024).flat_map(weight).collect();
    let source = dir.write("model.safetensors", model(&[("w", "BF16", &[ROWS, 1024], bytes.clone())]));
    (source, bytes, dir)
}

#[test]
fn chunks_share_statistics_and_read_in_part() {
    let (source, bytes, dir) = large();
    let spec = "quant.int:bits=8:group=tensor";
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::for_matrices(spec));
    let packed = Packed::open(&target, &registry()).unwrap();
    let tensor = packed.tensor("w").unwrap();
    let cuts: Vec<_> = tensor.chunks().map(|chunk| chunk.rows()).collect();
    assert_eq!(cuts, [0..2048, 2048..4096, 4096..ROWS]);

    let whole = TensorView::new(TensorSpec::new(Dtype::BF16, [ROWS, 1024]).unwrap(), &bytes).unwrap();
    let codec = registry().parse_spec(spec).unwrap();
    let whole = EncodedTensor::encode(codec, whole, &EncodeCx::for_tensor(0, "w")).unwrap();
    assert_eq!(tensor.decode_bytes().unwrap(), whole.decode_bytes(&DecodeCx::new()).unwrap());
    let (sum, one) = (tensor.certificate(), whole.certificate);
    assert_eq!(sum.max_abs, one.max_abs);
    assert!((sum.squared_error / one.squared_error - 1.0).abs() < codec_api::Certificate::TOLERANCE);

    let all = tensor.to_f32().unwrap();
    for rows in [0..1, 4095..4097, 4096..4096, 4100..ROWS, 0..ROWS] {
        let mut out = vec![0.0; rows.len() * 1024];
        tensor.rows(rows.clone(), &mut out).unwrap();
        assert_eq!(out, all[rows.start * 1024..rows.end * 1024], "{rows:?}");
    }
    for (rows, len) in [(0..2, 1024), (ROWS..ROWS + 1, 1024)] {
        assert!(tensor.rows(rows, &mut vec![0.0; len]).is_err());
    }
}

#[test]
fn threads_and_the_order_of_units_do_not_change_the_bytes() {
    let dir = Dir::new();
    let mut tensors: Vec<Raw<'_>> =
        ["a", "b", "c"].into_iter().map(|name| (name, "U8", &[5000, 1024][..], noise(5000 * 1024))).collect();
    tensors[1].3[0] ^= 1;
    tensors[2].3[5_119_999] ^= 1;
    let source = dir.write("model.safetensors", model(&tensors));
    let mut found = Vec::new();
    for (threads, name) in [(1, "one"), (4, "four")] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let target = dir.path().join(format!("{name}.nw.safetensors"));
        pool.install(|| pack(&source, &target, &Recipe::default()));
        found.push(fs::read(target).unwrap());
    }
    let target = dir.path().join("reverse.nw.safetensors");
    let plan = Plan::new(&source, &target, &Recipe::default(), 0, &registry()).unwrap();
    assert!(plan.units() > 2, "{}", plan.units());
    let file = dir.path().join("plan.json");
    plan.save(&file).unwrap();
    for unit in (0..plan.units()).rev() {
        // As another process would: from the file alone.
        Plan::load(&file).unwrap().run_unit(unit, &registry(), &NoProgress).unwrap();
    }
    Plan::load(&file).unwrap().commit(&registry(), Some(&NoProgress)).unwrap();
    found.push(fs::read(target).unwrap());
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn any_reader_lists_aligned_sections() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&odd_tensors()));
    let rule = Rule::of_names("16$", "lossless.raw");
    let mut recipe = Recipe::for_matrices("quant.int");
    recipe.rules.insert(0, rule);
    let bytes = fs::read(pack(&source, &dir.path().join("m.nw.safetensors"), &recipe)).unwrap();
    let listed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(listed.names().contains(&"a%2Fb%25c%2Fwörter/0/codes"), "{:?}", listed.names());
    let (header, start) = read_safetensors_header(&bytes).unwrap();
    for (name, info) in header.tensors() {
        let width = (info.dtype.bitsize() / 8).max(1);
        assert_eq!((start + info.data_offsets.0) % width, 0, "{name}: {info:?}");
    }
}

#[test]
fn threads_share_a_packed_model() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (source, bytes, dir) = large();
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::default());
    let packed = Packed::open(&target, &registry()).unwrap();
    shared(&packed);
    std::thread::scope(|scope| {
        for first in [0, 1000, 4090, 4150] {
            let (packed, bytes) = (&packed, &bytes);
            scope.spawn(move || {
                let mut out = vec![0.0; 50 * 1024];
                packed.tensor("w").unwrap().rows(first..first + 50, &mut out).unwrap();
                let stored = bytes[first * 2048..].chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
                assert!(stored.zip(out).all(|(stored, read)| stored == read), "rows from {first}");
            });
        }
    });
}

/// A tensor of any dtype, with bytes of few or many values.
fn any_tensor() -> impl Strategy<Value = (&'static str, Vec<usize>, Vec<u8>)> {
    let dtypes = [("F32", 4), ("BF16", 2), ("F16", 2), ("F64", 8), ("I8", 1), ("U64", 8), ("F8_E5M2", 1), ("C64", 8)];
    let shape = prop::collection::vec(0usize..9, 0..4);
    (prop::sample::select(dtypes.to_vec()), shape, 1u8.., any::<u8>()).prop_map(
        |((dtype, width), shape, values, seed)| {
            let len = shape.iter().product::<usize>() * width;
            let bytes = noise(len + usize::from(seed))[usize::from(seed)..].iter().map(|byte| byte % values).collect();
            (dtype, shape, bytes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_model_comes_back(
        tensors in prop::collection::vec(any_tensor(), 0..6),
        recipe in prop::sample::select(vec!["lossless", "int8"]),
    ) {
        let dir = Dir::new();
        let names: Vec<String> = (0..tensors.len()).map(|i| format!("t/{i}%")).collect();
        let raw: Vec<Raw<'_>> = names
            .iter()
            .zip(&tensors)
            .map(|(name, (dtype, shape, bytes))| (name.as_str(), *dtype, shape.as_slice(), bytes.clone()))
            .collect();
        let source = dir.write("model.safetensors", model(&raw));
        let target = pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::load(recipe).unwrap());
        let packed = Packed::open(&target, &registry()).unwrap();
        let back = dir.path().join("back.safetensors");
        packed.unpack_single(&back, &NoProgress).unwrap();
        let exact = packed.tensors().all(|tensor| tensor.certificate().exact);
        let (back, source) = (fs::read(back).unwrap(), fs::read(source).unwrap());
        prop_assert_eq!(back.len(), source.len());
        prop_assert!(!exact || back == source);
        prop_assert!(exact || recipe == "int8");
    }
}
