//! The states of a stream, sixteen in a vector, and the step that decodes a symbol from each state.

use simd::{LANES, Simd, Table, lanes, load};

use crate::frequencies::PRECISION;
use crate::{Error, LOWEST};

/// Number of vectors of states: while one waits for its table, the other one proceeds.
pub(crate) const VECTORS: usize = 2;

/// Number of states of a stream.
pub const STATES: usize = VECTORS * LANES;

/// Bytes of the states at the front of a stream.
pub const STATE_BYTES: usize = 4 * STATES;

/// Mask of the state bits that form the slot.
const SLOTS: u32 = (1 << PRECISION) - 1;

/// A value for each state: symbols, contexts or places in tables.
pub type LaneSymbols<T> = [[T; LANES]; VECTORS];

/// The states of a decoder, for models whose contexts depend on symbols just decoded.
/// [`Self::step`] decodes the next 32 symbols of the stream; call it in a loop inside
/// `simd::kernel!`.
#[derive(Clone, Debug)]
pub struct States<'a> {
    lanes: LaneSymbols<u32>,
    words: &'a [[u8; 2]],
    /// Index of the next word. Words beyond the end read as zeros; [`Self::finish`] detects that.
    next: usize,
    /// Symbols that are left.
    left: usize,
    /// Number of states.
    width: usize,
}

impl<'a> States<'a> {
    /// Reads the initial states of a stream of `symbols` symbols.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are too few for the states, or end with half a word.
    pub fn new(bytes: &'a [u8], symbols: usize) -> Result<Self, Error> {
        Self::narrow(bytes, symbols, STATES)
    }

    /// Like [`Self::new`], for a stream of `width` states, at most 32; see
    /// [`crate::Encoder::append_narrow`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn narrow(bytes: &'a [u8], symbols: usize, width: usize) -> Result<Self, Error> {
        let cut = Error::Damaged("it is cut off");
        let width = width.clamp(1, STATES);
        let (first, rest) = bytes.split_at_checked(4 * symbols.min(width)).ok_or(cut)?;
        let (words, []) = rest.as_chunks() else { return Err(cut) };
        let mut states = [[LOWEST; LANES]; VECTORS];
        for (state, bytes) in states.as_flattened_mut().iter_mut().zip(first.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        if states.as_flattened().iter().any(|state| *state < LOWEST) {
            return Err(Error::Damaged("a state is too small"));
        }
        Ok(Self { lanes: states, words, next: 0, left: symbols, width })
    }

    /// Decodes the next 32 symbols, which have these contexts. The last step may have fewer
    /// symbols; the other lanes are then meaningless.
    #[inline(always)]
    pub fn step<S: Simd>(&mut self, simd: S, table: Table<'_>, contexts: &LaneSymbols<u32>) -> LaneSymbols<u8> {
        if self.left < STATES || self.width < STATES {
            return self.one_by_one(table, contexts);
        }
        self.left -= STATES;
        let mut symbols = [[0; LANES]; VECTORS];
        for vector in 0..VECTORS {
            symbols[vector] = self.take(simd, table, &contexts[vector], vector);
        }
        symbols
    }

    /// A step of a narrow stream, or the last step.
    #[inline(never)]
    fn one_by_one(&mut self, table: Table<'_>, contexts: &LaneSymbols<u32>) -> LaneSymbols<u8> {
        let mut symbols = [[0; LANES]; VECTORS];
        let count = self.left.min(STATES);
        self.left -= count;
        for (i, (symbol, context)) in
            symbols.as_flattened_mut().iter_mut().zip(contexts.as_flattened()).take(count).enumerate()
        {
            let state = &mut self.lanes.as_flattened_mut()[i % self.width];
            let entry = table.get(context << PRECISION | *state & SLOTS);
            *state = ((entry >> PRECISION & SLOTS) + 1).wrapping_mul(*state >> PRECISION).wrapping_add(entry & SLOTS);
            if *state < LOWEST {
                let word = self.words.get(self.next).copied().unwrap_or_default();
                *state = *state << 16 | u32::from(u16::from_le_bytes(word));
                self.next += 1;
            }
            *symbol = (entry >> (2 * PRECISION)) as u8;
        }
        symbols
    }

    /// Decodes one symbol from each state of a vector.
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, table: Table<'_>, contexts: &[u32; LANES], vector: usize) -> [u8; LANES] {
        let old = self.lanes[vector];
        let places: [u32; LANES] = lanes!(i => contexts[i] << PRECISION | old[i] & SLOTS);
        let entries = simd.gather(table, &places);
        let states: [u32; LANES] = lanes!(i => ((entries[i] >> PRECISION & SLOTS) + 1).wrapping_mul(old[i] >> PRECISION).wrapping_add(entries[i] & SLOTS));
        let low = simd.below(&states, &[LOWEST; LANES]);
        let words: [[u8; 2]; LANES] = load(self.words.get(self.next..).unwrap_or_default());
        let words = simd.expand(&lanes!(i => u16::from_le_bytes(words[i]).into()), low);
        self.next += low.count_ones() as usize;
        self.lanes[vector] = lanes!(i => if states[i] < LOWEST { states[i] << 16 | words[i] } else { states[i] });
        lanes!(i => (entries[i] >> (2 * PRECISION)) as u8)
    }

    /// Symbols that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Checks that the stream ended correctly.
    ///
    /// # Errors
    /// [`Error::Damaged`] if symbols or words are left, or a final state is not the initial state
    /// of the encoder.
    pub fn finish(self) -> Result<(), Error> {
        let ended = self.left == 0 && self.next == self.words.len();
        if ended && self.lanes.as_flattened().iter().all(|state| *state == LOWEST) {
            return Ok(());
        }
        Err(Error::Damaged("it does not end where it should"))
    }
}
