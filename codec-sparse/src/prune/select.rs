//! Selection of the largest magnitudes of a row without sorting. Zeros are never selected.

use codec_api::{Cancel, Result};

use super::Rule;

/// Bits of |w|: they have the same order as the magnitudes.
pub(super) fn magnitude(weight: f32) -> u32 {
    weight.to_bits() & 0x7fff_ffff
}

/// For each of these finite weights, in rows of `columns`, whether to keep it. A density is that of
/// each row.
pub(super) fn select(rule: Rule, weights: &[f32], columns: usize, cancel: &Cancel) -> Result<Vec<bool>> {
    let mut kept = Vec::with_capacity(weights.len());
    match rule {
        Rule::Density { density, .. } => {
            for row in weights.chunks(columns.max(1)) {
                cancel.check()?;
                keep_largest(row, (density * row.len() as f64).ceil() as usize, &mut kept);
            }
        }
        Rule::Threshold { threshold } => {
            kept.extend(weights.iter().map(|w| f64::from(w.abs()) > threshold));
        }
        Rule::Pattern { pattern } => {
            for row in weights.chunks(columns.max(1)) {
                cancel.check()?;
                row.chunks(pattern.group()).for_each(|group| keep_in_group(group, pattern.kept(), &mut kept));
            }
        }
    }
    Ok(kept)
}

/// Keeps the `count` largest; among equal ones the first.
fn keep_largest(weights: &[f32], count: usize, kept: &mut Vec<bool>) {
    if count >= weights.len() {
        return keep(weights, 0, usize::MAX, kept);
    }
    let mut magnitudes: Vec<u32> = weights.iter().map(|w| magnitude(*w)).collect();
    // `count` is at least 1 and below the length; the smallest kept magnitude is the `count`-th
    // largest.
    let last = count.saturating_sub(1);
    let (_, smallest, _) = magnitudes.select_nth_unstable_by(last, |a, b| b.cmp(a));
    let smallest = *smallest;
    let above = magnitudes[..last].iter().filter(|m| **m > smallest).count();
    keep(weights, smallest, count - above, kept);
}

/// Keeps the weights with a magnitude above `least`, and the first `ties` of those with this one.
pub(super) fn keep(weights: &[f32], least: u32, mut ties: usize, kept: &mut Vec<bool>) {
    kept.extend(weights.iter().map(|w| {
        let m = magnitude(*w);
        let equal = m == least && ties > 0;
        ties -= usize::from(equal);
        m != 0 && (m > least || equal)
    }));
}

/// [`keep_largest`] for small groups of weights.
fn keep_in_group(weights: &[f32], count: usize, kept: &mut Vec<bool>) {
    kept.extend(weights.iter().enumerate().map(|(i, w)| {
        let m = magnitude(*w);
        let before = weights[..i].iter().filter(|other| magnitude(**other) >= m).count();
        let after = weights[i + 1..].iter().filter(|other| magnitude(**other) > m).count();
        m != 0 && before + after < count
    }));
}

#[cfg(test)]
mod tests {
    use codec_api::Cancel;

    use super::super::{Pattern, Scope};
    use super::*;

    fn kept(rule: Rule, weights: &[f32], columns: usize) -> Vec<usize> {
        let kept = select(rule, weights, columns, &Cancel::new()).unwrap();
        assert_eq!(kept.len(), weights.len());
        (0..kept.len()).filter(|i| kept[*i]).collect()
    }

    const WEIGHTS: [f32; 8] = [1.0, -3.0, 2.0, 3.0, -0.5, 2.0, -2.0, 0.0];

    #[test]
    fn a_density_keeps_the_largest_and_of_equal_ones_the_first() {
        let density = |density| Rule::Density { density, scope: Scope::Row };
        for (share, expected) in [
            (0.01, &[1][..]),
            (0.25, &[1, 3]),
            (0.26, &[1, 2, 3]),
            (0.5, &[1, 2, 3, 5]),
            (0.625, &[1, 2, 3, 5, 6]),
            (1.0, &[0, 1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(kept(density(share), &WEIGHTS, 8), expected, "{share}");
        }
        assert_eq!(kept(density(0.25), &WEIGHTS, 4), [1, 5]);
        assert_eq!(kept(density(0.5), &[0.0, -0.0, 0.0], 3), [0; 0]);
        assert_eq!(kept(density(0.5), &[], 0), [0; 0]);
    }

    #[test]
    fn a_threshold_is_not_kept_itself() {
        assert_eq!(kept(Rule::Threshold { threshold: 2.0 }, &WEIGHTS, 8), [1, 3]);
        assert_eq!(kept(Rule::Threshold { threshold: 0.0 }, &[0.0, -0.0, 1e-45], 3), [2]);
    }

    #[test]
    fn a_pattern_keeps_the_largest_of_each_group_also_of_the_last() {
        let pattern = |n, m| Rule::Pattern { pattern: Pattern::new(n, m).unwrap() };
        assert_eq!(kept(pattern(2, 4), &WEIGHTS, 8), [1, 3, 5, 6]);
        assert_eq!(kept(pattern(1, 4), &WEIGHTS, 8), [1, 5]);
        // Rows of 5 and of 3: groups restart in each row.
        assert_eq!(kept(pattern(1, 3), &WEIGHTS[..5], 5), [1, 3]);
        assert_eq!(kept(pattern(2, 2), &WEIGHTS, 8), [0, 1, 2, 3, 4, 5, 6]);
    }
}
