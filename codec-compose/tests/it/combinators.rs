//! The purposes of the combinators: less error, the other axis, any inner codec.

use std::sync::Arc;

use codec_api::{
    Bound, Chunking, Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorSpec, TensorView,
};
use codec_compose as _;
use codec_lossless as _;
use codec_lowrank as _;
use codec_quant as _;
use codec_sparse as _;
use harness::testing::{MeanSquares, measure, weights};

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().expect("codecs").parse_spec(spec).expect("a spec")
}

fn decoded(spec: &str, shape: &[usize], values: &[f32], cx: &EncodeCx<'_>) -> Vec<f32> {
    let tensor = TensorView::from_f32(shape, values).expect("as many values as the shape says");
    let encoded = EncodedTensor::encode(codec(spec), tensor, cx).expect("it encodes");
    encoded.decode(&DecodeCx::new()).expect("it decodes")
}

fn turned(rows: usize, columns: usize, values: &[f32]) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

#[test]
fn every_preset_is_there_when_its_children_are_linked() {
    let registry = Registry::linked().unwrap();
    let presets: Vec<_> = registry.presets().map(|(entry, name, _)| format!("{}:{name}", entry.id)).collect();
    let wanted = [
        "hadamard:int4",
        "hadamard:nf4",
        "hadamard:mxfp4",
        "residual:int4-int4",
        "residual:lowrank-int3",
        "transpose:raw",
        "transpose:int8",
    ];
    for wanted in wanted {
        assert!(presets.iter().any(|preset| preset == wanted), "{wanted} is not in {presets:?}");
    }
}

#[test]
fn the_second_codes_what_the_first_leaves() {
    let (shape, values) = ([128, 256], weights("gaussian", 128 * 256));
    let alone = measure("quant.int:bits=4", &shape, &values);
    let both = measure("residual(quant.int:bits=4,quant.int:bits=4)", &shape, &values);
    assert_eq!(both.bytes, alone.bytes.map(|bytes| 2 * bytes));
    let (alone, both) = (alone.relative_error.unwrap(), both.relative_error.unwrap());
    // The rest is uniform within a step: four more bits divide its error by a little more than 14.
    assert!(both < alone / 13.0, "{both} after {alone}");
}

#[test]
fn an_exact_first_leaves_nothing() {
    let values = [1.5, -2.0, 3e38, -3e38, 1e-40, 0.0];
    let spec = "residual(lossless.raw,quant.int:bits=2)";
    assert_eq!(decoded(spec, &[2, 3], &values, &EncodeCx::new(0)), values);
}

#[test]
fn both_ends_of_f32_are_held() {
    // Absmean ternary decodes the largest number to a fraction of it; the rest needs the whole
    // range.
    let values = [f32::MAX, f32::MIN, 0.0, f32::MAX];
    let decoded = decoded("residual(quant.ternary:fit=absmean,quant.int:bits=8)", &[1, 4], &values, &EncodeCx::new(0));
    assert!(decoded.iter().zip(values).all(|(d, w)| d.is_finite() && (d - w).abs() <= f32::MAX * 0.01), "{decoded:?}");
}

#[test]
fn a_child_that_refuses_is_heard() {
    let integers = TensorSpec::new(Dtype::I16, [4, 4]).unwrap();
    assert!(codec("residual(lossless.raw,quant.int)").accepts(&integers).is_err());
    // Rows of 20 columns do not consist of blocks of 32.
    let odd = TensorSpec::new(Dtype::F32, [4, 20]).unwrap();
    for spec in ["residual(quant.int,quant.q8_0)", "residual(quant.q8_0,quant.int)"] {
        assert!(matches!(codec(spec).accepts(&odd), Err(CodecError::Unsupported(_))), "{spec}");
    }
    // Its transpose has no rows of 32 either; the transpose of a matrix with 32 rows does.
    let upright = TensorSpec::new(Dtype::F32, [32, 20]).unwrap();
    assert!(codec("transpose(quant.q8_0)").accepts(&odd).is_err());
    assert!(codec("transpose(quant.q8_0)").accepts(&upright).is_ok());
}

#[test]
fn chunks_suit_both_children() {
    let spec = TensorSpec::new(Dtype::F32, [64, 64]).unwrap();
    assert!(matches!(codec("residual(quant.int,lossless.raw)").chunking(&spec), Chunking::Rows(n) if n.get() == 1));
    assert_eq!(codec("residual(quant.int,quant.int:group=tensor)").chunking(&spec), Chunking::Whole);
}

#[test]
fn transposed_codes_are_codes_of_the_transposed() {
    let values = weights("scale-mixed", 48 * 80);
    let upright = decoded("transpose(quant.int:bits=4)", &[48, 80], &values, &EncodeCx::new(0));
    let on_its_side = decoded("quant.int:bits=4", &[80, 48], &turned(48, 80, &values), &EncodeCx::new(0));
    assert_eq!(turned(48, 80, &upright), on_its_side);
    let twice = decoded("transpose(transpose(quant.int:bits=4))", &[48, 80], &values, &EncodeCx::new(0));
    assert_eq!(twice, decoded("quant.int:bits=4", &[48, 80], &values, &EncodeCx::new(0)));
}

#[test]
fn calibration_turns_too() {
    let (rows, columns) = (64, 32);
    let values = weights("gaussian", rows * columns);
    let squares: Vec<f32> = (0..rows).map(|i| (i % 7) as f32 + 0.01).collect();
    let (by_row, by_column) = (MeanSquares { axis: 0, squares: squares.clone() }, MeanSquares { axis: 1, squares });
    let upright =
        decoded("transpose(quant.q4_0)", &[rows, columns], &values, &EncodeCx::new(0).with_calibration(&by_row));
    let cx = EncodeCx::new(0).with_calibration(&by_column);
    let on_its_side = decoded("quant.q4_0", &[columns, rows], &turned(rows, columns, &values), &cx);
    assert_eq!(turned(rows, columns, &upright), on_its_side);
}

#[test]
fn bytes_of_every_width_come_back() {
    for (dtype, shape) in [
        (Dtype::U8, vec![33, 65]),
        (Dtype::BF16, vec![40, 3, 7]),
        (Dtype::F32, vec![100, 33]),
        (Dtype::I64, vec![2, 70]),
        (Dtype::F4, vec![3, 8]),
        (Dtype::F32, vec![9]),
        (Dtype::F32, vec![0, 9]),
    ] {
        let spec = TensorSpec::new(dtype, shape).unwrap();
        let bytes: Vec<u8> = (0..spec.byte_len()).map(|i| (i * 89 + i / 256) as u8).collect();
        let tensor = TensorView::new(spec.clone(), &bytes).unwrap();
        let encoded = EncodedTensor::encode(codec("transpose(lossless.raw)"), tensor, &EncodeCx::new(0)).unwrap();
        assert_eq!(encoded.payload.bound(), Bound::Exact);
        assert_eq!(encoded.decode_bytes(&DecodeCx::new()).unwrap(), bytes, "{spec}");
    }
}

#[test]
fn a_sparse_child_that_refuses_the_values_alone_gets_the_tensor() {
    // 2:4, so that there are half as many values; the break-even of their matrix is below the rank.
    let gaussian = weights("gaussian", 64 * 64);
    let values: Vec<f32> = gaussian.iter().enumerate().map(|(i, w)| if i % 4 < 2 { *w } else { 0.0 }).collect();
    let tensor = TensorView::from_f32([64, 64], &values).unwrap();
    let encoded = EncodedTensor::encode(codec("sparse.nm(lowrank.svd:rank=25)"), tensor, &EncodeCx::new(0)).unwrap();
    assert!(encoded.payload.sections().keys().all(|name| name.starts_with("dense/")));
}

/// Rows of whole windows, of overlapping windows, and shorter than a vector.
const WIDTHS: [usize; 9] = [1, 3, 7, 16, 100, 384, 1000, 1024, 2500];

#[test]
fn rows_of_every_width_are_rotated_back() {
    for columns in WIDTHS {
        let values = weights("scale-mixed", 3 * columns);
        let decode = || decoded("hadamard(lossless.raw)", &[3, columns], &values, &EncodeCx::new(0));
        let back = decode();
        assert!(codec_api::rel_frobenius_error(&values, &back) < 1e-6, "{columns} columns");
        assert!(columns < 16 || back != values, "{columns} columns: nothing was rotated");
        for level in simd::Level::available() {
            assert_eq!(simd::with_level(level, decode), back, "{columns} columns at {level}");
        }
    }
}

#[test]
fn outliers_are_spread_and_gaussians_stay() {
    let shape = [128, 1000];
    let gaussian = weights("gaussian", 128 * 1000);
    let outliers: Vec<f32> =
        gaussian.iter().enumerate().map(|(i, w)| if i % 1000 % 100 == 7 { 10.0 * w } else { *w }).collect();
    let error = |spec: &str, values: &[f32]| measure(spec, &shape, values).relative_error.unwrap();
    let [alone, rotated] = ["quant.int:bits=4", "hadamard(quant.int:bits=4)"];
    assert!(error(rotated, &outliers) < 0.35 * error(alone, &outliers));
    let (rotated, alone) = (error(rotated, &gaussian), error(alone, &gaussian));
    assert!((rotated / alone - 1.0).abs() < 0.02, "{rotated} for {alone}");
}

#[test]
fn signs_follow_from_the_header_alone() {
    let (shape, values) = ([8, 96], weights("gaussian", 8 * 96));
    let of = |spec: &str, cx: &EncodeCx<'_>| decoded(spec, &shape, &values, cx);
    let first = of("hadamard(quant.int:bits=2)", &EncodeCx::new(0));
    assert_eq!(of("hadamard(quant.int:bits=2):seed=0:block=1024", &EncodeCx::new(7)), first);
    assert_ne!(of("hadamard(quant.int:bits=2):seed=1", &EncodeCx::new(0)), first);
    // Rows encoded alone decode to the same rows as in the whole tensor.
    let last: Vec<f32> = decoded("hadamard(quant.int:bits=2)", &[3, 96], &values[5 * 96..], &EncodeCx::new(0));
    assert_eq!(last, first[5 * 96..]);
}

#[test]
fn only_powers_of_two_are_blocks() {
    for block in ["0", "8", "100", "131072", "-16"] {
        let error = Registry::linked().unwrap().parse_spec(&format!("hadamard(quant.int):block={block}")).unwrap_err();
        assert!(error.to_string().contains("a power of two from 16 to 65536 is wanted"), "{error}");
    }
}

#[test]
fn sums_beyond_f32_are_unsuitable() {
    let encode = |value: f32| {
        let values = vec![value; 4 * 256];
        let tensor = TensorView::from_f32([4, 256], &values).unwrap();
        EncodedTensor::encode(codec("hadamard(quant.int):block=256"), tensor, &EncodeCx::new(0)).map(drop)
    };
    assert!(encode(f32::MAX / 17.0).is_ok());
    // In some window the signs add up to more than 16 of 256.
    let spike = [f32::MAX; 16];
    let tensor = TensorView::from_f32([16], &spike).unwrap();
    let answer = EncodedTensor::encode(codec("hadamard(lossless.raw):seed=3"), tensor, &EncodeCx::new(0));
    assert!(matches!(answer, Err(CodecError::Unsuitable { number, .. }) if number == f64::from(f32::MAX)));
}

#[test]
fn calibration_of_columns_is_not_one_of_rotated_columns() {
    let values = weights("gaussian", 32 * 64);
    let calibration = MeanSquares { axis: 1, squares: (0..64).map(|i| (i % 7) as f32 + 0.01).collect() };
    let with = EncodeCx::new(0).with_calibration(&calibration);
    let spec = "hadamard(quant.q4_0)";
    assert_eq!(decoded(spec, &[32, 64], &values, &with), decoded(spec, &[32, 64], &values, &EncodeCx::new(0)));
}

#[test]
fn rotated_inputs_give_the_products_of_the_decoded_matrix() {
    for columns in WIDTHS {
        let (rows, batch) = (5, 2);
        let values = weights("gaussian", (rows + batch) * columns);
        let (w, x) = values.split_at(rows * columns);
        let codec = codec("hadamard(quant.int:bits=4)");
        let encoded =
            EncodedTensor::encode(codec, TensorView::from_f32([rows, columns], w).unwrap(), &EncodeCx::new(0));
        let (encoded, mut y) = (encoded.unwrap(), vec![0.0; batch * rows]);
        let matrix = encoded.decode(&DecodeCx::new()).unwrap();
        let kernel = encoded.codec.require_linear().unwrap();
        let operator = kernel.prepare(&encoded.spec, encoded.payload.view()).unwrap();
        operator.apply(x, &mut y).unwrap();
        for (x, y) in x.chunks(columns).zip(y.chunks(rows)) {
            for (w, y) in matrix.chunks(columns).zip(y) {
                let products = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let norms = [w, x].map(|v| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt());
                let off = (products.sum::<f64>() - f64::from(*y)).abs();
                assert!(off <= f64::from(operator.tolerance()) * norms[0] * norms[1], "{columns} columns: {off}");
            }
        }
    }
}
