//! Encoding in panels: a block of each row.

use std::marker::PhantomData;
use std::ops::Range;

use codec_api::{EncodeCx, PanelCut, PanelEncoder, Payload, Result, TensorSpec, TensorView};
use simd::{Kernel, LANES, Simd, dispatch};

use super::fit::inverse;
use super::format::{FitBlocks, Format, MOST_AT_ONCE, Scales, accepts, bytes_of, checked_peak, payload, refuse_zeros};
use super::levels::Levels;
use crate::importance::ColumnImportance;
use crate::panels::{Sheet, cut};

pub(super) fn cut_of<F: Format>(spec: &TensorSpec) -> Result<PanelCut> {
    accepts::<F>(spec)?;
    Ok(cut(F::WEIGHTS))
}

pub(super) fn begin<'a, F: Format>(
    original: &TensorView<'a>,
    cx: &'a EncodeCx<'a>,
) -> Result<Box<dyn PanelEncoder + 'a>> {
    let spec = original.spec();
    let sheet = Sheet::new(spec, cut_of::<F>(spec)?, 0);
    let peak = checked_peak::<F>(&original.to_f32()?)?;
    let importance = ColumnImportance::new(spec, cx, F::WEIGHTS)?;
    Ok(Box::new(Encoder::<F> { shape: spec.matrix(), cx, importance, sheet, scales: Vec::new(), peak, zeros: true }))
}

/// Rows whose blocks are fitted together.
const fn rows_at_once<F: Format>() -> usize {
    F::AT_ONCE / F::WEIGHTS
}

struct Encoder<'a, F: Format> {
    shape: (usize, usize),
    cx: &'a EncodeCx<'a>,
    importance: Option<ColumnImportance>,
    sheet: Sheet<u8>,
    /// Panel by panel, those of [`rows_at_once`] rows together.
    scales: Vec<Scales<F::Numbers>>,
    /// The largest magnitude of the original tensor.
    peak: f32,
    /// Whether all blocks decode to zeros.
    zeros: bool,
}

impl<F: Format> Encoder<'_, F> {
    /// Scales of each panel.
    fn per_panel(&self) -> usize {
        self.shape.0.div_ceil(rows_at_once::<F>())
    }
}

impl<F: Format> PanelEncoder for Encoder<'_, F> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let columns = self.sheet.start(values, self.cx)?;
        checked_peak::<F>(values)?;
        let importance = self.importance.as_ref().map(|of| of.panel(columns, rows_at_once::<F>()));
        dispatch(FitBlocks::<F> { x: values, importance: importance.as_deref(), scales: &mut self.scales });
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let per_panel = self.per_panel();
        let code = self.sheet.place(&rows, &columns, values)?;
        let (panel, column) = (columns.start / F::WEIGHTS, columns.start % F::WEIGHTS);
        let (call, row) = (rows.start / rows_at_once::<F>(), rows.start % rows_at_once::<F>());
        let group = (row * F::WEIGHTS + column) / F::GROUP;
        let scales = &self.scales[panel * per_panel + call];
        let (scale, minimum) = (scales.scale[group], scales.minimum[group]);
        (*code, values[0]) = dispatch(Quantise { x: values[0], scale, minimum, format: PhantomData::<F> });
        self.zeros &= values[0] == 0.0;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        let (per_panel, (rows, columns)) = (self.per_panel(), self.shape);
        let codes = self.sheet.finish()?;
        refuse_zeros(self.zeros, self.peak)?;
        let mut blocks = vec![0; bytes_of::<F>(codes.len())];
        for (i, scales) in self.scales.iter().enumerate() {
            let (panel, first) = (i / per_panel, i % per_panel * rows_at_once::<F>());
            let rows = first..rows.min(first + rows_at_once::<F>());
            let place = |row: usize| row * columns + panel * F::WEIGHTS;
            let (mut together, mut packed) = ([0; MOST_AT_ONCE], vec![0; rows.len() * F::BYTES]);
            for (row, together) in rows.clone().zip(together.chunks_mut(F::WEIGHTS)) {
                together.copy_from_slice(&codes[place(row)..][..F::WEIGHTS]);
            }
            F::pack(&scales.numbers, &together, &mut packed);
            for (row, packed) in rows.zip(packed.chunks(F::BYTES)) {
                blocks[bytes_of::<F>(place(row))..][..F::BYTES].copy_from_slice(packed);
            }
        }
        payload::<F>(blocks)
    }
}

/// The code of a weight, and the value that a decoder gives.
struct Quantise<F> {
    x: f32,
    scale: f32,
    minimum: f32,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Quantise<F> {
    type Output = (u8, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (u8, f32) {
        let by_scale = inverse(&[self.scale; LANES])[0];
        let code = F::Levels::code(simd, &[(self.x + self.minimum) * by_scale; LANES])[0];
        (code, self.scale * F::Levels::level(code) - self.minimum)
    }
}
