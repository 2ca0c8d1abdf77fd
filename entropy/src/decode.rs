//! From bytes to symbols.

use simd::{LANES, Table, kernel, lanes, load, store};

use crate::frequencies::{PRECISION, TOTAL};
use crate::states::{STATES, VECTORS};
use crate::{Error, Frequencies, States, check_contexts};

/// Decoding tables, one for each context.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// 2¹² entries for each context, padded to a power of two of contexts. An entry holds the
    /// symbol (8 bits), the frequency − 1 (12) and slot − start (12).
    entries: Vec<u32>,
    contexts: usize,
}

impl Decoder {
    /// Builds a table of 16 KiB for each context; there must be 1 to 256 contexts.
    pub fn new(frequencies: &[Frequencies]) -> Self {
        let slots = TOTAL as usize;
        let mut entries = vec![0; frequencies.len().next_power_of_two() * slots];
        for (table, frequencies) in entries.chunks_mut(slots).zip(frequencies) {
            for (symbol, start, f) in frequencies.ranges() {
                let common = u32::from(symbol) << (2 * PRECISION) | (f - 1) << PRECISION;
                for (entry, offset) in table[start as usize..][..f as usize].iter_mut().zip(0..) {
                    *entry = common | offset;
                }
            }
        }
        Self { entries, contexts: frequencies.len() }
    }

    /// The tables for [`States::step`]: the table of context `c` is the `c`-th. A context without a
    /// table decodes to arbitrary symbols.
    pub fn table(&self) -> Option<Table<'_>> {
        Table::new(&self.entries)
    }

    /// Decodes `out.len()` symbols. `contexts` holds one context for each symbol, or is empty if
    /// all symbols have context 0.
    ///
    /// # Errors
    /// [`Error::Damaged`] for bytes that [`crate::Encoder::encode`] did not write for this number
    /// of symbols (not every change of a byte is found); [`Error::Contexts`] and
    /// [`Error::NoTable`].
    pub fn decode(&self, bytes: &[u8], contexts: &[u8], out: &mut [u8]) -> Result<(), Error> {
        check_contexts(contexts, out.len(), self.contexts)?;
        let mut states = States::new(bytes, out.len())?;
        self.run(&mut states, contexts, out)?;
        states.finish()
    }

    /// Decodes the next `out.len()` symbols of a stream: a multiple of 32, or all that are left.
    ///
    /// # Errors
    /// [`Error::Part`] for any other number; [`Error::Contexts`] and [`Error::NoTable`].
    pub fn decode_part(&self, states: &mut States<'_>, contexts: &[u8], out: &mut [u8]) -> Result<(), Error> {
        check_contexts(contexts, out.len(), self.contexts)?;
        let left = states.left();
        if out.len() != left && (out.len() > left || !out.len().is_multiple_of(STATES)) {
            return Err(Error::Part { symbols: out.len(), left });
        }
        self.run(states, contexts, out)
    }

    fn run(&self, states: &mut States<'_>, contexts: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let Some(table) = self.table() else { return Err(Error::NoTable { context: 0, tables: 0 }) };
        // The states move into the kernel and back by value: behind a pointer they would stay in
        // memory.
        *states = if contexts.is_empty() {
            plain(states.clone(), table, out)
        } else {
            with_contexts(states.clone(), table, contexts, out)
        };
        Ok(())
    }
}

kernel! {
    fn plain<'s, 'a>(simd, states: States<'s>, table: Table<'a>, out: &'a mut [u8]) -> States<'s> {
        let mut states = states;
        for out in out.chunks_mut(STATES) {
            let symbols = states.step(simd, table, &[[0; LANES]; VECTORS]);
            put(&symbols, out);
        }
        states
    }
}

kernel! {
    fn with_contexts<'s, 'a>(simd, states: States<'s>, table: Table<'a>, contexts: &'a [u8], out: &'a mut [u8]) -> States<'s> {
        let mut states = states;
        for (out, contexts) in out.chunks_mut(STATES).zip(contexts.chunks(STATES)) {
            let (first, second) = contexts.split_at(contexts.len().min(LANES));
            let [first, second]: [[u8; LANES]; VECTORS] = [load(first), load(second)];
            let symbols = states.step(simd, table, &[lanes!(i => first[i].into()), lanes!(i => second[i].into())]);
            put(&symbols, out);
        }
        states
    }
}

#[inline(always)]
fn put(symbols: &[[u8; LANES]; VECTORS], out: &mut [u8]) {
    let (first, second) = out.split_at_mut(out.len().min(LANES));
    store(symbols[0], first);
    store(symbols[1], second);
}
