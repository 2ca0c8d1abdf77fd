//! Progress of an encode.

use std::cell::Cell;

use codec_api::Progress;

/// Converts finished weights of all layers to progress over the tensor.
#[derive(Debug)]
pub(crate) struct Ticks<'a> {
    progress: &'a dyn Progress,
    layers: u64,
    done: Cell<u64>,
}

impl<'a> Ticks<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, layers: u32) -> Self {
        Self { progress, layers: layers.into(), done: Cell::new(0) }
    }

    /// Reports that one layer of `weights` more weights is done.
    pub(crate) fn tick(&self, weights: usize) {
        let before = self.done.get();
        let after = before + weights as u64;
        self.done.set(after);
        self.progress.tick(after / self.layers - before / self.layers);
    }
}
