//! Tables of contexts: which neighbours share a table, and how tables are written.

use std::ops::Range;

use crate::{Error, Frequencies, STATE_BYTES, information};

/// Most groups of contexts: the decoder's tables then take a mebibyte.
const MOST_GROUPS: usize = 64;

/// Neighbouring contexts in groups, with a table for each group; [`crate::plane`] documents the
/// layout.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Groups and tables in the form that a decoder reads.
    pub head: Vec<u8>,
    /// The table of each group.
    pub frequencies: Vec<Frequencies>,
    /// The group of each context; it ends at the last context.
    pub group: Vec<u8>,
    /// Size of head and symbols, in bytes.
    pub cost: f64,
}

/// How frequencies are written.
#[derive(Clone, Copy)]
enum Way {
    /// In the form of [`Frequencies::write`].
    Whole,
    /// Frequencies of the upper four bits only.
    Shared,
}

impl Way {
    /// Approximate size in bytes of symbols with these counts and a table of their own. All symbols
    /// lie in `used`.
    fn price(self, counts: &[u64; 256], used: &Range<usize>) -> f64 {
        match self {
            Self::Whole => {
                let counts = &counts[used.clone()];
                let used = counts.iter().position(|n| *n > 0).zip(counts.iter().rposition(|n| *n > 0));
                let total: u64 = counts.iter().sum();
                // A frequency of at least 128 of 4096 takes two bytes.
                let long = counts.iter().filter(|n| **n * 32 >= total && **n > 0).count();
                information(counts) / 8.0 + used.map_or(0.0, |(first, last)| (2 + last - first + long) as f64)
            }
            Self::Shared => {
                let bins = bins(counts);
                let total: u64 = bins.iter().sum();
                (information(&bins) + 4.0 * total as f64) / 8.0 + 16.0
            }
        }
    }

    fn table(self, counts: &[u64; 256], head: &mut Vec<u8>) -> Option<Frequencies> {
        match self {
            Self::Whole => {
                let frequencies = Frequencies::of_counts(counts)?;
                frequencies.write(head);
                Some(frequencies)
            }
            Self::Shared => {
                let shares = Shares::of_counts(counts)?;
                head.extend(shares.0.map(|share| share as u8));
                Some(shares.frequencies())
            }
        }
    }
}

/// Number of occurrences of each value of the upper four bits.
fn bins(counts: &[u64; 256]) -> [u64; 16] {
    let sixteens = counts.as_chunks::<16>().0;
    std::array::from_fn(|bin| sixteens[bin].iter().sum())
}

impl Tables {
    /// Tables for the symbols counted in each of at most 256 contexts, in the smaller of both ways;
    /// `None` without symbols.
    pub fn of_counts(counts: &[[u64; 256]]) -> Option<Self> {
        let all = total(counts);
        let used = all.iter().position(|n| *n > 0)?..all.iter().rposition(|n| *n > 0)? + 1;
        let (a, b) = (Self::written(Way::Whole, counts, &used)?, Self::written(Way::Shared, counts, &used)?);
        Some(if b.cost < a.cost { b } else { a })
    }

    fn written(way: Way, counts: &[[u64; 256]], used: &Range<usize>) -> Option<Self> {
        let groups = groups(counts, |counts| way.price(counts, used));
        let mut group = Vec::with_capacity(counts.len());
        let mut starts = Vec::with_capacity(groups.len());
        for (i, (members, _)) in groups.iter().enumerate() {
            starts.push(group.len() as u8);
            group.extend(std::iter::repeat_n(i as u8, *members));
        }
        // The first group starts at context 0, so its place holds the number of other groups.
        let mut head = vec![way as u8, groups.len() as u8 - 1];
        head.extend(&starts[1..]);
        let (mut frequencies, mut bits) = (Vec::with_capacity(groups.len()), 0.0);
        for (_, counts) in &groups {
            let table = way.table(counts, &mut head)?;
            bits += table.cost(counts);
            frequencies.push(table);
        }
        let cost = bits / 8.0 + head.len() as f64 + STATE_BYTES as f64;
        Some(Self { head, frequencies, group, cost })
    }

    /// Reads tables and moves `bytes` behind them. Gives the group of each context, and the tables.
    ///
    /// # Errors
    /// [`Error::Damaged`] for anything that is not the `head` of valid tables.
    pub fn read(bytes: &mut &[u8]) -> Result<([u8; 256], Vec<Frequencies>), Error> {
        let wrong = Error::Damaged("tables");
        let (&[way, others], rest) = bytes.split_first_chunk().ok_or(wrong)?;
        let (starts, rest) = rest.split_at_checked(others.into()).ok_or(wrong)?;
        *bytes = rest;
        let read = match way {
            0 => Frequencies::read,
            1 => Shares::read,
            _ => return Err(wrong),
        };
        let ascending = starts.first() != Some(&0) && starts.is_sorted_by(|a, b| a < b);
        if !ascending || starts.len() >= MOST_GROUPS {
            return Err(wrong);
        }
        let mut group = [0; 256];
        for start in starts {
            group[usize::from(*start)..].iter_mut().for_each(|group| *group += 1);
        }
        let frequencies = (0..=starts.len()).map(|_| read(bytes).ok_or(wrong)).collect::<Result<_, _>>()?;
        Ok((group, frequencies))
    }
}

/// Neighbouring contexts, and how often each symbol occurs in them; boxed, since groups move.
type Group = (usize, Box<[u64; 256]>);

/// Merges neighbours into groups while that lowers the total price or there are too many groups.
/// Gives the number of contexts and the counts of each group. Every group has a symbol, if any
/// symbol exists.
fn groups(counts: &[[u64; 256]], price: impl Fn(&[u64; 256]) -> f64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::with_capacity(counts.len());
    for counts in counts {
        let empty = counts.iter().all(|n| *n == 0);
        match groups.last_mut() {
            Some((members, last)) if empty || last.iter().all(|n| *n == 0) => {
                *members += 1;
                add(last, counts);
            }
            _ => groups.push((1, Box::new(*counts))),
        }
    }
    let mut prices: Vec<f64> = groups.iter().map(|(_, counts)| price(counts)).collect();
    // Cost of keeping group `i` and its right neighbour separate, compared with one table for both.
    let gain = |groups: &[Group], prices: &[f64], i: usize| {
        let mut both = *groups[i].1;
        add(&mut both, &groups[i + 1].1);
        prices[i] + prices[i + 1] - price(&both)
    };
    let mut gains: Vec<f64> = (1..groups.len()).map(|i| gain(&groups, &prices, i - 1)).collect();
    while let Some((i, best)) = gains.iter().copied().enumerate().rev().max_by(|a, b| a.1.total_cmp(&b.1))
        && (best > 0.0 || groups.len() > MOST_GROUPS)
    {
        let (members, right) = groups.remove(i + 1);
        groups[i].0 += members;
        add(&mut groups[i].1, &right);
        prices[i] = prices[i] + prices.remove(i + 1) - best;
        gains.remove(i);
        for pair in [i.checked_sub(1), Some(i)].into_iter().flatten().filter(|pair| pair + 1 < groups.len()) {
            gains[pair] = gain(&groups, &prices, pair);
        }
    }
    groups
}

/// The sum over all contexts.
pub(crate) fn total(counts: &[[u64; 256]]) -> [u64; 256] {
    let mut sums = [0; 256];
    for counts in counts {
        add(&mut sums, counts);
    }
    sums
}

fn add(sums: &mut [u64; 256], counts: &[u64; 256]) {
    sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
}

/// Frequencies of the upper four bits of a byte; they add up to 256.
struct Shares([u16; 16]);

impl Shares {
    fn of_counts(counts: &[u64; 256]) -> Option<Self> {
        let upper = bins(counts);
        if upper.iter().all(|n| *n == 0) {
            return None;
        }
        // Every bin gets a count, even if it does not occur here: a share is written in a byte, so
        // it cannot exceed 255.
        let upper = std::array::from_fn(|i| if i < 16 { upper[i] * 16 + 1 } else { 0 });
        let fine = Frequencies::of_counts(&upper)?;
        let mut shares: [u16; 16] = std::array::from_fn(|i| (fine.get(i as u8) / 16).max(1));
        // The largest share absorbs the rounding error.
        let sum: u16 = shares.iter().sum();
        let largest = (0..16).max_by_key(|i| (shares[*i], 16 - i))?;
        shares[largest] = (shares[largest] + 256).checked_sub(sum)?;
        Some(Self(shares))
    }

    /// Reads sixteen shares as frequencies and moves `bytes` behind them.
    fn read(bytes: &mut &[u8]) -> Option<Frequencies> {
        let (shares, rest) = bytes.split_first_chunk()?;
        let shares = Self(shares.map(u16::from));
        *bytes = rest;
        (shares.0.iter().sum::<u16>() == 256 && !shares.0.contains(&0)).then(|| shares.frequencies())
    }

    fn frequencies(&self) -> Frequencies {
        // 256 · 16 = 2¹², the sum of all frequencies.
        Frequencies::from_raw(&std::array::from_fn(|i| self.0[i / 16]))
    }
}
