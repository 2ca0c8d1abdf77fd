//! Entropy coding for codecs: interleaved range asymmetric numeral systems (rANS) with static
//! tables.
//!
//! Symbols are bytes. The context of a symbol selects the [`Frequencies`] that code it. The decoder
//! must know the contexts in advance, or derive them during decoding ([`States`]). Thirty-two rANS
//! states take turns, so that a vector register codes sixteen symbols at once. The encoded bytes do
//! not depend on the CPU.
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
//! Integers are little-endian. Frequencies `f` add up to 2¹² ([`Frequencies::write`] documents how
//! they are written). The `start` of a symbol is the sum of the frequencies of all lower symbols. A
//! state is an integer from 2¹⁶ to 2³² − 1. Symbol `i` belongs to state `i mod 32`. The stream
//! consists of
//! - the initial states of the decoder, U32: 32, or one for each symbol if there are fewer;
//! - words, U16.
//!
//! To decode a symbol from state `x`, let the slot be `x mod 2¹²`. The symbol `s` is the one with
//! `start(s) ≤ slot < start(s) + f(s)`. The state becomes `f(s)·⌊x/2¹²⌋ + slot − start(s)`; if this
//! is below 2¹⁶, it is multiplied by 2¹⁶, and the next word is added. Each group of 32 symbols
//! reads its words in the order of its symbols. At the end all states are 2¹⁶, the initial state of
//! the encoder, and no word is left. A narrow stream ([`Encoder::append_narrow`]) has the same form
//! with fewer states.
//!
//! # Table size
//! Tables have 2¹² slots. Codecs with larger alphabets code the leading bits of a number as the
//! symbol and store the other bits raw.

mod counts;
mod decode;
mod encode;
mod frequencies;
mod logarithms;
pub mod parametric;
pub mod plane;
mod scales;
mod states;
mod tables;

pub use decode::Decoder;
pub use encode::Encoder;
pub use frequencies::{Frequencies, PRECISION, count};
pub use logarithms::information;
pub use scales::Scales;
pub use states::{LaneSymbols, STATE_BYTES, STATES, States};
pub use tables::Tables;

/// Initial value of every state in the encoder, and final value in the decoder.
const LOWEST: u32 = 1 << 16;

/// Why encoding or decoding failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A symbol to encode has frequency 0 in its table.
    #[error("symbol {symbol} has frequency 0 in context {context}")]
    Impossible {
        /// The symbol.
        symbol: u8,
        /// Its context.
        context: u8,
    },
    /// `contexts` is neither empty nor as long as the symbols.
    #[error("{contexts} contexts for {symbols} symbols")]
    Contexts {
        /// Number of contexts.
        contexts: usize,
        /// Number of symbols.
        symbols: usize,
    },
    /// A context has no table.
    #[error("context {context}: there are {tables} tables")]
    NoTable {
        /// The context.
        context: u8,
        /// Number of tables.
        tables: usize,
    },
    /// The length of a part is neither a multiple of 32 symbols nor all symbols that are left.
    #[error("{symbols} symbols, where {left} are left: a part must be a multiple of 32, or all of them")]
    Part {
        /// Number of symbols requested.
        symbols: usize,
        /// Number of symbols left.
        left: usize,
    },
    /// There is not enough memory for this number of symbols.
    #[error("no memory for {0} symbols")]
    Memory(usize),
    /// The bytes are not a stream of this number of symbols.
    #[error("the rANS stream is damaged: {0}")]
    Damaged(&'static str),
}

/// Checks that there is one context for each symbol, or none at all, and a table for each context.
fn check_contexts(contexts: &[u8], symbols: usize, tables: usize) -> Result<(), Error> {
    if !contexts.is_empty() && contexts.len() != symbols {
        return Err(Error::Contexts { contexts: contexts.len(), symbols });
    }
    // Without contexts, all symbols have context 0.
    let largest = contexts.iter().fold(0, |most, context| *context.max(&most));
    if symbols > 0 && usize::from(largest) >= tables {
        return Err(Error::NoTable { context: largest, tables });
    }
    Ok(())
}
