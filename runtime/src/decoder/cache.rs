//! Keys and values of the tokens so far.

use std::sync::{Mutex, MutexGuard, PoisonError};

use codec_api::Result;
use codec_api::util::zeros;

use crate::team::guard;

/// The dtype of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: half the memory, with a relative rounding error of at most 2⁻¹¹.
    F16,
}

/// Keys and values of all layers. Each head of a layer has a lock, because threads share the heads.
#[derive(Debug)]
pub(super) struct Cache {
    heads: Vec<Mutex<Head>>,
    per_layer: usize,
}

/// Keys and values of a head, row-major.
#[derive(Debug)]
pub(super) enum Head {
    F32([Vec<f32>; 2]),
    F16([Vec<u16>; 2]),
}

impl Cache {
    pub(super) fn new(layers: usize, heads: usize, kind: CacheType) -> Self {
        let head = || match kind {
            CacheType::F32 => Head::F32([Vec::new(), Vec::new()]),
            CacheType::F16 => Head::F16([Vec::new(), Vec::new()]),
        };
        Self { heads: (0..layers * heads).map(|_| Mutex::new(head())).collect(), per_layer: heads }
    }

    /// Makes room for `values` values of each head, so that no thread allocates.
    ///
    /// # Errors
    /// [`codec_api::CodecError::Limit`] without enough memory.
    pub(super) fn reserve(&mut self, values: usize) -> Result<()> {
        for head in &mut self.heads {
            let head = head.get_mut().unwrap_or_else(PoisonError::into_inner);
            match head {
                Head::F32(both) => both.iter_mut().try_for_each(|rows| grow(rows, values))?,
                Head::F16(both) => both.iter_mut().try_for_each(|rows| grow(rows, values))?,
            }
        }
        Ok(())
    }

    pub(super) fn head(&self, layer: usize, head: usize) -> MutexGuard<'_, Head> {
        guard(&self.heads[layer * self.per_layer + head])
    }
}

/// Grows a buffer to at least `len` values, in steps that double it.
fn grow<T: Copy + bytemuck::Zeroable>(rows: &mut Vec<T>, len: usize) -> Result<()> {
    if rows.len() < len {
        let mut larger: Vec<T> = zeros(len.max(2 * rows.len()))?;
        larger[..rows.len()].copy_from_slice(rows);
        *rows = larger;
    }
    Ok(())
}

impl Head {
    /// Stores keys and values from value number `first` on.
    pub(super) fn write(&mut self, first: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::F32(both) => {
                for (rows, new) in both.iter_mut().zip([key, value]) {
                    rows[first..first + new.len()].copy_from_slice(new);
                }
            }
            Self::F16(both) => {
                for (rows, new) in both.iter_mut().zip([key, value]) {
                    simd::f32_to_f16(new, &mut rows[first..first + new.len()]);
                }
            }
        }
    }

    /// The first `len` values of keys and values in f32; `wide` is memory for converted ones.
    pub(super) fn read<'a>(&'a self, len: usize, wide: &'a mut [Vec<f32>; 2]) -> [&'a [f32]; 2] {
        match self {
            Self::F32([keys, values]) => [&keys[..len], &values[..len]],
            Self::F16(both) => {
                for (wide, stored) in wide.iter_mut().zip(both) {
                    wide.resize(wide.len().max(len), 0.0);
                    simd::f16_to_f32(&stored[..len], &mut wide[..len]);
                }
                let [keys, values] = wide;
                [&keys[..len], &values[..len]]
            }
        }
    }
}
