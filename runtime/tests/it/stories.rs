//! A trained model.

use std::path::Path;

use runtime::{CacheType, Options};

use crate::support::{logits, open};

/// The first 64 tokens of the first text that the reference was computed on.
const FIRST: [u32; 64] = [
    1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 381, 261, 259, 266, 418, 422,
    329, 295, 395, 274, 266, 418, 422, 351, 358, 401, 396, 399, 284, 425, 402, 426, 274, 266, 418, 422, 286, 262, 427,
    411, 429, 417, 412, 421, 267, 311, 329, 429, 412, 425, 372, 281, 286, 318, 416, 417, 456,
];

/// The first logits of the last of these tokens, computed in 64 bits with other software.
const LAST: [f64; 8] = [
    -12.474_959_558_495_666,
    -3.602_889_178_924_355_6,
    -12.474_882_363_100_683,
    -12.474_062_379_270_075,
    -12.475_031_988_348_732,
    -12.476_102_216_039_529,
    -12.473_282_412_464_698,
    -12.475_474_320_418_1,
];

#[test]
fn logits_are_those_of_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k");
    let decoder = open(&path, Options::new(2)).unwrap();
    for piece in [64, 1] {
        let all = logits(&decoder, &FIRST, piece, CacheType::F32);
        for (found, expected) in all[63].iter().zip(LAST) {
            assert!((f64::from(*found) - expected).abs() < 2e-4, "{found}, not {expected}");
        }
        let best = (0..512).max_by(|&a, &b| all[63][a].total_cmp(&all[63][b])).unwrap();
        assert!(best == 425 && (all[63][best] - 21.372_31).abs() < 2e-4, "{best}: {}", all[63][best]);
    }
}
