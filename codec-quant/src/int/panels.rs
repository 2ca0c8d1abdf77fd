//! Encoding column by column.

use std::ops::Range;

use codec_api::util::Importance;
use codec_api::{EncodeCx, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView};
use half::f16;

use super::clip::Chooser;
use super::decode::Params;
use super::encode::{Scales, grid_of_tensor, groups, importance, too_large};
use super::layout::Layout;
use super::quantise::Quantiser;
use super::range::find_ranges;
use super::scale::Grids;
use super::{Group, IntQuant};
use crate::packing::pack_all;
use crate::panels::{Sheet, cut};

impl Panels for IntQuant {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        Ok(cut(Layout::new(self, spec).panel_width()))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let (spec, layout) = (original.spec(), Layout::new(self, original.spec()));
        let (importance, sheet) = (importance(spec, cx)?, Sheet::new(spec, self.cut(spec)?, 0));
        let (mut scales, grids) = if self.group == Group::Tensor {
            grid_of_tensor(self, &original, cx)?
        } else {
            // The exponent depends on all scales of the tensor.
            let plain = groups(self, &layout, importance.as_ref(), &original, cx)?.scales;
            (Scales::new(plain.codes, plain.exponent, layout.groups()), Grids::default())
        };
        let (quantiser, decoders) = store(&mut scales, grids)?;
        Ok(Box::new(Encoder { codec: self, cx, layout, importance, sheet, scales, quantiser, decoders }))
    }
}

struct Encoder<'a> {
    codec: &'a IntQuant,
    cx: &'a EncodeCx<'a>,
    layout: Layout,
    importance: Option<Importance>,
    sheet: Sheet<u8>,
    /// Those of one panel follow those of the panel before.
    scales: Scales,
    /// Those of the panel's rows, or of the tensor.
    quantiser: Quantiser,
    decoders: Vec<Params>,
}

/// Stores the grids of a panel's rows, or the one of the tensor.
fn store(scales: &mut Scales, mut grids: Grids) -> Result<(Quantiser, Vec<Params>)> {
    let quantiser = scales.push(&mut grids).ok_or_else(|| too_large(scales.exponent))?;
    Ok((quantiser, grids.decoders(scales.exponent)))
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let columns = self.sheet.start(values, self.cx)?;
        if self.codec.group == Group::Tensor {
            return Ok(());
        }
        let (layout, mut ranges) = (self.layout.panel(columns.len()), Vec::new());
        find_ranges(values, &layout, &mut ranges);
        let importance = self.importance.as_ref().map(|importance| &importance.inputs()[columns]);
        let chooser = Chooser::new(self.codec, &layout, importance);
        let mut grids = chooser.grids(values, &ranges, self.scales.exponent, self.cx)?;
        // The exponent is fixed: with feedback a scale may become too large for it.
        let largest = f16::MAX.to_f32_const();
        grids.steps.iter_mut().for_each(|step| *step = step.clamp(-largest, largest));
        (self.quantiser, self.decoders) = store(&mut self.scales, grids)?;
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let place = self.sheet.place(&rows, &columns, values)?;
        let group = if self.codec.group == Group::Tensor { 0 } else { rows.start };
        *place = self.quantiser.code(group, values[0]);
        values[0] = self.decoders[group].weight((*place).into());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        let Self { sheet, mut scales, layout, .. } = *self;
        let codes = sheet.finish()?;
        let [rows, _] = layout.group_shape();
        (scales.halves, scales.zeros) = (by_rows(&scales.halves, rows), by_rows(&scales.zeros, rows));
        let packed = codes.chunks(layout.columns.max(1)).flat_map(|row| pack_all(layout.bits, row)).collect();
        scales.payload(&layout, packed)
    }
}

/// From the order of panels to the order of rows.
fn by_rows<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows).copied()).collect()
}
