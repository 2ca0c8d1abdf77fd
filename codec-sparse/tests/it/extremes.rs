//! Every setting at the ends of the float formats.

use laws::check_extremes;
use laws::proptest::prelude::*;
use laws::proptest::sample::select;

/// Codecs for the values: exact ones, and lossy ones that refuse some tensors.
fn inner() -> impl Strategy<Value = String> {
    let inner = ["", "(lossless.zstd)", "(quant.int:bits=4)", "(quant.cast:to=f16)", "(quant.q8_0)"];
    select(inner.map(str::to_owned).to_vec())
}

fn form() -> impl Strategy<Value = (String, String)> {
    let groups = (2usize..=16).prop_flat_map(|m| (1..m, Just(m))).prop_map(|(n, m)| format!(":n={n}:m={m}"));
    prop_oneof![
        select(&["u32", "narrow", "gap", "coded"][..])
            .prop_map(|index| ("sparse.csr".into(), format!(":index={index}"))),
        select(&["sparse.coo", "sparse.bitmap", "sparse"][..]).prop_map(|id| (id.into(), String::new())),
        groups.prop_map(|keys| ("sparse.nm".into(), keys)),
    ]
}

#[test]
fn sparse_forms_at_the_ends_of_the_formats() {
    check_extremes((form(), inner()).prop_map(|((id, keys), inner)| format!("{id}{inner}{keys}")));
}

#[test]
fn pruning_at_the_ends_of_the_formats() {
    let density = prop_oneof![Just(1.0), Just(1e-9), Just(0.999), 1e-3..1.0];
    let rule = prop_oneof![
        (density, select(&["tensor", "row"][..])).prop_map(|(d, scope)| format!("density={d}:scope={scope}")),
        select(&["0", "1e-45", "1e-30", "0.1", "65504", "1e30", "3.4e38", "1e300"][..])
            .prop_map(|threshold| format!("threshold={threshold}")),
        (2usize..=16).prop_flat_map(|m| (1..m, Just(m))).prop_map(|(n, m)| format!("pattern={n}of{m}")),
    ];
    check_extremes((inner(), rule).prop_map(|(inner, rule)| format!("sparse.prune{inner}:{rule}")));
}
