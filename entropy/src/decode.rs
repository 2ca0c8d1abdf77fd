//! From bytes to symbols.

use simd::{LANES, Table, kernel, lanes};

use crate::frequencies::{PRECISION, TOTAL};
use crate::states::{LaneSymbols, STATES, VECTORS};
use crate::{Error, Frequencies, States, check_contexts};

/// Decoding tables, one for each context.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// 2¹² entries for each context, padded to a power of two of contexts. An entry holds the
    /// frequency − 1 (12 bits), the symbol (8) and slot − start (12): the frequency, which is
    /// needed first, takes one operation.
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
                let common = (f - 1) << (32 - PRECISION) | u32::from(symbol) << PRECISION;
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
        let (whole, rest) = out.split_at_mut(states.whole_steps(out.len()));
        let mut at = states.at.clone();
        for out in whole.as_chunks_mut::<STATES>().0 {
            *out = all(&at.step(simd, table, &[[0; LANES]; VECTORS]));
        }
        states.at = at;
        for out in rest.chunks_mut(STATES) {
            let symbols = states.step(simd, table, &[[0; LANES]; VECTORS]);
            out.copy_from_slice(&symbols.as_flattened()[..out.len()]);
        }
        states
    }
}

kernel! {
    fn with_contexts<'s, 'a>(simd, states: States<'s>, table: Table<'a>, contexts: &'a [u8], out: &'a mut [u8]) -> States<'s> {
        let mut states = states;
        let (whole, rest) = out.split_at_mut(states.whole_steps(out.len()));
        let (of_whole, of_rest) = contexts.split_at(whole.len().min(contexts.len()));
        let mut at = states.at.clone();
        for (out, contexts) in whole.as_chunks_mut::<STATES>().0.iter_mut().zip(of_whole.as_chunks::<STATES>().0) {
            *out = all(&at.step(simd, table, &wide(contexts)));
        }
        states.at = at;
        for (out, contexts) in rest.chunks_mut(STATES).zip(of_rest.chunks(STATES)) {
            let mut padded = [0; STATES];
            padded[..contexts.len()].copy_from_slice(contexts);
            let symbols = states.step(simd, table, &wide(&padded));
            out.copy_from_slice(&symbols.as_flattened()[..out.len()]);
        }
        states
    }
}

/// The contexts of all states.
#[inline(always)]
fn wide(contexts: &[u8; STATES]) -> LaneSymbols<u32> {
    [lanes!(i => contexts[i].into()), lanes!(i => contexts[LANES + i].into())]
}

/// The symbols of all states.
#[inline(always)]
fn all([first, second]: &LaneSymbols<u8>) -> [u8; STATES] {
    let mut all = [0; STATES];
    all[..LANES].copy_from_slice(first);
    all[LANES..].copy_from_slice(second);
    all
}
