//! How often each symbol occurs in each context.

use simd::kernel;

/// Number of symbols.
const SYMBOLS: usize = 256;

/// A row of counts for each context, with columns from the lowest to the highest symbol that
/// occurs, rounded to multiples of 16.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// The symbol of the first column.
    first: usize,
    columns: usize,
    rows: Vec<u64>,
}

/// Symbols whose places are computed at a time.
const PART: usize = 1 << 11;
/// Counters of one count; a power of two.
const TURNS: usize = 4;

impl Counts {
    /// Counts at least one symbol; there is a context for each.
    pub(crate) fn of(symbols: &[u8], contexts: &[u8]) -> Self {
        let extremes = symbols.iter().fold((u8::MAX, 0), |(low, high), s| (*s.min(&low), *s.max(&high)));
        let most = contexts.iter().fold(0, |most: u8, context| most.max(*context));
        let mut counts = Self::empty(extremes, usize::from(most) + 1);
        // Counters of 32 bits take less of the cache.
        for (symbols, contexts) in symbols.chunks(1 << 31).zip(contexts.chunks(1 << 31)) {
            counts.add(symbols, contexts);
        }
        counts
    }

    /// From all counts of each context; `None` without symbols.
    pub(crate) fn of_rows(rows: &[[u64; SYMBOLS]]) -> Option<Self> {
        let occurs = |symbol: &u8| rows.iter().any(|row| row[usize::from(*symbol)] > 0);
        let extremes = ((0..=u8::MAX).find(occurs)?, (0..=u8::MAX).rfind(occurs)?);
        let mut counts = Self::empty(extremes, rows.len());
        for (to, from) in counts.rows.chunks_mut(counts.columns).zip(rows) {
            to.copy_from_slice(&from[counts.first..][..counts.columns]);
        }
        Some(counts)
    }

    fn empty((low, high): (u8, u8), contexts: usize) -> Self {
        let first = usize::from(low & 0xf0);
        let columns = usize::from(high | 15) + 1 - first;
        Self { first, columns, rows: vec![0; contexts * columns] }
    }

    fn add(&mut self, symbols: &[u8], contexts: &[u8]) {
        // Four counters in turn, so that equal neighbours do not wait for each other; for few
        // symbols this saves less time than more counters take.
        let turns = if symbols.len() < 4 * self.rows.len() { 1 } else { TURNS };
        let mut counters = vec![0u32; turns * self.rows.len()];
        let mut places = [0; PART];
        for (symbols, contexts) in symbols.chunks(PART).zip(contexts.chunks(PART)) {
            find_places(symbols, contexts, self.first as u8, self.columns as u32, turns as u32, &mut places);
            let (some, rest) = places[..symbols.len()].as_chunks::<TURNS>();
            for some in some {
                for place in some {
                    counters[*place as usize] += 1;
                }
            }
            for place in rest {
                counters[*place as usize] += 1;
            }
        }
        for (sum, counters) in self.rows.iter_mut().zip(counters.chunks(turns)) {
            *sum += counters.iter().map(|n| u64::from(*n)).sum::<u64>();
        }
    }

    /// The counts of each context.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.rows.chunks(self.columns)
    }

    /// A row, or a sum of rows, as counts of all symbols.
    pub(crate) fn all_symbols(&self, row: &[u64]) -> [u64; SYMBOLS] {
        let mut counts = [0; SYMBOLS];
        counts[self.first..][..self.columns].copy_from_slice(row);
        counts
    }

    /// The sum over all contexts.
    pub(crate) fn total(&self) -> [u64; SYMBOLS] {
        let mut sums = vec![0; self.columns];
        for row in self.rows() {
            sums.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
        }
        self.all_symbols(&sums)
    }
}

kernel! {
    /// The place of the counter of each symbol, where each count has `turns` counters.
    fn find_places<'a>(_simd, symbols: &'a [u8], contexts: &'a [u8], first: u8, columns: u32, turns: u32, places: &'a mut [u32; PART]) {
        let turn = turns - 1;
        for (i, ((place, symbol), context)) in (0..).zip(places.iter_mut().zip(symbols).zip(contexts)) {
            let count = u32::from(*context) * columns + u32::from(symbol.wrapping_sub(first));
            *place = count * turns + (i & turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_is_counted_in_its_context() {
        for (n, contexts, low, high) in [(1, 1, 7, 7), (5000, 3, 120, 133), (5000, 256, 0, 255), (90_000, 40, 17, 200)]
        {
            let symbol = |i: usize| low + (i * i / 7 % (high - low + 1)) as u8 as usize;
            let symbols: Vec<u8> = (0..n).map(|i| symbol(i) as u8).collect();
            let given: Vec<u8> = (0..n).map(|i| (i / 3 % contexts) as u8).collect();
            let mut rows = vec![[0u64; SYMBOLS]; contexts];
            symbols.iter().zip(&given).for_each(|(s, c)| rows[usize::from(*c)][usize::from(*s)] += 1);
            let counts = Counts::of(&symbols, &given);
            assert!(counts.rows().map(|row| counts.all_symbols(row)).eq(rows.iter().copied()), "{n}, {contexts}");
            let again = Counts::of_rows(&rows).expect("symbols");
            assert!(again.rows().eq(counts.rows()));
            assert_eq!(counts.total().iter().sum::<u64>(), n as u64);
        }
        assert!(Counts::of_rows(&[[0; SYMBOLS]; 3]).is_none());
    }
}
