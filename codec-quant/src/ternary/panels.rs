//! Encoding in panels: all columns are one, in blocks of single weights.

use std::ops::Range;

use codec_api::{EncodeCx, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView};

use super::{Ternary, packing};
use crate::Scope;
use crate::panels::{Sheet, cut};

impl Panels for Ternary {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        Ok(cut(spec.matrix().1))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let spec = original.spec();
        let scales = if self.scope == Scope::Tensor { self.scales(spec, &original.to_f32()?, cx)? } else { Vec::new() };
        let sheet = Sheet::new(spec, self.cut(spec)?, 0.0);
        Ok(Box::new(Encoder { codec: self, cx, spec: spec.clone(), scales, sheet }))
    }
}

struct Encoder<'a> {
    codec: &'a Ternary,
    cx: &'a EncodeCx<'a>,
    spec: TensorSpec,
    scales: Vec<f32>,
    /// −1, 0 or 1 for each weight.
    sheet: Sheet<f32>,
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        self.sheet.start(values, self.cx)?;
        if self.codec.scope == Scope::Row {
            self.scales = self.codec.scales(&self.spec, values, self.cx)?;
        }
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let sign = self.sheet.place(&rows, &columns, values)?;
        let scale = self.scales[rows.start.min(self.scales.len() - 1)];
        for value in values {
            *sign = f32::from(packing::digit_of(*value, 0.5 * scale)) - 1.0;
            *value = *sign * scale;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        self.codec.payload(&self.spec, &self.sheet.finish()?, &[1.0], self.scales)
    }
}
