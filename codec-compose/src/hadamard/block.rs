//! The key `block`.

use serde::{Deserialize, Serialize};

/// Number of columns rotated together, if a row has as many: a power of two from 16 to 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Block(u32);

impl Block {
    /// `None` unless `columns` is a power of two from 16 to 65536.
    pub const fn new(columns: u32) -> Option<Self> {
        if columns.is_power_of_two() && 16 <= columns && columns <= 1 << 16 { Some(Self(columns)) } else { None }
    }

    /// The number of columns.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for Block {
    fn default() -> Self {
        Self(1024)
    }
}

impl TryFrom<i64> for Block {
    type Error = String;

    fn try_from(columns: i64) -> Result<Self, String> {
        let block = u32::try_from(columns).ok().and_then(Self::new);
        block.ok_or_else(|| format!("{columns} is out of range: a power of two from 16 to 65536 is wanted"))
    }
}

impl From<Block> for u32 {
    fn from(block: Block) -> Self {
        block.0
    }
}
