//! Tables for vector look-ups.

/// A table whose length is a power of two. Indices are taken modulo the length, so every index has
/// an entry.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a [u32]);

impl<'a> Table<'a> {
    /// `None` if the length is not a power of two, or is above 2³¹.
    pub fn new(entries: &'a [u32]) -> Option<Self> {
        (entries.len().is_power_of_two() && entries.len() <= 1 << 31).then_some(Self(entries))
    }

    /// The entry at `index`, modulo the length.
    #[inline(always)]
    pub fn get(self, index: u32) -> u32 {
        self.0[(index & self.mask()) as usize]
    }

    /// The entries.
    #[inline(always)]
    pub(crate) fn entries(self) -> &'a [u32] {
        self.0
    }

    /// The mask that reduces an index modulo the length.
    #[inline(always)]
    pub(crate) fn mask(self) -> u32 {
        (self.0.len() - 1) as u32
    }
}
