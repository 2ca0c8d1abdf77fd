//! Every setting at the ends of the float formats.

use laws::check_extremes;
use laws::proptest::prelude::*;
use laws::proptest::sample::select;

#[test]
fn seedlm_at_the_ends_of_the_formats() {
    let register = (select(&[8, 12, 16, 24][..]), 4..=16, 1..=4, 2..=6);
    let search = prop_oneof![Just(1), 2..200];
    let encoder = (select(&[1, 2, 4][..]), any::<bool>(), search, 1..=4, any::<bool>());
    let specs = (register, encoder).prop_map(|((k, c, p, mantissa), (per_octave, refine, search, layers, coded))| {
        format!(
            "seedlm:k={k}:c={c}:p={p}:mantissa_bits={mantissa}:per_octave={per_octave}:refine={refine}\
             :search={search}:layers={layers}:coded={coded}"
        )
    });
    check_extremes(specs);
}
