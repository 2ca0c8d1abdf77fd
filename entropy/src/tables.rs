//! Tables of contexts: which neighbours share a table, and how tables are written.

use crate::counts::Counts;
use crate::logarithms::information_of;
use crate::{Error, Frequencies, STATE_BYTES};

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
    /// Approximate size in bytes of `total` symbols with these counts and a table of their own. The
    /// first symbol is a multiple of 16.
    fn price(self, counts: &[u64], total: u64) -> f64 {
        match self {
            Self::Whole => {
                let used = counts.iter().position(|n| *n > 0).zip(counts.iter().rposition(|n| *n > 0));
                // A frequency of at least 128 of 4096 takes two bytes.
                let long = counts.iter().filter(|n| **n * 32 >= total && **n > 0).count();
                information_of(counts, total) / 8.0 + used.map_or(0.0, |(first, last)| (2 + last - first + long) as f64)
            }
            Self::Shared => {
                let bins: Vec<u64> = counts.chunks(16).map(|bin| bin.iter().sum()).collect();
                (information_of(&bins, total) + 4.0 * total as f64) / 8.0 + 16.0
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
        Self::of(&Counts::of_rows(counts)?)
    }

    /// The same for counts of at least one symbol.
    pub(crate) fn of(counts: &Counts) -> Option<Self> {
        let whole = Self::written(Way::Whole, counts)?;
        // In the other way no frequency is above 255, so that a symbol takes more than four bits.
        let symbols: u64 = counts.rows().flatten().sum();
        if whole.cost <= symbols as f64 / 2.0 {
            return Some(whole);
        }
        let shared = Self::written(Way::Shared, counts)?;
        Some(if shared.cost < whole.cost { shared } else { whole })
    }

    fn written(way: Way, counts: &Counts) -> Option<Self> {
        let groups = groups(counts, way);
        let mut group = Vec::with_capacity(counts.rows().len());
        let mut starts = Vec::with_capacity(groups.len());
        for (i, Group { contexts, .. }) in groups.iter().enumerate() {
            starts.push(group.len() as u8);
            group.extend(std::iter::repeat_n(i as u8, *contexts));
        }
        // The first group starts at context 0, so its place holds the number of other groups.
        let mut head = vec![way as u8, groups.len() as u8 - 1];
        head.extend(&starts[1..]);
        let (mut frequencies, mut bits) = (Vec::with_capacity(groups.len()), 0.0);
        for Group { sums, .. } in &groups {
            let sums = counts.all_symbols(sums);
            let table = way.table(&sums, &mut head)?;
            bits += table.cost(&sums);
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

/// Neighbouring contexts that share a table.
struct Group {
    /// Number of contexts.
    contexts: usize,
    /// How often each symbol occurs in them.
    sums: Vec<u64>,
    /// Sum of the sums.
    total: u64,
    /// Size of the symbols and their table.
    price: f64,
    /// What this table and the next one together cost more than one table for both.
    gain: f64,
}

impl Group {
    fn add(&mut self, counts: &[u64]) {
        self.sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
}

/// Merges neighbours into groups while that lowers the total price or there are too many groups.
/// Every group has a symbol, if any symbol exists.
fn groups(counts: &Counts, way: Way) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::with_capacity(counts.rows().len());
    for counts in counts.rows() {
        let total = counts.iter().sum();
        match groups.last_mut() {
            Some(last) if total == 0 || last.total == 0 => {
                last.contexts += 1;
                last.total += total;
                last.add(counts);
            }
            _ => groups.push(Group { contexts: 1, sums: counts.to_vec(), total, price: 0.0, gain: 0.0 }),
        }
    }
    for group in &mut groups {
        group.price = way.price(&group.sums, group.total);
    }
    let mut both = Vec::new();
    let mut gain = |groups: &[Group], i: usize| {
        let Some([group, next]) = groups.get(i..i + 2) else { return f64::NEG_INFINITY };
        both.clear();
        both.extend(group.sums.iter().zip(&next.sums).map(|(a, b)| a + b));
        group.price + next.price - way.price(&both, group.total + next.total)
    };
    for i in 1..groups.len() {
        groups[i - 1].gain = gain(&groups, i - 1);
    }
    while let Some((i, best)) = best(&groups)
        && (best > 0.0 || groups.len() > MOST_GROUPS)
    {
        let next = groups.remove(i + 1);
        let group = &mut groups[i];
        group.contexts += next.contexts;
        group.total += next.total;
        group.price += next.price - best;
        group.add(&next.sums);
        for i in i.saturating_sub(1)..=i {
            if i + 1 < groups.len() {
                groups[i].gain = gain(&groups, i);
            }
        }
    }
    groups
}

/// The first group with the largest gain, if there are two groups.
fn best(groups: &[Group]) -> Option<(usize, f64)> {
    let (_, pairs) = groups.split_last()?;
    let gains = pairs.iter().map(|group| group.gain).enumerate();
    gains.reduce(|best, gain| if gain.1 > best.1 { gain } else { best })
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
