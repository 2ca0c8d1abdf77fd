//! A training step of a made-up model: BF16 weights, some of which change by one unit in the last
//! place.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// Shape of every tensor.
const SHAPE: [usize; 2] = [2048, 4096];

/// Which weights change.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// One weight in a hundred, each on its own.
    Random,
    /// Runs of 64 weights, one weight in a hundred together.
    Clustered,
}

impl Change {
    /// Number of neighbours that change together.
    fn run(self) -> usize {
        match self {
            Self::Random => 1,
            Self::Clustered => 64,
        }
    }
}

/// The weights of a tensor: sums of four uniform numbers, standard deviation 0.02.
pub fn weights(tensor: usize) -> Vec<u16> {
    let mut random = Random(0x5eed ^ (tensor as u64) << 32);
    let weight = || {
        let four: [u16; 4] = words(random.next());
        let sum: f32 = four.iter().map(|part| f32::from(*part) / 65_536.0 - 0.5).sum();
        // A uniform number has the variance 1/12, so that the sum has 1/3.
        (((sum * 0.02 * 3f32.sqrt()).to_bits() + 0x8000) >> 16) as u16
    };
    std::iter::repeat_with(weight).take(SHAPE[0] * SHAPE[1]).collect()
}

/// Moves one weight in a hundred by one unit in the last place. Returns how many have moved.
pub fn move_some(weights: &mut [u16], tensor: usize, change: Change) -> usize {
    let mut random = Random(0xc4a7 ^ (tensor as u64) << 32);
    let mut moved = 0;
    for run in weights.chunks_mut(change.run()) {
        if random.next().is_multiple_of(100) {
            moved += run.len();
            for weight in run {
                // Below zero there is no such unit. The largest number does not occur.
                let sign = if *weight << 1 == 0 { 1 } else { random.sign() };
                *weight = weight.wrapping_add_signed(sign);
            }
        }
    }
    moved
}

/// Writes a model of these tensors.
pub fn write(path: &Path, tensors: usize, mut weights: impl FnMut(usize) -> Vec<u16>) -> Result<()> {
    let bytes = SHAPE[0] * SHAPE[1] * 2;
    let entry = |i: usize| {
        format!(
            r#""layers.{i}.weight":{{"dtype":"BF16","shape":{SHAPE:?},"data_offsets":[{},{}]}}"#,
            i * bytes,
            (i + 1) * bytes
        )
    };
    let header = format!("{{{}}}", (0..tensors).map(entry).collect::<Vec<_>>().join(","));
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for tensor in 0..tensors {
        file.write_all(&weights(tensor).iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(file.flush()?)
}

fn words(word: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|shift| (word >> shift) as u16)
}

/// Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*: `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 1 or −1.
    fn sign(&mut self) -> i16 {
        if self.next() & 1 == 0 { 1 } else { -1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_weight_in_a_hundred_moves_by_one_unit() {
        let old = weights(3);
        for change in [Change::Random, Change::Clustered] {
            let mut new = old.clone();
            let moved = move_some(&mut new, 3, change);
            let differences: Vec<_> = old.iter().zip(&new).filter(|(a, b)| a != b).collect();
            assert_eq!(differences.len(), moved, "{change:?}");
            assert!(differences.iter().all(|(a, b)| a.abs_diff(**b) == 1));
            let share = moved as f64 / old.len() as f64;
            assert!((share - 0.01).abs() < 0.001, "{change:?}: {share}");
        }
    }
}
