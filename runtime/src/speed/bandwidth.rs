//! The speed at which threads read memory.

use std::hint::black_box;
use std::time::Instant;

use codec_api::util::zeros;
use simd::{LANES, Lanes, kernel, lanes, prefetch};

use crate::error::Result;
use crate::team::Team;

/// Bytes that are read: eight times the largest caches that several cores share.
const BYTES: usize = 2 << 30;
/// Lines that are added to sums of their own, so that no addition waits for the one before.
const SUMS: usize = 4;
/// Lines from the one that is read to the one that is prefetched.
const AHEAD: usize = 128;

type Line = Lanes<u32>;

/// An array in memory that no cache holds, and the threads that read it.
#[derive(Debug)]
pub struct Bandwidth {
    lines: Vec<Line>,
    team: Team,
}

impl Bandwidth {
    /// An array of 2 GiB for so many threads.
    ///
    /// # Errors
    /// [`codec_api::CodecError::Limit`] without this memory; [`crate::Error::Usage`] without the
    /// threads.
    pub fn new(threads: usize) -> Result<Self> {
        let mut lines: Vec<Line> = zeros(BYTES / size_of::<Line>())?;
        // Memory that was never written is one page of zeros.
        lines.iter_mut().step_by(4096 / size_of::<Line>()).for_each(|line| line[0] = 1);
        Ok(Self { lines, team: Team::new(threads)? })
    }

    /// Bytes per second of all threads together, each of which adds up a part of the array.
    ///
    /// # Errors
    /// None at present; those of the threads.
    pub fn measure(&self) -> Result<f64> {
        let begin = Instant::now();
        self.team.run(|worker| {
            let own = worker.own(self.lines.len());
            black_box(sum(&self.lines[own]));
            Ok(())
        })?;
        Ok(BYTES as f64 / begin.elapsed().as_secs_f64())
    }
}

kernel! {
    /// The sum of all numbers.
    fn sum<'a>(_simd, lines: &'a [Line]) -> u32 {
        let mut sums = [[0u32; LANES]; SUMS];
        let (groups, rest) = lines.as_chunks::<SUMS>();
        for (g, group) in groups.iter().enumerate() {
            for (s, (sum, line)) in sums.iter_mut().zip(group).enumerate() {
                prefetch(lines, g * SUMS + s + AHEAD);
                *sum = lanes!(i => sum[i].wrapping_add(line[i]));
            }
        }
        let numbers = sums.iter().chain(rest).flatten();
        numbers.fold(0, |sum: u32, number| sum.wrapping_add(*number))
    }
}
