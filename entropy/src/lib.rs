//! Entropy coding for codecs: interleaved range asymmetric numeral systems (rANS) with static tables.
//!
//! Symbols are bytes. Each has a context, which chooses the [`Frequencies`] it is coded with; the decoder must know the contexts, or
//! find them as it goes ([`States`]). Thirty-two states take turns, so that vectors code sixteen symbols at once; the bytes do not
//! depend on the CPU.
//!
//! ```
//! use entropy::{Decoder, Encoder, Frequencies};
//!
//! let symbols = b"abracadabra";
//! let frequencies = [Frequencies::of_symbols(symbols).ok_or("no symbols")?];
//! let bytes = Encoder::new(&frequencies).encode(symbols, &[])?;
//! let mut decoded = [0; 11];
//! Decoder::new(&frequencies).decode(&bytes, &[], &mut decoded)?;
//! assert_eq!(&decoded, symbols);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! Duda, *Asymmetric numeral systems*, arXiv 1311.2540; interleaving as in Giesen, arXiv 1402.3392.
//!
//! # Stream
//! Frequencies `f` add up to 2¹² (written as [`Frequencies::write`] has it); `start` of a symbol is the sum of those below it. Integers are little-endian. A state is an integer from 2¹⁶ to 2³² − 1. Symbol `i` belongs to state `i mod 32`. The stream begins with the
//! states that a decoder starts from, U32, one for each symbol if there are fewer than 32; then come U16 words. To decode a
//! symbol from state `x`: the slot is `x mod 2¹²`, the symbol `s` is the one with `start(s) ≤ slot < start(s) + f(s)`, and `x` becomes
//! `f(s)·⌊x/2¹²⌋ + slot − start(s)`, times 2¹⁶ plus the next word if it is below 2¹⁶. Each group of 32 symbols reads its words in the order of
//! its symbols. All states end at 2¹⁶, where the encoder began, and no word is left over. A narrow stream is the same with fewer states.

mod decode;
mod encode;
mod frequencies;
pub mod parametric;
pub mod plane;
mod scales;
mod states;
mod tables;

pub use decode::Decoder;
pub use encode::Encoder;
pub use frequencies::{Frequencies, PRECISION, count};
pub use scales::Scales;
pub use states::{LaneSymbols, STATES, States};
pub use tables::Tables;

/// Where every state begins at encoding, and ends at decoding.
const LOWEST: u32 = 1 << 16;

/// Why a stream is not coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A symbol to encode has no place in its table.
    #[error("symbol {symbol} has frequency 0 in context {context}")]
    Impossible {
        /// The symbol.
        symbol: u8,
        /// Its context.
        context: u8,
    },
    /// There are neither no contexts nor as many as symbols.
    #[error("{contexts} contexts for {symbols} symbols")]
    Contexts {
        /// Contexts given.
        contexts: usize,
        /// Symbols to code.
        symbols: usize,
    },
    /// A context has no table.
    #[error("context {context}: there are {tables} tables")]
    NoTable {
        /// The context.
        context: u8,
        /// Tables given.
        tables: usize,
    },
    /// A part of a stream is neither a multiple of 32 symbols nor all that are left.
    #[error("{symbols} symbols, where {left} are left: a part must be a multiple of 32, or all of them")]
    Part {
        /// Symbols asked for.
        symbols: usize,
        /// Symbols left.
        left: usize,
    },
    /// The bytes are not those of a stream of so many symbols.
    #[error("the rANS stream is damaged: {0}")]
    Damaged(&'static str),
}

/// Checks that there is a context for each symbol, or none, and a table for each context.
fn check_contexts(contexts: &[u8], symbols: usize, tables: usize) -> Result<(), Error> {
    if !contexts.is_empty() && contexts.len() != symbols {
        return Err(Error::Contexts { contexts: contexts.len(), symbols });
    }
    // Without contexts, all symbols have the first.
    let largest = contexts.iter().fold(0, |most, context| *context.max(&most));
    if symbols > 0 && usize::from(largest) >= tables {
        return Err(Error::NoTable { context: largest, tables });
    }
    Ok(())
}
