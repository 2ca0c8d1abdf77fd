//! Size and error against the figures that the documentation gives.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Progressive, Registry, TensorView};
use codec_seedlm as _;
use harness::suite::{Suite, SuiteOptions};

fn gaussian() -> Vec<f32> {
    let suite = Suite::parse("gaussian:128x512", &SuiteOptions::default()).unwrap();
    suite.items[0].view().unwrap().to_f32().unwrap().into_owned()
}

/// Bytes of the sections, and ‖w − ŵ‖² / ‖w‖².
fn measure(spec: &str, values: &[f32]) -> (u64, f64) {
    let registry = Registry::linked().unwrap();
    let tensor = TensorView::from_f32([128, 512], values).unwrap();
    let encoded = EncodedTensor::encode(registry.parse_spec(spec).unwrap(), tensor, &EncodeCx::new(0)).unwrap();
    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = values.iter().zip(&decoded).map(|(w, d)| square(w - d)).sum();
    (encoded.payload.bytes(), error / values.iter().map(|w| square(*w)).sum::<f64>())
}

#[test]
fn gaussian_weights_cost_what_is_promised_at_every_magnitude() {
    let values = gaussian();
    let n = values.len() as u64;
    for (preset, bits, most) in
        [("4bit", 4 * n, 0.0132), ("3bit", n.div_ceil(12) * 36, 0.0475), ("2bit", n.div_ceil(13) * 26, 0.1310)]
    {
        let (bytes, error) = measure(&format!("seedlm:preset={preset}"), &values);
        assert_eq!(bytes, bits.div_ceil(8) + 2, "{preset}: the blocks, and a bias of two bytes");
        assert!(error <= most, "{preset}: NMSE {error}");
    }
    let (_, normal) = measure("seedlm:search=2000", &values);
    for scale in [0.001, 0.02, 1e4, 1e30, 1e-30] {
        let scaled: Vec<f32> = values.iter().map(|w| w * scale).collect();
        let (_, error) = measure("seedlm:search=2000", &scaled);
        assert!((error / normal - 1.0).abs() < 0.01, "times {scale:e}: NMSE {error}, not {normal}");
    }
}

#[test]
fn more_seeds_and_more_layers_are_better() {
    let values = gaussian();
    let errors = |specs: &[&str]| specs.iter().map(|spec| measure(spec, &values).1).collect::<Vec<_>>();
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
    let values = vec![0.5; 800];
    let spec = TensorView::from_f32([800], &values).unwrap().spec().clone();
    // 100 blocks of 32 bits and a bias.
    let facet: &dyn Progressive = codec.as_progressive().unwrap();
    let within = |bytes| facet.level_within(&spec, bytes);
    assert_eq!([401, 402, 803, 804, 1206, 5000].map(within), [None, Some(0), Some(0), Some(1), Some(2), Some(2)]);
}
