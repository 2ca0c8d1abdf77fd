//! Encoding in panels, for formats of E2M1 floats with a byte for the scale of each block.

use std::ops::Range;

use codec_api::{EncodeCx, PanelCut, PanelEncoder, Payload, Result, TensorSpec, TensorView};

use crate::importance::ColumnImportance;
use crate::packing::pack_all;
use crate::panels::Sheet;

/// A format whose panels are blocks.
pub(crate) trait Blocks {
    /// Chooses the scales of whole blocks.
    fn choose(&self, values: &[f32], importance: Option<&[f32]>, scales: &mut [u8]);

    /// The code of a weight in a block with this scale, and the value that a decoder gives.
    fn round(&self, x: f32, scale: u8) -> (u8, f32);

    /// The payload of packed codes and scales.
    fn payload(&self, spec: &TensorSpec, packed: Vec<u8>, scales: Vec<u8>) -> Result<Payload>;
}

/// Begins an encode.
pub(crate) fn begin<'a>(
    format: impl Blocks + 'a,
    cut: PanelCut,
    original: &TensorView<'a>,
    cx: &'a EncodeCx<'a>,
) -> Result<Box<dyn PanelEncoder + 'a>> {
    let (spec, block) = (original.spec().clone(), cut.panel.get());
    let importance = ColumnImportance::new(&spec, cx, block)?;
    let (sheet, scales) = (Sheet::new(&spec, cut, 0), vec![0; spec.elements() / block]);
    Ok(Box::new(Encoder { format, block, spec, cx, importance, sheet, scales }))
}

struct Encoder<'a, F> {
    format: F,
    block: usize,
    spec: TensorSpec,
    cx: &'a EncodeCx<'a>,
    importance: Option<ColumnImportance>,
    sheet: Sheet<u8>,
    /// Row by row.
    scales: Vec<u8>,
}

impl<F: Blocks> PanelEncoder for Encoder<'_, F> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let columns = self.sheet.start(values, self.cx)?;
        let (rows, all) = self.spec.matrix();
        let importance = self.importance.as_ref().map(|of| of.panel(columns.clone(), rows));
        let mut chosen = vec![0; rows];
        self.format.choose(values, importance.as_deref(), &mut chosen);
        let places = self.scales[columns.start / self.block..].iter_mut().step_by(all / self.block);
        places.zip(chosen).for_each(|(scale, chosen)| *scale = chosen);
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let code = self.sheet.place(&rows, &columns, values)?;
        let place = rows.start * self.spec.matrix().1 + columns.start;
        (*code, values[0]) = self.format.round(values[0], self.scales[place / self.block]);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        self.format.payload(&self.spec, pack_all(4, &self.sheet.finish()?), self.scales)
    }
}
