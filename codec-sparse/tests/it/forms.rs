//! The sections of each form, and tensors at the edges of their formats.

use std::ops::Range;

use crate::support::{
    FORMS, bytes, codec, encoded, encoded_f32, exact_and_lossy, is_sparse, noise, restored, section, stored,
};
use codec_api::{
    CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Inputs, Product, Registry, TensorSpec, TensorView,
};

fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

#[test]
fn u32_has_the_arrays_of_scipy() {
    // `csr_matrix` of this matrix: indptr [0 2 2 3 5], indices [1 4 0 2 7], data [1 2 3 4 5].
    let mut weights = [0.0; 32];
    for (at, w) in [(1, 1.0), (4, 2.0), (16, 3.0), (26, 4.0), (31, 5.0)] {
        weights[at] = w;
    }
    let encoded = restored("sparse.csr:index=u32", Dtype::F32, &[4, 8], &bytes(&weights));
    assert_eq!(u32s(section(&encoded, "pointers")), [0, 2, 2, 3, 5]);
    assert_eq!(u32s(section(&encoded, "columns")), [1, 4, 0, 2, 7]);
    assert_eq!(section(&encoded, "values/data"), bytes(&[1.0, 2.0, 3.0, 4.0, 5.0]));
    let narrow = restored("sparse.csr:index=narrow", Dtype::F32, &[4, 8], &bytes(&weights));
    assert_eq!(section(&narrow, "columns"), [1, 4, 0, 2, 7]);
    let gap = restored("sparse.csr:index=gap", Dtype::F32, &[4, 8], &bytes(&weights));
    assert_eq!(section(&gap, "counts"), [2, 0, 1, 2]);
    assert_eq!(section(&gap, "gaps"), [1, 2, 0, 2, 4]);
    let coo = restored("sparse.coo", Dtype::F32, &[4, 8], &bytes(&weights));
    assert_eq!(section(&coo, "counts"), 5u32.to_le_bytes());
    assert_eq!(section(&coo, "offsets"), [1, 0, 4, 0, 16, 0, 26, 0, 31, 0]);
    let bitmap = restored("sparse.bitmap", Dtype::F32, &[4, 8], &bytes(&weights));
    assert_eq!(section(&bitmap, "bitmap"), [0b1_0010, 0, 0b1, 0b1000_0100]);
}

#[test]
fn groups_are_filled_at_their_lowest_free_columns() {
    // Groups of 4, 4 and 3 columns with two values, one, and none.
    let weights = [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0];
    let encoded = restored("sparse.nm", Dtype::F32, &[1, 11], &bytes(&weights));
    assert_eq!(section(&encoded, "positions"), [0b10_00_11_01, 0b01_00]);
    assert_eq!(section(&encoded, "values/data"), bytes(&[1.0, 2.0, 0.0, 3.0, 0.0, 0.0]));
    // The last group has one column and so one value. Each row begins at a byte.
    let weights = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 5.0, 0.0, 0.0];
    let encoded = restored("sparse.nm", Dtype::F32, &[2, 5], &bytes(&weights));
    assert_eq!(section(&encoded, "positions"), [0b00_11_10, 0b00_10_00]);
    assert_eq!(section(&encoded, "values/data"), bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 0.0]));
    // Three values in a group.
    let encoded = restored("sparse.nm", Dtype::F32, &[1, 8], &bytes(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    assert!(!is_sparse(&encoded));
}

#[test]
fn every_dtype_and_shape_comes_back() {
    let dtypes = [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I64,
        Dtype::F64,
        Dtype::C64,
        Dtype::U8,
        Dtype::BOOL,
        Dtype::F4,
        Dtype::F6_E2M3,
    ];
    let shapes: [&[usize]; 9] =
        [&[40, 400], &[1, 5000], &[5000, 1], &[3000], &[7, 11, 13, 4], &[20_000, 8], &[300, 256], &[300, 260], &[0, 4]];
    for spec in FORMS {
        for (dtype, shape) in dtypes.into_iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
            for density in [0.0, 0.003, 0.05, 0.5] {
                let tensor = TensorSpec::new(dtype, shape).unwrap();
                let width = (dtype.bitsize() / 8).max(1);
                let value = |i: usize| if stored(i / width, density) { noise(i as u64) as u8 } else { 0 };
                restored(spec, dtype, shape, &(0..tensor.byte_len()).map(value).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn negative_zeros_and_nans_are_values() {
    let special = [-0.0, f32::NAN, f32::from_bits(0xff80_0001), f32::INFINITY, f32::from_bits(1)];
    let weights: Vec<f32> = (0..4000).map(|i| if i % 100 == 7 { special[i / 100 % 5] } else { 0.0 }).collect();
    for spec in FORMS {
        let encoded = restored(spec, Dtype::F32, &[4, 1000], &bytes(&weights));
        assert!(is_sparse(&encoded), "{spec}");
        assert!(encoded.certificate.exact, "{spec}");
        let decoded = encoded.decode(&DecodeCx::new()).unwrap();
        assert!(bytes(&weights) == bytes(&decoded), "{spec}");
    }
}

#[test]
fn long_rows_are_cut_and_long_gaps_are_skipped() {
    // Values at the edges of segments of 2^15 and 2^16, and of gaps of 254, 255, 256 and 510 zeros.
    let columns = 200_000;
    let edges = [0, 255, 511, 768, 1279, 32_767, 32_768, 65_535, 65_536, 131_071, 131_072, 199_999];
    let mut weights = vec![0.0; 2 * columns];
    for (i, at) in edges.into_iter().enumerate() {
        weights[at] = 1.0 + i as f32;
        weights[columns + at] = -1.0 - i as f32;
    }
    for spec in FORMS {
        assert!(is_sparse(&restored(spec, Dtype::F32, &[2, columns], &bytes(&weights))), "{spec}");
    }
    let narrow = restored("sparse.csr:index=narrow", Dtype::F32, &[2, columns], &bytes(&weights));
    assert_eq!(u32s(section(&narrow, "pointers")), [0, 8, 10, 11, 12, 20, 22, 23, 24][..].to_vec());
    let gap = restored("sparse.csr:index=gap", Dtype::F32, &[2, columns], &bytes(&weights));
    assert_eq!(section(&gap, "gaps")[..8], [0, 254, 255, 0, 255, 1, 255, 255]);
}

#[test]
fn all_zeros_take_next_to_nothing_and_no_elements_nothing_more() {
    let zeros = bytes(&vec![0.0; 100 * 1000]);
    for (spec, positions) in FORMS.into_iter().zip([4 * 101, 4 * 101, 2 * 100, 2 * 100, 4 * 2, 100_000 / 8]) {
        assert_eq!(restored(spec, Dtype::F32, &[100, 1000], &zeros).payload.bytes(), positions + 8, "{spec}");
        assert!(!is_sparse(&restored(spec, Dtype::F32, &[0, 1000], &[])));
    }
}

/// Tensors of several shapes in each form, with an exact and with a lossy inner codec.
fn matrices() -> impl Iterator<Item = (String, EncodedTensor, Vec<f32>)> {
    let shapes = [[64, 1000], [1, 5000], [5000, 1], [300, 260], [3, 70_000]];
    exact_and_lossy().flat_map(move |spec| {
        shapes.map(|shape| {
            let value = |i: usize| if stored(i, 0.02) { f32::from(noise(i as u64) as i16) } else { 0.0 };
            let encoded = encoded_f32(&spec, &shape, &(0..shape[0] * shape[1]).map(value).collect::<Vec<_>>());
            let decoded = encoded.decode(&DecodeCx::new()).unwrap();
            (format!("{spec} {shape:?}"), encoded, decoded)
        })
    })
}

/// All rows, and some in the middle.
fn ranges(rows: usize) -> [Range<usize>; 5] {
    [0..rows, rows / 3..rows / 2, rows - 1..rows, rows..rows, rows / 5..rows - rows / 7]
}

#[test]
fn operators_multiply_values_where_they_are() {
    const BATCH: usize = 3;
    for (name, encoded, decoded) in matrices() {
        let ((rows, columns), cx) = (encoded.spec.matrix(), DecodeCx::new());
        let operator = encoded.codec.as_linear().unwrap().prepare(&encoded.spec, encoded.payload.view(), &cx).unwrap();
        let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        for (product, range) in
            [Product::Forward, Product::Transposed].into_iter().flat_map(|product| ranges(rows).map(|r| (product, r)))
        {
            let forward = product == Product::Forward;
            let (inputs, outputs) = if forward { (columns, range.len()) } else { (rows, columns) };
            let x: Vec<f32> = (0..BATCH * inputs).map(|i| f32::from(noise(i as u64) as i8) / 64.0).collect();
            let (before, mut y) = (if forward { f32::NAN } else { 1.0 }, Vec::new());
            y.resize(outputs * BATCH, before);
            operator.apply(product, range.clone(), &Inputs::new(&x, BATCH).unwrap(), &mut y).unwrap();
            let mut exact = vec![if forward { 0.0 } else { 1.0 }; y.len()];
            for (at, w) in (range.start * columns..range.end * columns).map(|at| (at, f64::from(decoded[at]))) {
                let (row, column) = (at / columns, at % columns);
                let (input, output) = if forward { (column, row - range.start) } else { (row, column) };
                (0..BATCH).for_each(|i| exact[output * BATCH + i] += w * f64::from(x[i * inputs + input]));
            }
            let allowed = f64::from(operator.tolerance()) * norm(&decoded) * norm(&x);
            let off = y.iter().zip(&exact).map(|(y, exact)| (f64::from(*y) - exact).abs());
            assert!(off.clone().all(|off| off <= allowed), "{name} {product:?} {range:?}: {:?}", off.reduce(f64::max));
        }
        assert!(!is_sparse(&encoded) || operator.resident_bytes() < 4 * decoded.len() as u64, "{name}");
    }
}

#[test]
fn any_rows_are_those_of_the_whole() {
    for (name, encoded, decoded) in matrices() {
        let (rows, columns) = encoded.spec.matrix();
        let reader = encoded.open_rows(&DecodeCx::new()).unwrap();
        for range in ranges(rows).into_iter().chain((0..rows.min(70)).map(|row| row..row + 1)) {
            let mut found = vec![f32::NAN; range.len() * columns];
            reader.read(range.clone(), &mut found).unwrap();
            assert!(bytes(&found) == bytes(&decoded[range.start * columns..range.end * columns]), "{name} {range:?}");
        }
    }
}

#[test]
fn a_lossy_inner_codec_names_the_index_in_the_whole_tensor() {
    let mut weights = vec![0.0; 10_000];
    (0..50).for_each(|i| weights[200 * i] = 1.0);
    weights[5200] = f32::NAN;
    for spec in ["sparse.csr(quant.int:bits=4)", "sparse.nm(quant.int:bits=4)", "sparse(quant.int:bits=4)"] {
        let tensor = TensorView::from_f32([100, 100], &weights).unwrap();
        let answer = codec(spec).encode(tensor, &EncodeCx::new(0));
        assert!(matches!(answer, Err(CodecError::NonFinite { index: 5200 })), "{spec}: {answer:?}");
    }
}

#[test]
fn an_inner_codec_that_takes_only_whole_blocks_gets_the_whole_tensor() {
    let mut weights = vec![0.0; 64 * 256];
    (0..64).for_each(|i| weights[200 * i] = 1.0);
    assert!(is_sparse(&encoded_f32("sparse.csr(quant.q8_0)", &[64, 256], &weights)));
    weights[1] = 1.0;
    assert!(!is_sparse(&encoded_f32("sparse.csr(quant.q8_0)", &[64, 256], &weights)));
    let whole = TensorView::from_f32([64, 255], &weights[..64 * 255]).unwrap();
    assert!(matches!(encoded("sparse.csr(quant.q8_0)", whole), Err(CodecError::Unsupported(_))));
}

#[test]
fn all_presets_are_there_and_children_are_read_from_spec_and_header() {
    let registry = Registry::linked().unwrap();
    let ours = registry.presets().filter(|(entry, ..)| entry.origin.0 == env!("CARGO_PKG_NAME"));
    let names: Vec<_> = ours.map(|(entry, name, _)| format!("{} {name}", entry.id)).collect();
    let expected = [
        "sparse default",
        "sparse int4",
        "sparse.bitmap default",
        "sparse.coo default",
        "sparse.csr u32",
        "sparse.csr narrow",
        "sparse.csr gap",
        "sparse.csr int4",
        "sparse.csr gap-int4",
        "sparse.csr coded",
        "sparse.nm 2of4",
        "sparse.prune density10",
        "sparse.prune 2of4",
    ];
    assert_eq!(names, expected);
    let spec = registry.parse_spec("sparse.csr(quant.int:bits=4)").unwrap();
    let header = codec_api::header(&*spec).unwrap();
    assert_eq!(codec_api::header(&*registry.parse_header(&header).unwrap()).unwrap(), header);
    assert_eq!(registry.spec_of(&*codec("sparse.csr:preset=int4")), registry.spec_of(&*spec));
}

#[test]
fn costs_of_nested_codecs_are_asked_for_once() {
    // Without the cache, six calls of `cost` per level would add up to half a million.
    let nested = "sparse(".repeat(7) + "lossless.raw" + &")".repeat(7);
    let spec = TensorSpec::new(Dtype::F32, [300, 300]).unwrap();
    assert!(codec(&nested).cost(&spec).bytes.contains(&360_000));
}
