//! The cheapest path through the trellis: sixteen paths in the lanes of a vector.

use simd::{Kernel, LANES, Simd, dispatch, lanes};

use super::machine::Machine;
use super::metric::{Lanes, Metric};

/// Steps after which costs are rebased to keep them small.
const REBASE: usize = 64;

/// Cost of a state that cannot be reached.
const NEVER: f32 = 1e30;

/// Buffers of a search, reused by the next one.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// For each step and state, a bit for each lane: the second bit of the multiple that leads to
    /// the state.
    survivors: Vec<u16>,
    /// The subset of each step's multiple.
    subsets: Vec<[u8; LANES]>,
}

/// Quantises sixteen sequences, given in steps: finds the multiples on the cheapest path from state
/// 0. Of equal paths it takes the lower second bit, and at the end the lowest state.
pub(super) fn quantise(states: u32, metric: impl Metric, x: &[Lanes], room: &mut Room, out: &mut [[i32; LANES]]) {
    room.survivors.resize(room.survivors.len().max(x.len() * states as usize), 0);
    room.subsets.resize(room.subsets.len().max(x.len()), [0; LANES]);
    macro_rules! search {
        ($($n:literal),*) => {
            match states {
                $($n => dispatch(Search::<'_, $n, _> { metric, x, room, out }),)*
                _ => dispatch(Search::<'_, 1024, _> { metric, x, room, out }),
            }
        };
    }
    search!(4, 8, 16, 32, 64, 128, 256);
}

/// A search, compiled for its number of states.
struct Search<'a, const STATES: usize, M> {
    metric: M,
    x: &'a [Lanes],
    room: &'a mut Room,
    out: &'a mut [[i32; LANES]],
}

impl<const STATES: usize, M: Metric> Kernel for Search<'_, STATES, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { metric, x, room, out } = self;
        let survivors = room.survivors.as_chunks_mut::<STATES>().0;
        let last = forward(simd, metric, x, survivors);
        backward(&last, survivors, &mut room.subsets[..x.len()]);
        for ((x, subsets), out) in x.iter().zip(&room.subsets).zip(out) {
            *out = metric.members(simd, x, subsets);
        }
    }
}

/// Computes costs and survivors of all steps. Returns the cheapest final state of each lane.
#[inline(always)]
fn forward<const STATES: usize, S: Simd>(
    simd: S,
    metric: impl Metric,
    x: &[Lanes],
    survivors: &mut [[u16; STATES]],
) -> [u32; LANES] {
    let mut costs = [[NEVER; LANES]; STATES];
    costs[0] = [0.0; LANES];
    let mut others = costs;
    for (x, survivors) in x.chunks(REBASE).zip(survivors.chunks_mut(REBASE)) {
        // Two steps at a time, there and back.
        let (pairs, last) = x.as_chunks::<2>();
        let (of_pairs, of_last) = survivors.as_chunks_mut::<2>();
        for ([x, y], [of_x, of_y]) in pairs.iter().zip(of_pairs) {
            step(simd, &metric.costs(simd, x), &costs, &mut others, of_x);
            step(simd, &metric.costs(simd, y), &others, &mut costs, of_y);
        }
        for (x, of_x) in last.iter().zip(of_last) {
            step(simd, &metric.costs(simd, x), &costs, &mut others, of_x);
            costs = others;
        }
        let base = costs[0];
        for cost in &mut costs {
            for lane in 0..LANES {
                cost[lane] -= base[lane];
            }
        }
    }
    let (mut least, mut last) = (costs[0], [0; LANES]);
    for (state, cost) in (1..).zip(&costs[1..]) {
        simd.keep_least(cost, state, &mut least, &mut last);
    }
    last
}

/// From the costs before a weight to the costs after it.
#[inline(always)]
fn step<const STATES: usize, S: Simd>(
    simd: S,
    subsets: &[Lanes; 4],
    before: &[Lanes; STATES],
    after: &mut [Lanes; STATES],
    survivors: &mut [u16; STATES],
) {
    let machine = const { Machine::new(STATES as u32) };
    for first in 0..STATES / 2 {
        let second = first ^ machine.second as usize;
        // For each parity, the same two states lead to both of these states.
        if first < second {
            for (parity, change) in [(0, 0), (1, machine.odd as usize)] {
                let (a, b) = (&before[2 * first + parity], &before[2 * second + parity]);
                let (zero, one) = (&subsets[parity], &subsets[2 + parity]);
                (after[first ^ change], survivors[first ^ change]) = cheaper(simd, a, zero, b, one);
                (after[second ^ change], survivors[second ^ change]) = cheaper(simd, b, zero, a, one);
            }
        }
    }
}

/// The smaller of two sums, and the lanes in which it is the second; of equal sums the first.
#[inline(always)]
fn cheaper<S: Simd>(simd: S, a: &Lanes, to_a: &Lanes, b: &Lanes, to_b: &Lanes) -> (Lanes, u16) {
    let (first, second) = (simd.add(a, to_a), simd.add(b, to_b));
    (lanes!(i => if second[i] < first[i] { second[i] } else { first[i] }), !simd.at_least(&second, &first))
}

/// Follows the survivors back from the final states.
#[inline(always)]
fn backward<const STATES: usize>(last: &[u32; LANES], survivors: &[[u16; STATES]], subsets: &mut [[u8; LANES]]) {
    let machine = const { Machine::new(STATES as u32) };
    let mut states = *last;
    for (survivors, subsets) in survivors[..subsets.len()].iter().zip(subsets).rev() {
        for lane in 0..LANES {
            let state = states[lane];
            let bit = u32::from(survivors[state as usize % STATES] >> lane & 1);
            let odd = state / (STATES as u32 / 2);
            let half = state ^ odd.wrapping_neg() & machine.odd ^ bit.wrapping_neg() & machine.second;
            states[lane] = 2 * half + odd;
            subsets[lane] = (2 * bit + odd) as u8;
        }
    }
}
