//! Stacks of experts are the matrix of all their rows, and chunks of a `Conv1D` are its rows.

use std::sync::Arc;

use codec_api::{
    BaseTensor, Calibration, Chunking, Codec, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Need, Registry, TensorView,
};
use codecs as _;

use crate::golden_files::weights;

/// A context with whatever the codec uses.
fn context<'a>(codec: &dyn Codec, axis: InputAxis, squares: &'a [f32], base: &BaseTensor<'a>) -> EncodeCx<'a> {
    let mut cx = EncodeCx::for_tensor(0, "experts");
    cx.base = (codec.needs().base != Need::No).then(|| base.clone());
    cx.calibration = (codec.needs().calibration != Need::No).then(|| Calibration::new(axis, squares));
    cx
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// `[8, 128, 256]` and `[1024, 256]` of the same numbers decode to the same weights.
#[test]
fn stacks_have_the_error_of_their_matrices() {
    let registry = Registry::linked().unwrap();
    let values = weights([1024, 256]);
    let other: Vec<f32> = values.iter().map(|w| w * 1.01).collect();
    let squares: Vec<f32> = (0..256u16).map(|i| 0.1 + f32::from(i % 7)).collect();
    // Probes stand for slow presets.
    let fast = registry.presets().filter(|(entry, ..)| !entry.slow_presets).map(|(_, _, codec)| codec);
    let probes = registry.entries().filter(|entry| entry.slow_presets).flat_map(|entry| (entry.probes)());
    for codec in fast.chain(probes.map(|spec| registry.parse_spec(&spec).unwrap())) {
        let spec = registry.spec_of(&*codec);
        let encode = |shape: &[usize]| {
            let base = BaseTensor::new(TensorView::from_f32(shape, &other)?);
            let cx = context(&*codec, InputAxis::Columns, &squares, &base);
            let encoded = EncodedTensor::encode(Arc::clone(&codec), TensorView::from_f32(shape, &values)?, &cx)?;
            let decoded = encoded.decode(&cx.decoding())?;
            Ok::<_, codec_api::CodecError>((encoded.certificate, bits(&decoded)))
        };
        let answers = std::thread::scope(|scope| {
            let stack = scope.spawn(|| encode(&[8, 128, 256]));
            (encode(&[1024, 256]), stack.join().unwrap())
        });
        match answers {
            (Ok(matrix), Ok(stack)) => {
                assert!(matrix.0 == stack.0, "{spec}: {:?}, {:?}", matrix.0, stack.0);
                assert!(matrix.1 == stack.1, "{spec}");
            }
            (Err(a), Err(b)) => assert!(a.is_refusal() && b.is_refusal(), "{spec}: {a}, {b}"),
            (a, b) => panic!("{spec}: {:?}, {:?}", a.map(|a| a.0), b.map(|b| b.0)),
        }
    }
}

/// A calibrated `Conv1D` in chunks decodes to the weights of the whole, for codecs without
/// statistics or blocks that span rows.
#[test]
fn calibrated_chunks_along_the_inputs_equal_the_whole() {
    let registry = Registry::linked().unwrap();
    let values = weights([96, 256]);
    let squares: Vec<f32> = (0..96u16).map(|i| 0.01 + f32::from(i % 11)).collect();
    for spec in
        ["quant.int:bits=4:group=64", "quant.nf4", "quant.q4_k", "quant.iq4_nl", "quant.mxfp4", "quant.fp8:scope=row"]
    {
        let codec = registry.parse_spec(spec).unwrap();
        let view = TensorView::from_f32([96, 256], &values).unwrap();
        let base = BaseTensor::new(view.clone());
        let cx = context(&*codec, InputAxis::Rows, &squares, &base);
        let whole = EncodedTensor::encode(Arc::clone(&codec), view.clone(), &cx).unwrap();
        let whole = whole.decode(&DecodeCx::new()).unwrap();
        assert!(matches!(codec.chunking(view.spec()), Chunking::Rows(step) if 96 / 8 % step == 0), "{spec}");
        for chunks in [1, 3, 8] {
            let mut decoded = Vec::new();
            for first in (0..96).step_by(96 / chunks) {
                let rows = first..first + 96 / chunks;
                let cx = cx.for_rows(view.spec(), rows.clone()).unwrap();
                let chunk = view.rows(rows.start, rows.end).unwrap();
                let encoded = EncodedTensor::encode(Arc::clone(&codec), chunk, &cx).unwrap();
                decoded.extend(encoded.decode(&DecodeCx::new()).unwrap());
            }
            assert!(bits(&decoded) == bits(&whole), "{spec} in {chunks} chunks");
        }
    }
}
