//! The purposes of the combinators: less error, the other axis, any inner codec.

use codec_api::{
    BaseTensor, Calibration, Certificate, Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx,
    EncodedTensor, InputAxis, Payload, PayloadView, Registry, Result, Section, TensorSpec, TensorView, typetag,
};
use codec_compose::Residual;
use codec_lossless::Raw;
use codec_quant::{Cast, Target};
use harness::testing::weights;
use serde::{Deserialize, Serialize};

use crate::{codec, decoded, encoded};

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
    let of = |spec| encoded(spec, &shape, &values, &EncodeCx::new(0));
    let (alone, both) = (of("quant.int:bits=4"), of("residual(quant.int:bits=4,quant.int:bits=4)"));
    assert_eq!(both.payload.bytes(), 2 * alone.payload.bytes());
    let (alone, both) = (alone.certificate.rel_frobenius(), both.certificate.rel_frobenius());
    // The rest is uniform within a step: four more bits divide its error by a little more than 14.
    assert!(both < alone / 13.0, "{both} after {alone}");
}

/// Decodes to the weights with the other sign.
#[derive(Debug, Serialize, Deserialize)]
struct Opposite {}

#[typetag::serde(name = "test.opposite")]
impl Codec for Opposite {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.byte_len() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Payload> {
        Payload::new().with("data", Section::from_bytes(tensor.bytes().to_vec())?)
    }

    fn decode(&self, _: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let values = payload.values::<f32>("data", Dtype::U8, &[4 * out.len()])?;
        out.iter_mut().zip(values).for_each(|(w, value)| *w = -value);
        Ok(())
    }
}

#[test]
fn a_first_that_is_worse_than_zeros_is_refused() {
    let tensor = TensorView::from_f32([1, 3], &[1.0, -2.0, 3.0]).unwrap();
    let codec = Residual::new(Box::new(Opposite {}), Box::new(Raw::default()));
    let answer = codec.encode(tensor, &EncodeCx::new(0));
    let Err(CodecError::Unsuitable { reason, number }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("first codec") && number == 4.0, "{reason} ({number})");
    assert!(codec.encode(TensorView::from_f32([1, 3], &[0.0; 3]).unwrap(), &EncodeCx::new(0)).is_ok());
}

#[test]
fn a_second_that_makes_it_worse_is_refused() {
    let codec = Residual::new(Box::new(Cast::new(Target::Bf16)), Box::new(Opposite {}));
    let answer = codec.encode(TensorView::from_f32([1, 3], &[1.0, 2.001, 3.0]).unwrap(), &EncodeCx::new(0));
    let Err(CodecError::Unsuitable { reason, .. }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("first codec alone"), "{reason}");
    // Without a rest it cannot do harm.
    assert!(codec.encode(TensorView::from_f32([1, 3], &[1.0, 2.0, 3.0]).unwrap(), &EncodeCx::new(0)).is_ok());
}

#[test]
fn more_bytes_than_those_of_the_tensor_are_refused() {
    let values = weights("gaussian", 64 * 256);
    let view = TensorView::from_f32([64, 256], &values).unwrap();
    let answer = codec("residual(trellis:bits=16,residual(trellis:bits=16,trellis:bits=16))");
    let answer = EncodedTensor::encode(answer, view, &EncodeCx::new(0));
    let Err(CodecError::Unsuitable { reason, number }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("more bytes than the tensor") && number > 1.25, "{reason} ({number})");
    // Codecs of a fixed rate are taken at their word.
    let spec = TensorSpec::new(Dtype::BF16, [64, 256]).unwrap();
    let fixed = codec("residual(quant.int:bits=8,residual(quant.int:bits=8,quant.int:bits=8))").cost(&spec).bytes;
    assert!(fixed.start() == fixed.end() && *fixed.end() > 3 * 64 * 256);
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
    assert!(
        matches!(codec("residual(trellis,quant.int:group=tensor)").chunking(&spec), Chunking::Rows(n) if n.get() == 1)
    );
    assert_eq!(codec("residual(quant.int,lowrank.svd(lossless))").chunking(&spec), Chunking::Whole);
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
    let cx = |axis| EncodeCx::new(0).with_calibration(Calibration::new(axis, &squares));
    let upright = decoded("transpose(quant.q4_0)", &[rows, columns], &values, &cx(InputAxis::Rows));
    let on_its_side = turned(rows, columns, &values);
    let on_its_side = decoded("quant.q4_0", &[columns, rows], &on_its_side, &cx(InputAxis::Columns));
    assert_eq!(turned(rows, columns, &upright), on_its_side);
    let blind = decoded("transpose(quant.q4_0)", &[rows, columns], &values, &EncodeCx::new(0));
    assert_ne!(upright, blind);
}

#[test]
fn the_base_turns_too() {
    let spec = TensorSpec::new(Dtype::F32, [2, 5, 70]).unwrap();
    let base = weights("gaussian", spec.elements());
    let tuned: Vec<f32> = base.iter().enumerate().map(|(i, w)| if i % 50 == 0 { w + 0.01 } else { *w }).collect();
    let tensor = TensorView::from_f32(spec.shape(), &tuned).unwrap();
    let base = BaseTensor::new(TensorView::from_f32(spec.shape(), &base).unwrap());
    let (cx, decode_cx) = (EncodeCx::new(0).with_base(base.clone()), DecodeCx::new().with_base(base.clone()));
    let encode = |cx| EncodedTensor::encode(codec("transpose(delta.exact)"), tensor.clone(), cx).unwrap();
    let (with, without) = (encode(&cx), encode(&EncodeCx::new(0)));
    assert_eq!(with.payload.bases(), [base.id]);
    assert!(2 * with.payload.bytes() < without.payload.bytes());
    assert_eq!(with.decode(&decode_cx).unwrap(), tuned);
    assert_eq!(with.decode_bytes(&decode_cx).unwrap(), tensor.bytes());
    assert!(matches!(with.decode(&DecodeCx::new()), Err(CodecError::MissingBase { given: None, .. })));
    // A payload without a base ignores the base that is given.
    assert_eq!(without.decode(&decode_cx).unwrap(), tuned);
}

#[test]
fn bytes_of_every_width_come_back() {
    for (dtype, shape) in [
        (Dtype::U8, vec![33, 65]),
        (Dtype::BF16, vec![40, 3, 7]),
        (Dtype::BF16, vec![3, 4, 64]),
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
        assert!(encoded.certificate.exact);
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

#[test]
fn rows_of_every_width_are_rotated_back() {
    for columns in crate::WIDTHS {
        let values = weights("scale-mixed", 3 * columns);
        let decode = || decoded("hadamard(lossless.raw)", &[3, columns], &values, &EncodeCx::new(0));
        let back = decode();
        assert!(Certificate::measure(&values, &back).rel_frobenius() < 1e-6, "{columns} columns");
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
    let error =
        |spec: &str, values: &[f32]| encoded(spec, &shape, values, &EncodeCx::new(0)).certificate.rel_frobenius();
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
    let squares: Vec<f32> = (0..64).map(|i| (i % 7) as f32 + 0.01).collect();
    let with = EncodeCx::new(0).with_calibration(Calibration::new(InputAxis::Columns, &squares));
    let spec = "hadamard(quant.q4_0)";
    assert_eq!(decoded(spec, &[32, 64], &values, &with), decoded(spec, &[32, 64], &values, &EncodeCx::new(0)));
}
