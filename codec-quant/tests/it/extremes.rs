//! Every setting at the ends of the float formats.

use laws::check_extremes;
use laws::proptest::prelude::*;
use laws::proptest::sample::select;

#[test]
fn integers_at_the_ends_of_the_formats() {
    let group = prop_oneof![
        2 => (1u32..=16).prop_map(|n| (16 * n).to_string()),
        1 => Just("row".to_owned()),
        1 => Just("tensor".to_owned()),
    ];
    check_extremes((2..=8, group, any::<bool>(), any::<bool>()).prop_map(|(bits, group, symmetric, clip)| {
        format!("quant.int:bits={bits}:group={group}:symmetric={symmetric}:clip={clip}")
    }));
}

#[test]
fn ternary_weights_at_the_ends_of_the_formats() {
    let keys =
        (select(&["tensor", "row"][..]), select(&["least_squares", "absmean"][..]), select(&["trits", "lanes"][..]));
    check_extremes(
        keys.prop_map(|(scope, fit, packing)| format!("quant.ternary:scope={scope}:fit={fit}:packing={packing}")),
    );
}

#[test]
fn vectors_at_the_ends_of_the_formats() {
    check_extremes((2..=8, 2..=16, 0..=8).prop_filter_map("the decoder reads at most 16 bits", |keys| {
        let (length, bits, residual) = keys;
        (bits + residual <= 16).then(|| format!("quant.vector:length={length}:bits={bits}:residual_bits={residual}"))
    }));
}

#[test]
fn floats_at_the_ends_of_the_formats() {
    let specs = [
        "quant.nf4:double_quant=true",
        "quant.nf4:double_quant=false",
        "quant.fp8:format=e4m3:scope=tensor",
        "quant.fp8:format=e4m3:scope=row",
        "quant.fp8:format=e5m2:scope=tensor",
        "quant.fp8:format=e5m2:scope=row",
        "quant.cast:to=f16",
        "quant.cast:to=bf16",
        "quant.mxfp4",
        "quant.nvfp4",
    ];
    check_extremes(select(specs.map(str::to_owned).to_vec()));
}

#[test]
fn ggml_blocks_at_the_ends_of_the_formats() {
    let specs = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"];
    check_extremes(select(specs.map(|id| format!("quant.{id}")).to_vec()));
}
