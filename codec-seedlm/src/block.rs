//! The code of a block of weights: a seed, an exponent and a few mantissas.

/// Largest number of coefficients of a block.
pub(crate) const MAX_RANK: usize = 4;
/// Largest number of weights of a block.
pub(crate) const MAX_BLOCK: usize = 16;
/// Number of values of the exponent field.
pub(crate) const EXPONENTS: usize = 16;
/// Bits of the exponent field.
pub(crate) const EXPONENT_BITS: u32 = EXPONENTS.ilog2();

/// The parameters of a block's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bits of a seed, K.
    pub(crate) seed_bits: u32,
    /// Weights of a block, C.
    pub(crate) weights: usize,
    /// Coefficients of a block, P.
    pub(crate) rank: usize,
    /// Bits of a mantissa.
    pub(crate) mantissa_bits: u32,
}

/// Evaluates an expression with the rank as the constant `$P`:
/// `with_rank!(shape.rank, P => f::<P>())`.
macro_rules! with_rank {
    ($rank:expr, $P:ident => $value:expr) => {
        match $rank {
            1 => crate::block::with_rank!(@ $P = 1, $value),
            2 => crate::block::with_rank!(@ $P = 2, $value),
            3 => crate::block::with_rank!(@ $P = 3, $value),
            _ => crate::block::with_rank!(@ $P = 4, $value),
        }
    };
    (@ $P:ident = $rank:literal, $value:expr) => {{
        const $P: usize = $rank;
        $value
    }};
}
pub(crate) use with_rank;

impl Shape {
    /// Number of seeds: all states of the register except zero.
    pub(crate) fn seeds(&self) -> u32 {
        (1 << self.seed_bits) - 1
    }

    /// Bits of a block.
    pub(crate) fn bits(&self) -> usize {
        (self.seed_bits + EXPONENT_BITS) as usize + self.rank * self.mantissa_bits as usize
    }

    /// Bytes of all blocks of `n` weights.
    pub(crate) fn bytes(&self, n: usize) -> usize {
        (n.div_ceil(self.weights) * self.bits()).div_ceil(8)
    }

    /// Sign-extends the mantissa in the lowest bits of a byte.
    #[inline(always)]
    pub(crate) fn mantissa(&self, bits: u8) -> i8 {
        let unused = u8::BITS - self.mantissa_bits;
        // Shifting to the top and back fills the byte with the sign bit.
        bits.wrapping_shl(unused) as i8 >> unused
    }

    /// The middle state, which represents 0.
    pub(crate) fn middle(&self) -> i32 {
        1 << (self.seed_bits - 1)
    }

    /// Divisor of a state's distance from the middle; the quotient, an element of the basis, is in
    /// −1 … 1.
    pub(crate) fn divisor(&self) -> f64 {
        f64::from(self.middle() - 1)
    }

    /// The largest mantissa; the smallest is `−largest − 1`.
    pub(crate) fn largest_mantissa(&self) -> i32 {
        (1 << (self.mantissa_bits - 1)) - 1
    }

    /// Distance of a state from the middle: an integer element of a basis.
    #[inline(always)]
    pub(crate) fn element(&self, state: u32) -> i32 {
        state as i32 - self.middle()
    }

    /// The element `j` steps after a word's seed.
    #[inline(always)]
    pub(crate) fn element_of_word(&self, word: u128, j: usize) -> i32 {
        self.element((word >> j) as u32 & self.seeds())
    }
}

/// One encoded block. The order breaks ties: of codes with the same error, the smallest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Code {
    /// State of the register before the basis.
    pub(crate) seed: u32,
    /// The exponent field, relative to the tensor's bias.
    pub(crate) exponent: u8,
    /// The mantissas; those beyond the rank are 0.
    pub(crate) mantissas: [i8; MAX_RANK],
}

impl Code {
    /// A block of zeros.
    pub(crate) const ZERO: Self = Self { seed: 1, exponent: 0, mantissas: [0; MAX_RANK] };

    /// Packs seed, exponent and mantissas, from the lowest bit up.
    pub(crate) fn to_bits(self, shape: Shape) -> u64 {
        let mut bits = u64::from(self.seed) | u64::from(self.exponent) << shape.seed_bits;
        let mut place = shape.seed_bits + EXPONENT_BITS;
        let mask = (1 << shape.mantissa_bits) - 1;
        for mantissa in &self.mantissas[..shape.rank] {
            bits |= (u64::from(*mantissa as u8) & mask) << place;
            place += shape.mantissa_bits;
        }
        bits
    }

    /// The inverse of [`Self::to_bits`]; higher bits are ignored.
    #[inline(always)]
    pub(crate) fn from_bits(bits: u64, shape: Shape) -> Self {
        let mut code = Self {
            seed: bits as u32 & shape.seeds(),
            exponent: (bits >> shape.seed_bits) as u8 & (EXPONENTS as u8 - 1),
            mantissas: [0; MAX_RANK],
        };
        let mut place = shape.seed_bits + EXPONENT_BITS;
        for mantissa in &mut code.mantissas[..shape.rank] {
            *mantissa = shape.mantissa((bits >> place) as u8);
            place += shape.mantissa_bits;
        }
        code
    }
}
