//! The cheapest path through the trellis for the rows of a block.

use crate::coded::States;
use crate::coded::machine::Machine;

/// Cost of a state that cannot be reached.
const NEVER: f32 = 1e30;

/// Buffers of a search, reused by the next one.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// For each step and state, the second bit of the multiple that leads to the state.
    survivors: Vec<u8>,
    /// For each step, the best multiple of each subset.
    members: Vec<[f32; 4]>,
}

/// Rounds to nearest, ties to even, for magnitudes below 2²².
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// Finds the multiples for weights `x`, given in steps, on the cheapest path from state `from`, and
/// returns the state at its end. Of equal paths it takes the lower second bit, and at the end the
/// lowest state.
pub(super) fn search(states: States, x: &[f32], from: u32, room: &mut Room, out: &mut [i32]) -> u32 {
    macro_rules! search {
        ($($n:literal),*) => {
            match states.get() {
                $($n => path::<$n>(x, from, room, out),)*
                _ => path::<1024>(x, from, room, out),
            }
        };
    }
    search!(4, 8, 16, 32, 64, 128, 256)
}

/// The share by which weights shrink before their candidates are chosen: at low rates, multiples
/// nearer to zero cost fewer bits than the distance that they add.
fn shrinkage(x: &[f32]) -> f32 {
    const LARGEST: f32 = 0.35;
    let power = x.iter().map(|x| x * x).sum::<f32>() / x.len().max(1) as f32;
    (0.083 / (power + 0.05)).min(LARGEST)
}

fn path<const STATES: usize>(x: &[f32], from: u32, room: &mut Room, out: &mut [i32]) -> u32 {
    let machine = const { Machine::new(STATES as u32) };
    let factor = 1.0 / (1.0 + shrinkage(x));
    room.survivors.resize(room.survivors.len().max(x.len() * STATES), 0);
    room.members.resize(room.members.len().max(x.len()), [0.0; 4]);
    let survivors = room.survivors.as_chunks_mut::<STATES>().0;
    let mut costs = [NEVER; STATES];
    costs[from as usize % STATES] = 0.0;
    for ((x, survivors), members) in x.iter().zip(&mut *survivors).zip(&mut room.members) {
        let shrunk = x * factor;
        let mut distances = [0.0; 4];
        for subset in 0..4 {
            let member = 4.0 * round((shrunk - subset as f32) * 0.25) + subset as f32;
            (members[subset], distances[subset]) = (member, (x - member) * (x - member));
        }
        costs = step(machine, &distances, &costs, survivors);
    }
    let (mut state, mut least) = (0, costs[0]);
    for (s, cost) in (1..).zip(&costs[1..]) {
        if *cost < least {
            (state, least) = (s, *cost);
        }
    }
    let end = state;
    for ((survivors, members), out) in survivors.iter().zip(&room.members).zip(out.iter_mut()).rev() {
        let bit = u32::from(survivors[state as usize % STATES]);
        let odd = state / (STATES as u32 / 2);
        let half = state ^ odd.wrapping_neg() & machine.odd ^ bit.wrapping_neg() & machine.second;
        *out = members[(2 * bit + odd) as usize] as i32;
        state = 2 * half + odd;
    }
    end
}

/// From the costs before a weight to the costs after it.
#[inline(always)]
fn step<const STATES: usize>(
    machine: Machine,
    distances: &[f32; 4],
    before: &[f32; STATES],
    survivors: &mut [u8; STATES],
) -> [f32; STATES] {
    let mut after = [0.0; STATES];
    let mut choose = |state: usize, zero: f32, one: f32| {
        after[state] = if one < zero { one } else { zero };
        survivors[state] = u8::from(one < zero);
    };
    for first in 0..STATES / 2 {
        let second = first ^ machine.second as usize;
        // For each parity, the same two states lead to both of these states.
        if first < second {
            for (parity, change) in [(0, 0), (1, machine.odd as usize)] {
                let (a, b) = (before[2 * first + parity], before[2 * second + parity]);
                let (zero, one) = (distances[parity], distances[2 + parity]);
                choose(first ^ change, a + zero, b + one);
                choose(second ^ change, b + zero, a + one);
            }
        }
    }
    after
}
