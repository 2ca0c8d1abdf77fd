//! `delta(inner)`.

use codec_api::{BaseTensor, Calibration, CodecError, Dtype, EncodeCx, InputAxis, Registry, TensorSpec, TensorView};

use crate::support::{codec, decoded, delta_error, encoded, fine_tuned, round_trip};

#[test]
fn every_preset_is_there_when_its_children_are_linked() {
    let registry = Registry::linked().unwrap();
    let presets: Vec<_> = registry.presets().map(|(entry, name, _)| format!("{}:{name}", entry.id)).collect();
    for wanted in ["delta:int4", "delta:rank8", "delta:largest10", "delta.sign:default"] {
        assert!(presets.iter().any(|preset| preset == wanted), "{wanted} is not in {presets:?}");
    }
}

#[test]
fn the_error_is_that_of_the_result() {
    let (values, base) = fine_tuned(64 * 256, 0.01);
    let (encoded, decoded) = round_trip("delta:preset=int4", &[64, 256], &values, &base);
    // Four bits leave an error of about 9 % of a Gaussian difference, and a hundredth of that
    // relative to the result.
    let of_delta = delta_error(&values, &decoded, &base);
    let of_result = encoded.certificate.rel_frobenius();
    assert!((0.07..0.12).contains(&of_delta), "{of_delta}");
    assert!((of_result / of_delta / 0.01 - 1.0).abs() < 0.03, "{of_result} of {of_delta}");
}

#[test]
fn an_exact_child_leaves_only_rounding() {
    let (values, base) = fine_tuned(64 * 64, 0.3);
    let (encoded, _) = round_trip("delta(lossless.raw)", &[64, 64], &values, &base);
    let largest = values.iter().fold(0.0, |m: f32, w| m.max(w.abs()));
    assert!(encoded.certificate.max_abs <= f64::from(largest * f32::EPSILON));
    assert!(!encoded.certificate.exact);
    assert!(encoded.codec.as_lossless().is_none());
}

#[test]
fn a_change_of_low_rank_is_found() {
    let (rows, columns) = (96, 160);
    let base = fine_tuned(rows * columns, 1.0).1;
    let factor = |k: usize, i: usize| ((i * (2 * k + 3) % 17) as f32 - 8.0) / 8.0;
    let change = |i: usize| (0..5).map(|k| factor(k, i / columns) * factor(k + 5, i % columns)).sum::<f32>();
    let values: Vec<f32> = base.iter().enumerate().map(|(i, b)| b + 0.01 * change(i)).collect();
    let (encoded, decoded) = round_trip("delta:preset=rank8", &[rows, columns], &values, &base);
    let error = delta_error(&values, &decoded, &base);
    assert!(error < 1e-3, "{error}");
    assert!(encoded.payload.bytes() < 4300, "{}", encoded.payload.bytes());
}

#[test]
fn the_largest_changes_alone() {
    let (values, base) = fine_tuned(64 * 256, 0.01);
    let (_, decoded) = round_trip("delta:preset=largest10", &[64, 256], &values, &base);
    let changed = decoded.iter().zip(&base).filter(|(d, b)| d != b).count();
    assert!((1600..=1639).contains(&changed), "{changed} of 16384");
}

#[test]
fn children_that_do_not_fit_are_refused() {
    let spec = TensorSpec::new(Dtype::BF16, [40, 20]).unwrap();
    assert!(codec("delta(lowrank.svd(quant.int):rank=4)").accepts(&spec).is_ok());
    for refused in ["delta(delta.sign)", "delta(quant.q8_0)", "delta(lowrank.svd(delta.sign):rank=4)"] {
        assert!(matches!(codec(refused).accepts(&spec), Err(CodecError::Unsupported(_))), "{refused}");
    }
    let integers = TensorSpec::new(Dtype::I16, [4, 20]).unwrap();
    assert!(matches!(codec("delta(lossless.raw)").accepts(&integers), Err(CodecError::Unsupported(_))));
}

#[test]
fn calibration_is_the_childs() {
    let (values, base) = fine_tuned(32 * 64, 0.1);
    let squares: Vec<f32> = (0..64).map(|i| 0.01 + (i % 7) as f32).collect();
    let [tensor, base_view] = [&values, &base].map(|v| TensorView::from_f32([32, 64], v).unwrap());
    let calibration = Calibration::new(InputAxis::Columns, &squares);
    let cx = EncodeCx::new(7).with_base(BaseTensor::new(base_view)).with_calibration(calibration);
    let with = codec("delta(quant.q4_0)").encode(tensor, &cx).unwrap();
    let without = encoded("delta(quant.q4_0)", &[32, 64], &values, &base).unwrap();
    assert_ne!(with.sections(), without.payload.sections());
    decoded(&without, &base).unwrap();
}
