//! Every setting at the ends of the float formats.

use laws::check_extremes;
use laws::proptest::prelude::*;
use laws::proptest::sample::select;

/// Numbers from `least` to `most`, uniform on a logarithmic scale, and both ends.
fn between(least: f64, most: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(least),
        1 => Just(most),
        4 => (least.ln()..most.ln()).prop_map(move |log| log.exp().clamp(least, most)),
    ]
}

fn trellis() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        between(0.25, 16.0).prop_map(|bits| format!("bits={bits}")),
        between(1e-9, 1.0).prop_map(|error| format!("error={error}")),
        between(1e-30, 1e30).prop_map(|step| format!("step={step}")),
    ];
    let states = select(&[4, 8, 16, 32, 64, 128, 256, 1024][..]);
    let lambda = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    (states, target, lambda)
        .prop_map(|(states, target, lambda)| format!("trellis:states={states}:{target}:lambda={lambda}"))
}

#[test]
fn trellis_at_the_ends_of_the_formats() {
    check_extremes(trellis());
}

#[test]
fn the_low_rates_of_trellis_at_the_ends_of_the_formats() {
    // Thirty times smaller than F32, the rate at which a corrupt payload was once made.
    let bits = select(&[0.25, 0.5, 1.0, 1.0666, 1.4, 2.0][..]);
    let states = select(&[8, 256][..]);
    check_extremes((states, bits).prop_map(|(states, bits)| format!("trellis:states={states}:bits={bits}")));
}

#[test]
fn bitshift_at_the_ends_of_the_formats() {
    let code = select(&["1mad", "3inst"][..]);
    check_extremes(
        (1..=4, 10..=13, code)
            .prop_map(|(bits, states, code)| format!("trellis.bitshift:bits={bits}:state_bits={states}:code={code}")),
    );
}
