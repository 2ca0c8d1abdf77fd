//! Every codec of the crate names its base, and refuses any other.

use codec_api::{BaseTensor, CodecError, DecodeCx, Dtype, EncodeCx, TensorSpec, TensorView};

use crate::support::{codec, decoded, encoded, fine_tuned, round_trip};

const SPECS: [&str; 4] =
    ["delta.sign", "delta(quant.int:bits=4)", "delta(lossless.raw)", "delta(sparse.prune(sparse):density=0.1)"];
const SHAPE: [usize; 2] = [24, 40];

fn hex(id: [u8; 32]) -> String {
    id.map(|byte| format!("{byte:02x}")).concat()
}

#[test]
fn a_missing_or_other_base_is_named() {
    let (values, base) = fine_tuned(24 * 40, 0.1);
    let (id, other) = [&base, &values].map(|b| hex(BaseTensor::new(TensorView::from_f32(SHAPE, b).unwrap()).id)).into();
    for spec in SPECS {
        let encoded = encoded(spec, &SHAPE, &values, &base).unwrap();
        let missing = encoded.decode(&DecodeCx::new()).unwrap_err();
        assert!(matches!(missing, CodecError::MissingBase { .. }), "{spec}: {missing}");
        assert!(missing.to_string().contains(&id) && missing.to_string().contains("--base"), "{spec}: {missing}");
        let wrong = decoded(&encoded, &values).unwrap_err();
        assert!(matches!(wrong, CodecError::MissingBase { .. }), "{spec}: {wrong}");
        assert!(wrong.to_string().contains(&id) && wrong.to_string().contains(&other), "{spec}: {wrong}");
    }
}

#[test]
fn a_base_of_another_spec_is_refused_on_both_ways() {
    let (values, base) = fine_tuned(24 * 40, 0.1);
    let turned = || TensorView::from_f32([40, 24], &base).unwrap();
    let halves = TensorSpec::new(Dtype::BF16, SHAPE).unwrap();
    let bytes = little_endian(&base);
    let halves = || TensorView::new(halves.clone(), &bytes[..halves.byte_len()]);
    for spec in SPECS {
        let tensor = || TensorView::from_f32(SHAPE, &values).unwrap();
        for other in [turned(), halves().unwrap()] {
            let cx = EncodeCx::new(7).with_base(BaseTensor::new(other));
            let refused = codec(spec).encode(tensor(), &cx).unwrap_err();
            assert!(matches!(refused, CodecError::Unsupported(_)), "{spec}: {refused}");
        }
        // The same bytes in another shape have the same blake3.
        let encoded = encoded(spec, &SHAPE, &values, &base).unwrap();
        let refused = encoded.decode(&DecodeCx::new().with_base(BaseTensor::new(turned()))).unwrap_err();
        assert!(matches!(refused, CodecError::Unsupported(_)), "{spec}: {refused}");
    }
}

#[test]
fn a_base_that_is_not_finite_is_unsuitable() {
    let (values, mut base) = fine_tuned(24 * 40, 0.1);
    base[77] = f32::NEG_INFINITY;
    base[99] = f32::NAN;
    for spec in SPECS {
        match encoded(spec, &SHAPE, &values, &base) {
            Err(CodecError::Unsuitable { reason, number }) => {
                assert!(reason.contains("base") && number == 77.0, "{spec}: {reason} {number}");
            }
            answer => panic!("{spec}: {answer:?}"),
        }
    }
}

#[test]
fn a_tensor_equal_to_its_base_comes_back_bit_by_bit() {
    let mut base = fine_tuned(24 * 40, 0.1).1;
    base[..6].copy_from_slice(&[0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-45]);
    for spec in SPECS {
        let (_, decoded) = round_trip(spec, &SHAPE, &base, &base);
        assert!(decoded.iter().zip(&base).all(|(d, b)| d.to_bits() == b.to_bits()), "{spec}");
    }
}

#[test]
fn both_ends_of_f32_are_held() {
    let (ends, others) = ([f32::MAX, f32::MIN, f32::MAX, 0.0], [f32::MIN, f32::MAX, f32::MAX, -0.0]);
    for spec in SPECS {
        for (values, base) in [(ends, others), (others, ends), (ends, ends.map(|w| -w))] {
            let [tensor, base] = [&values, &base].map(|w| TensorView::from_f32([2, 2], w).unwrap());
            let (codec, cx) = (codec(spec), EncodeCx::new(7).with_base(BaseTensor::new(base)));
            // Some would have no certificate, because zeros are nearer.
            let payload = codec.encode(tensor.clone(), &cx).unwrap_or_else(|e| panic!("{spec}: {e}"));
            let mut decoded = [f32::NAN; 4];
            codec.decode(tensor.spec(), payload.view(), &cx.decoding(), &mut decoded).unwrap();
            assert!(decoded.iter().all(|w| w.is_finite()), "{spec}: {decoded:?}");
        }
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
