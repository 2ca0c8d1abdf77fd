//! Tables that are looked up by vectors.

/// A table whose length is a power of two, so that every index, modulo that, has an entry.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a [u32]);

impl<'a> Table<'a> {
    /// `None` if the length is no power of two, or above 2³¹.
    pub fn new(entries: &'a [u32]) -> Option<Self> {
        (entries.len().is_power_of_two() && entries.len() <= 1 << 31).then_some(Self(entries))
    }

    /// The entry at this index, modulo the length.
    #[inline(always)]
    pub fn get(self, index: u32) -> u32 {
        self.0[(index & self.mask()) as usize]
    }

    /// The entries.
    #[inline(always)]
    pub(crate) fn entries(self) -> &'a [u32] {
        self.0
    }

    /// What to mask an index with.
    #[inline(always)]
    pub(crate) fn mask(self) -> u32 {
        (self.0.len() - 1) as u32
    }
}
