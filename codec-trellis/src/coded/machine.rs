//! The trellis: the multiples that a state allows, and the next state.

use serde::{Deserialize, Serialize};

/// Number of states of a trellis: a power of two from 4 to 256, or 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct States(u32);

impl States {
    /// `None` if there is no trellis with this number of states.
    pub const fn new(states: u32) -> Option<Self> {
        match states {
            4 | 8 | 16 | 32 | 64 | 128 | 256 | 1024 => Some(Self(states)),
            _ => None,
        }
    }

    /// 8: .08 bits above the bound.
    pub const FAST: Self = Self(8);
    /// 64: .05 bits above it.
    pub const BALANCED: Self = Self(64);
    /// 256: .04 bits above it.
    pub const BEST: Self = Self(256);

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for States {
    type Error = String;

    fn try_from(states: i64) -> Result<Self, String> {
        let known = u32::try_from(states).ok().and_then(Self::new);
        known.ok_or_else(|| format!("{states} is out of range: 4, 8, 16, 32, 64, 128, 256 or 1024 is wanted"))
    }
}

impl From<States> for u32 {
    fn from(states: States) -> Self {
        states.0
    }
}

/// Transitions of a trellis. State `s` allows the multiples `j` with the parity of `s`. The next
/// state is `s/2`, xor `odd` if `s` is odd, xor `second` if the second bit of `j` is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Half of the first parity polynomial.
    pub odd: u32,
    /// Half of the second parity polynomial.
    pub second: u32,
}

impl Machine {
    /// Ungerboeck's codes for amplitude modulation: parity polynomials (h0, h1) in octal.
    pub(crate) const fn new(states: u32) -> Self {
        let (h0, h1) = match states {
            4 => (0o5, 0o2),
            8 => (0o13, 0o4),
            16 => (0o23, 0o4),
            32 => (0o45, 0o10),
            64 => (0o103, 0o24),
            128 => (0o235, 0o126),
            256 => (0o515, 0o362),
            _ => (0o2007, 0o664),
        };
        Self { odd: h0 >> 1, second: h1 >> 1 }
    }

    /// The state after `state` for a multiple whose second bit is `bit`.
    #[inline(always)]
    pub(crate) const fn next(self, state: u32, bit: u32) -> u32 {
        (state >> 1) ^ (state & 1).wrapping_neg() & self.odd ^ bit.wrapping_neg() & self.second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The butterflies of the search: the lower half of the states follows even states, the upper
    /// half odd ones, and each state follows two.
    #[test]
    fn every_state_follows_two_of_one_parity() {
        for states in [4, 8, 16, 32, 64, 128, 256, 1024] {
            let machine = Machine::new(states);
            let mut before = vec![Vec::new(); states as usize];
            for (state, bit) in (0..states).flat_map(|state| [(state, 0), (state, 1)]) {
                before[machine.next(state, bit) as usize].push((state, bit));
            }
            for (state, before) in (0..).zip(before) {
                let odd = u32::from(state >= states / 2);
                assert_eq!(before.len(), 2, "{states}");
                assert!(before.iter().all(|(s, _)| s & 1 == odd), "{states}");
                assert!(before[0].1 != before[1].1, "{states}");
            }
        }
    }
}
