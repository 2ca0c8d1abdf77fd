//! Ranges of rows of `lossless.raw` and `lossless.bf16x12`.

use codec_api::{Codec, CodecError, DecodeCx, Dtype, EncodeCx, TensorSpec, TensorView};
use codec_lossless::{Bf16x12, Raw};

/// Bits of every kind, mostly those of weights.
fn stored(spec: &TensorSpec) -> Vec<u8> {
    let byte = |i: usize| if i % 97 < 3 { i * 89 } else { [i * 7, 0x3d + i / 2 % 3][i % 2] };
    (0..spec.byte_len()).map(|i| byte(i) as u8).collect()
}

#[test]
fn every_range_has_the_bits_of_decode() {
    let shapes = [&[][..], &[1], &[700], &[5, 33], &[3, 1030], &[2, 3, 64], &[7, 3, 5], &[0, 9]];
    let codecs: [&dyn Codec; 2] = [&Raw::default(), &Bf16x12::default()];
    for (codec, dtype) in codecs.iter().flat_map(|codec| [Dtype::F32, Dtype::F16, Dtype::BF16].map(|d| (codec, d))) {
        for shape in shapes {
            let spec = TensorSpec::new(dtype, shape).unwrap();
            if codec.accepts(&spec).is_err() {
                continue;
            }
            let (bytes, cx) = (stored(&spec), DecodeCx::new());
            let tensor = TensorView::new(spec.clone(), &bytes).unwrap();
            let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
            let source: Vec<u32> = tensor.to_f32().unwrap().iter().map(|v| v.to_bits()).collect();
            let reader = codec.as_rows().unwrap().open(&spec, payload.view(), &cx).unwrap();
            let (rows, columns) = spec.matrix();
            assert_eq!(reader.shape(), (rows, columns));
            assert!(reader.resident_bytes() <= payload.bytes());
            for (first, end) in (0..=rows).flat_map(|first| (first..=rows).map(move |end| (first, end))) {
                let mut out = vec![0.0; (end - first) * columns];
                reader.read(first..end, &mut out).unwrap();
                let same = out.iter().map(|v| v.to_bits()).eq(source[first * columns..end * columns].iter().copied());
                assert!(same, "rows {first}..{end} of {spec}");
            }
        }
    }
}

#[test]
fn integers_have_no_rows_of_floats() {
    let spec = TensorSpec::new(Dtype::I16, [4, 4]).unwrap();
    let payload = Raw::default().encode(TensorView::new(spec.clone(), &[7; 32]).unwrap(), &EncodeCx::new(0)).unwrap();
    let codec: &dyn Codec = &Raw::default();
    let opened = codec.as_rows().unwrap().open(&spec, payload.view(), &DecodeCx::new()).map(drop);
    let decoded = codec.decode(&spec, payload.view(), &DecodeCx::new(), &mut [0.0; 16]);
    for answer in [opened, decoded] {
        assert!(matches!(answer, Err(CodecError::Unsupported(_))), "{answer:?}");
    }
}
