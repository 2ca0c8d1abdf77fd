//! Size and error against the figures in the documentation.

use codec_api::{Dtype, Progressive, Registry, TensorSpec};
use codec_seedlm as _;
use harness::testing::{measure, weights};

const SHAPE: [usize; 2] = [128, 512];

fn gaussian() -> Vec<f32> {
    weights("gaussian", SHAPE.iter().product())
}

fn nmse(spec: &str, values: &[f32]) -> f64 {
    measure(spec, &SHAPE, values).nmse.unwrap()
}

#[test]
fn gaussian_weights_cost_what_is_promised_at_every_magnitude() {
    let values = gaussian();
    let n = values.len() as u64;
    for (preset, bits, most) in
        [("4bit", 4 * n, 0.0132), ("3bit", n.div_ceil(12) * 36, 0.0475), ("2bit", n.div_ceil(13) * 26, 0.1310)]
    {
        let row = measure(&format!("seedlm:preset={preset}"), &SHAPE, &values);
        assert_eq!(row.bytes, Some(bits.div_ceil(8) + 2), "{preset}: the blocks, and a bias of two bytes");
        let error = row.nmse.unwrap();
        assert!(error <= most, "{preset}: NMSE {error}");
    }
    let normal = nmse("seedlm:search=2000", &values);
    for scale in [0.001, 0.02, 1e4, 1e30, 1e-30] {
        let scaled: Vec<f32> = values.iter().map(|w| w * scale).collect();
        let error = nmse("seedlm:search=2000", &scaled);
        assert!((error / normal - 1.0).abs() < 0.01, "times {scale:e}: NMSE {error}, not {normal}");
    }
}

#[test]
fn more_seeds_and_more_layers_are_better() {
    let values = gaussian();
    let errors = |specs: &[&str]| specs.iter().map(|spec| nmse(spec, &values)).collect::<Vec<_>>();
    let searches = errors(&["seedlm:search=16", "seedlm:search=256", "seedlm:search=4096"]);
    assert!(searches.windows(2).all(|e| e[1] < 0.8 * e[0]), "{searches:?}");
    let layers =
        errors(&["seedlm:k=12:layers=1", "seedlm:k=12:layers=2", "seedlm:k=12:layers=3", "seedlm:k=12:layers=4"]);
    assert!(layers.windows(2).all(|e| e[1] < 0.2 * e[0]), "{layers:?}");
}

#[test]
fn a_budget_of_bytes_buys_whole_levels() {
    let registry = Registry::linked().unwrap();
    let codec = registry.parse_spec("seedlm:layers=3").unwrap();
    let spec = TensorSpec::new(Dtype::F32, [800]).unwrap();
    // 100 blocks of 32 bits and a bias.
    let facet: &dyn Progressive = codec.as_progressive().unwrap();
    let within = |bytes| facet.level_within(&spec, bytes);
    assert_eq!([401, 402, 803, 804, 1206, 5000].map(within), [None, Some(0), Some(0), Some(1), Some(2), Some(2)]);
}
