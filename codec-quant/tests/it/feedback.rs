//! Encoding in panels of weights that feedback makes much larger.

use codec_api::{CodecError, DecodeCx, EncodeCx, Registry, TensorView};
use harness::testing::weights;

const ROWS: usize = 5;
const COLUMNS: usize = 192;
const SPECS: [&str; 4] = [
    "quant.int:bits=4:group=64:symmetric=false",
    "quant.int:bits=3:group=64:clip=true",
    "quant.int:bits=4:group=tensor",
    "quant.nf4:double_quant=true",
];

#[test]
fn a_scale_beyond_its_format_becomes_the_largest_one() {
    let registry = Registry::linked().unwrap();
    let original = weights("gaussian", ROWS * COLUMNS);
    for spec in SPECS {
        let codec = registry.parse_spec(spec).unwrap();
        let (tensor, cx) = (TensorView::from_f32([ROWS, COLUMNS], &original).unwrap(), EncodeCx::new(0));
        let facet = codec.as_panels().unwrap();
        let width = facet.cut(tensor.spec()).unwrap().panel.get();
        let mut encoder = facet.begin(tensor.clone(), &cx).unwrap();
        let mut returned = vec![0.0; original.len()];
        for first in (0..COLUMNS).step_by(width) {
            // The last columns are far beyond what the first ones leave room for.
            let target =
                |row: usize, column: usize| original[row * COLUMNS + column] * if column < 128 { 1.0 } else { 1e9 };
            let panel: Vec<f32> =
                (0..ROWS).flat_map(|row| (first..first + width).map(move |column| target(row, column))).collect();
            encoder.start(&panel).unwrap();
            for (column, row) in (0..width).flat_map(|column| (0..ROWS).map(move |row| (column, row))) {
                let value = &mut returned[row * COLUMNS + first + column..][..1];
                value[0] = panel[row * width + column];
                encoder.encode(row..row + 1, first + column..first + column + 1, value).unwrap();
            }
        }
        let payload = encoder.finish().unwrap();
        let mut decoded = vec![0.0; original.len()];
        codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
        assert!(returned.iter().zip(&decoded).all(|(a, b)| a.to_bits() == b.to_bits()), "{spec}");
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // The scales of groups have some room; one grid, and double quantisation, have none, and
        // round the largest weight.
        let room = if spec.contains("group=64") { 8.0 } else { 0.99 };
        assert!(largest(&decoded) >= room * largest(&original), "{spec}: {}", largest(&decoded));
    }
}

#[test]
fn values_that_are_not_finite_are_named_by_their_place_in_the_tensor() {
    let registry = Registry::linked().unwrap();
    let original = weights("gaussian", ROWS * COLUMNS);
    for spec in SPECS {
        let codec = registry.parse_spec(spec).unwrap();
        let (tensor, cx) = (TensorView::from_f32([ROWS, COLUMNS], &original).unwrap(), EncodeCx::new(0));
        let facet = codec.as_panels().unwrap();
        let width = facet.cut(tensor.spec()).unwrap().panel.get();
        let mut panel = vec![0.5; ROWS * width];
        let mut encoder = facet.begin(tensor, &cx).unwrap();
        encoder.start(&panel).unwrap();
        let answer = encoder.encode(0..1, 0..1, &mut [f32::NAN]);
        assert!(matches!(answer, Err(CodecError::NonFinite { index: 0 })), "{spec}: {answer:?}");
        panel[2 * width] = f32::INFINITY;
        let mut encoder = facet.begin(TensorView::from_f32([ROWS, COLUMNS], &original).unwrap(), &cx).unwrap();
        let answer = encoder.start(&panel);
        assert!(matches!(answer, Err(CodecError::NonFinite { index }) if index == 2 * COLUMNS), "{spec}: {answer:?}");
    }
}
