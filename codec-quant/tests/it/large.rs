//! Outputs large enough to be streamed past the caches.

use std::sync::Arc;

use codec_api::{Certificate, Codec, DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use simd::{Level, with_level};

/// Just above 16 MiB; the columns end within a block of lanes and within a group.
const ROWS: usize = 2049;
const COLUMNS: usize = 2050;
/// Rows of a chunk: whole blocks for every codec, and too few to be streamed.
const CHUNK: usize = 64;

fn encode(codec: &Arc<dyn Codec>, values: &[f32]) -> EncodedTensor {
    let tensor = TensorView::from_f32([values.len() / COLUMNS, COLUMNS], values).unwrap();
    EncodedTensor::encode(codec.clone(), tensor, &EncodeCx::new(0)).unwrap()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn a_large_tensor_decodes_as_its_chunks_do_at_every_level_and_address() {
    let registry = Registry::linked().unwrap();
    let values: Vec<f32> = (0..ROWS * COLUMNS).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.0 - 1.0).collect();
    let specs = [
        "quant.int:bits=8:group=row",
        "quant.int:bits=8:group=32",
        "quant.int:bits=4:group=128:symmetric=false",
        "quant.int:bits=3:group=48",
        "quant.nf4",
        "quant.nf4:double_quant=true",
        "quant.cast:to=f16",
        "quant.cast:to=bf16",
        "quant.ternary:scope=row",
    ];
    for spec in specs {
        let codec = registry.parse_spec(spec).unwrap();
        let whole = encode(&codec, &values);
        let reference = whole.decode(&DecodeCx::new()).unwrap();
        assert_eq!(whole.certificate.max_abs, Certificate::measure(&values, &reference).max_abs, "{spec}");
        let reader = whole.open_rows(&DecodeCx::new()).unwrap();
        let mut part = vec![f32::NAN; CHUNK * COLUMNS];
        for first in [0, 1, CHUNK, ROWS - CHUNK] {
            reader.read(first..first + CHUNK, &mut part).unwrap();
            let same = same_bits(&part, &reference[first * COLUMNS..(first + CHUNK) * COLUMNS]);
            assert!(same, "{spec}: a reader has other rows from {first}");
        }
        // Double quantisation shares scales over more rows than a chunk has.
        if !spec.contains("double_quant") {
            for first in [0, CHUNK, 10 * CHUNK] {
                let rows = first * COLUMNS..(first + CHUNK) * COLUMNS;
                let part = encode(&codec, &values[rows.clone()]).decode(&DecodeCx::new()).unwrap();
                assert!(same_bits(&part, &reference[rows]), "{spec}: rows from {first} differ");
            }
        }
        let mut buffer = vec![f32::NAN; values.len() + 3];
        for (level, offset) in Level::available().into_iter().zip([1, 2, 3]) {
            let out = &mut buffer[offset..][..values.len()];
            with_level(level, || codec.decode(&whole.spec, whole.payload.view(), &DecodeCx::new(), out)).unwrap();
            assert!(same_bits(out, &reference), "{spec}: other bits at {level}");
            out.fill(f32::NAN);
        }
    }
}
