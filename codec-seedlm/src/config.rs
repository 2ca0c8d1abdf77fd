//! The settings of `seedlm`.

use codec_api::{Bounded, FormatVersion};
use serde::{Deserialize, Serialize};

use crate::block::Shape;

/// Configuration of `seedlm`; see the [crate's documentation](crate) for the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SeedLm {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Bits of a seed, K.
    pub k: SeedBits,
    /// Weights of a block, C.
    pub c: Bounded<4, 16>,
    /// Coefficients of a block, P.
    pub p: Bounded<1, 4>,
    /// Bits of a coefficient's mantissa.
    pub mantissa_bits: Bounded<2, 6>,
    /// Exponents per octave: 1 as in the paper, 2 or 4 for a finer grid.
    pub per_octave: PerOctave,
    /// If true, the encoder searches all mantissas and exponents of a seed for the least error;
    /// otherwise it rounds the least-squares solution.
    pub refine: bool,
    /// The seeds that the encoder tries.
    pub search: Budget,
    /// Number of quality levels.
    pub layers: Bounded<1, 4>,
    /// Entropy-code exponents and mantissas.
    pub coded: bool,
}

impl Default for SeedLm {
    fn default() -> Self {
        Self::four_bit()
    }
}

impl SeedLm {
    /// Four bits a weight: C = 8, P = 3, K = 16.
    pub fn four_bit() -> Self {
        Self {
            version: FormatVersion,
            k: SeedBits(16),
            c: Bounded::at::<8>(),
            p: Bounded::at::<3>(),
            mantissa_bits: Bounded::at::<4>(),
            per_octave: PerOctave(2),
            refine: true,
            search: Budget::All,
            layers: Bounded::at::<1>(),
            coded: false,
        }
    }

    /// Three bits a weight: C = 12, P = 4, K = 16.
    pub fn three_bit() -> Self {
        Self { c: Bounded::at::<12>(), p: Bounded::at::<4>(), ..Self::four_bit() }
    }

    /// Two bits a weight: C = 13, P = 3, K = 16, and mantissas of two bits.
    pub fn two_bit() -> Self {
        Self { c: Bounded::at::<13>(), mantissa_bits: Bounded::at::<2>(), ..Self::four_bit() }
    }

    /// Three quality levels of 3.5 bits a weight each, from a small register that is quick to
    /// search: C = 8, P = 3, K = 12.
    pub fn progressive() -> Self {
        Self { k: SeedBits(12), ..Self::four_bit() }.layered(Bounded::at::<3>())
    }

    /// Sets the number of quality levels.
    #[must_use]
    pub fn layered(mut self, layers: Bounded<1, 4>) -> Self {
        self.layers = layers;
        self
    }

    /// Turns on entropy coding of exponents and mantissas.
    #[must_use]
    pub fn coded(mut self) -> Self {
        self.coded = true;
        self
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            seed_bits: self.k.get(),
            weights: self.c.get() as usize,
            rank: self.p.get() as usize,
            mantissa_bits: self.mantissa_bits.get(),
        }
    }
}

/// Bits of a seed: 8, 12, 16 or 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct SeedBits(u32);

/// Exponents per octave: 1, 2 or 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct PerOctave(u32);

macro_rules! one_of {
    ($name:ident, [$($value:literal),+], $wanted:literal) => {
        impl $name {
            /// `None` if the value is not allowed.
            pub const fn new(value: u32) -> Option<Self> {
                match value {
                    $($value)|+ => Some(Self(value)),
                    _ => None,
                }
            }

            /// The value.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = String;

            fn try_from(value: i64) -> Result<Self, String> {
                let known = u32::try_from(value).ok().and_then(Self::new);
                known.ok_or_else(|| format!("{value} is out of range: {} is wanted", $wanted))
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}
one_of!(SeedBits, [8, 12, 16, 24], "8, 12, 16 or 24");
one_of!(PerOctave, [1, 2, 4], "1, 2 or 4");

/// The seeds that an encoder tries for every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Budget {
    /// All seeds.
    All,
    /// This number of seeds, 1 to 2²⁴, drawn at random once for the tensor.
    Draw(u32),
}

/// Largest number of draws.
const MOST: i64 = 1 << 24;

/// Serialised form of a budget: a number or a word.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an integer from 1 to 16777216 or `all` is wanted")]
enum Text {
    Number(i64),
    Word(String),
}

impl TryFrom<Text> for Budget {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let found = match &text {
            Text::Number(n) if (1..=MOST).contains(n) => return Ok(Self::Draw(*n as u32)),
            Text::Word(word) if word == "all" => return Ok(Self::All),
            Text::Number(n) => n.to_string(),
            Text::Word(word) => format!("`{word}`"),
        };
        Err(format!("{found} is out of range: an integer from 1 to {MOST} or `all` is wanted"))
    }
}

impl From<Budget> for Text {
    fn from(budget: Budget) -> Self {
        match budget {
            Budget::All => Self::Word("all".to_owned()),
            Budget::Draw(n) => Self::Number(n.into()),
        }
    }
}
