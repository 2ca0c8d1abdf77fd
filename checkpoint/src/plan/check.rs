//! What plans from files must fulfil before they run.

use std::collections::HashSet;
use std::ops::Range;

use super::make::PROGRAM;
use super::{Plan, PlannedTensor};
use crate::index::stays_inside;
use crate::packed::{PACKED_EXTENSION, is_packed_name};

impl PlannedTensor {
    /// Number of chunks: at least one, so that an empty tensor has a place for its payload.
    pub(super) fn chunks(&self) -> usize {
        self.spec.matrix().0.div_ceil(self.chunk_rows.max(1)).max(1)
    }

    /// The rows of a chunk.
    pub(super) fn rows(&self, chunk: usize) -> Range<usize> {
        let rows = self.spec.matrix().0;
        let end = |chunks: usize| chunks.saturating_mul(self.chunk_rows).min(rows);
        end(chunk)..end(chunk.saturating_add(1))
    }

    /// Number of weights of a chunk.
    pub(super) fn weights(&self, chunk: usize) -> u64 {
        (self.rows(chunk).len() * self.spec.matrix().1) as u64
    }

    /// Bytes of this many weights in the stored dtype.
    pub(super) fn byte_len(&self, weights: u64) -> u64 {
        weights * self.spec.dtype().bitsize() as u64 / 8
    }
}

impl Plan {
    /// # Errors
    /// What contradicts itself, and where.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.program != PROGRAM {
            let made = &self.program;
            return Err(format!("`{made}` made it, and this is `{PROGRAM}`: run it with that one, or plan again"));
        }
        if !is_packed_name(&self.target) {
            return Err(format!("its target does not end with `{PACKED_EXTENSION}`"));
        }
        self.check_shard_size()?;
        let sources = [&self.source].into_iter().chain(self.base.as_ref().map(|base| &base.source));
        let mut files = sources.flat_map(|source| source.files.iter().chain(&source.index));
        if let Some(file) = files.find(|file| !stays_inside(&file.name)) {
            return Err(format!("the source file `{}` is not a plain path below a directory", file.name));
        }
        if let Some(name) = self.companions.iter().find(|name| !name.to_str().is_some_and(stays_inside)) {
            return Err(format!("the file `{}` is not a plain path below a directory", name.display()));
        }
        let mut missing = HashSet::new();
        for (i, tensor) in self.tensors.iter().enumerate() {
            self.check_tensor(tensor, i).map_err(|reason| format!("tensor `{}`: {reason}", tensor.name))?;
            if tensor.is_stored() {
                missing.insert(i);
            }
        }
        self.check_units(missing)
    }

    fn check_tensor(&self, tensor: &PlannedTensor, i: usize) -> Result<(), String> {
        if tensor.file >= self.source.files.len() || tensor.codec >= self.codecs.len() || tensor.chunk_rows == 0 {
            return Err("its file, its codec or its chunks do not exist".to_owned());
        }
        let bases = self.base.as_ref().map_or(0, |base| base.tensors.len());
        if tensor.base.is_some_and(|base| base >= bases) || (tensor.equals_base && tensor.base.is_none()) {
            return Err("its base does not exist".to_owned());
        }
        let Some(other) = tensor.same_as else { return Ok(()) };
        if tensor.base.is_some() {
            return Err("it is stored as another tensor and relative to a base".to_owned());
        }
        let holder = self.tensors.get(other).filter(|_| other < i);
        let fits = |holder: &PlannedTensor| holder.is_stored() && holder.spec == tensor.spec;
        if holder.is_some_and(fits) { Ok(()) } else { Err(format!("it cannot be the same as tensor {other}")) }
    }

    /// Checks that the units have every chunk of these tensors, in order and once.
    fn check_units(&self, mut missing: HashSet<usize>) -> Result<(), String> {
        let mut next = [0, 0];
        for found in self.units.iter().flatten() {
            while next[0] < self.tensors.len() && !self.tensors[next[0]].is_stored() {
                next = [next[0] + 1, 0];
            }
            if *found != next || next[0] >= self.tensors.len() {
                return Err(format!("its units have chunk {found:?} instead of {next:?}"));
            }
            let chunks = self.tensors[next[0]].chunks();
            next[1] += 1;
            if next[1] == chunks {
                missing.remove(&next[0]);
                next = [next[0] + 1, 0];
            }
        }
        match missing.iter().min() {
            Some(tensor) => Err(format!("its units lack chunks of tensor `{}`", self.tensors[*tensor].name)),
            None => Ok(()),
        }
    }
}
