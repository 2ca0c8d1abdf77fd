//! Size and error on a million Gaussian weights, compared with the known figures of the formats.

use harness::testing::{measure, weights};

const SHAPE: [usize; 2] = [1024, 1024];

fn gaussian() -> Vec<f32> {
    weights("gaussian", SHAPE.iter().product())
}

#[test]
fn gaussian_weights_cost_what_the_formats_promise() {
    let values = gaussian();
    let most = [
        ("quant.int:bits=4:group=128:symmetric=false", 4.17, 0.0102),
        ("quant.int:bits=4:group=128:symmetric=false:clip=true", 4.17, 0.0092),
        ("quant.int:bits=4:group=64:symmetric=false:clip=true", 4.32, 0.0077),
        ("quant.int:bits=8:group=32", 8.51, 3.0e-5),
        ("quant.nf4", 4.51, 0.0086),
        ("quant.nf4:double_quant=true", 4.13, 0.0086),
        ("quant.ternary", 1.61, 0.215),
        ("quant.ternary:fit=absmean", 1.61, 0.265),
        ("quant.cast:to=bf16", 16.0, 3.0e-6),
    ];
    for (spec, bits, error) in most {
        let row = measure(spec, &SHAPE, &values);
        let (found_bits, found_error) = (row.bits_per_weight.unwrap(), row.nmse.unwrap());
        assert!(found_bits <= bits && found_error <= error, "{spec}: {found_bits} bits per weight, NMSE {found_error}");
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = gaussian();
    for spec in [
        "quant.int:bits=8:group=32",
        "quant.int:bits=4:group=128:symmetric=false:clip=true",
        "quant.nf4",
        "quant.ternary",
    ] {
        let nmse = |values: &[f32]| measure(spec, &SHAPE, values).nmse.unwrap();
        let normal = nmse(&values);
        for factor in [1e-6, 1e30] {
            let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
            let error = nmse(&scaled);
            assert!((error / normal - 1.0).abs() < 0.01, "{spec} times {factor:e}: NMSE {error}, not {normal}");
        }
    }
}
