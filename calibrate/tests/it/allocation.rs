//! The choice of formats, against all choices.

use calibrate::{Offer, allocate};

/// Numbers that look random.
fn offers(tensors: usize, formats: usize, seed: u64) -> Vec<Vec<Offer>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let offer = |codec: usize, next: &mut dyn FnMut() -> f64| {
        let bytes = 10 + (100.0 * next()) as u64;
        Offer { codec, bytes, loss: (1.0 + next()) / bytes as f64 }
    };
    (0..tensors).map(|_| (0..formats).map(|codec| offer(codec, &mut next)).collect()).collect()
}

fn total(chosen: &[Offer]) -> (u64, f64) {
    (chosen.iter().map(|offer| offer.bytes).sum(), chosen.iter().map(|offer| offer.loss).sum())
}

/// The least loss of all choices that fit.
fn exhaustive(offers: &[Vec<Offer>], bytes: u64) -> Option<f64> {
    let Some((first, others)) = offers.split_first() else { return Some(0.0) };
    let fit = first.iter().filter(|offer| offer.bytes <= bytes);
    let losses = fit.filter_map(|offer| Some(offer.loss + exhaustive(others, bytes - offer.bytes)?));
    losses.min_by(f64::total_cmp)
}

#[test]
fn the_choice_fits_and_is_nearly_the_best() {
    for seed in 0..200 {
        let offers = offers(5, 4, seed);
        let smallest: u64 = offers.iter().filter_map(|of| of.iter().map(|offer| offer.bytes).min()).sum();
        assert!(allocate(&offers, smallest - 1).is_none());
        let mut before = f64::INFINITY;
        for bytes in (smallest..smallest + 300).step_by(29) {
            let (taken, loss) = total(&allocate(&offers, bytes).expect("a choice"));
            let best = exhaustive(&offers, bytes).expect("a choice");
            assert!(taken <= bytes && loss >= best - 1e-12, "seed {seed}");
            // A step that does not fit costs at most what the steepest one saves.
            let widest = offers.iter().flatten().map(|offer| offer.loss).fold(0.0, f64::max);
            assert!(loss <= best + widest, "seed {seed}: {loss} instead of {best} in {bytes}");
            before = f64::min(before, loss);
        }
        let (_, all) = total(&allocate(&offers, u64::MAX / 2).expect("a choice"));
        let least: f64 = offers.iter().map(|of| of.iter().map(|offer| offer.loss).fold(f64::INFINITY, f64::min)).sum();
        assert!((all - least).abs() < 1e-12 && before >= least - 1e-12);
    }
}

#[test]
fn a_tensor_without_offers_has_no_choice() {
    assert_eq!(allocate(&[vec![]], 100), None);
    assert_eq!(allocate(&[], 0), Some(Vec::new()));
}
