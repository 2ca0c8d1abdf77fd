//! Encoding in panels: all columns are one.

use std::ops::Range;

use codec_api::util::Importance;
use codec_api::{Codec, EncodeCx, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView};
use simd::max_abs;

use super::scale::scale_of_row;
use super::{Format, Fp8, divisor};
use crate::Scope;
use crate::minifloat::{E4m3, E5m2, Minifloat};
use crate::panels::{Sheet, cut};

impl Panels for Fp8 {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        self.accepts(spec)?;
        Ok(cut(spec.matrix().1))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let spec = original.spec().clone();
        let sheet = Sheet::new(&spec, self.cut(&spec)?, 0);
        let importance = self.row_importance(&spec, cx)?;
        let scales = match self.scope {
            Scope::Tensor => vec![self.scale_of_tensor(&original, cx)?],
            Scope::Row => Vec::new(),
        };
        Ok(Box::new(Encoder { codec: self, spec, cx, importance, sheet, scales }))
    }
}

struct Encoder<'a> {
    codec: &'a Fp8,
    spec: TensorSpec,
    cx: &'a EncodeCx<'a>,
    importance: Option<Importance>,
    sheet: Sheet<u8>,
    scales: Vec<f32>,
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let columns = self.sheet.start(values, self.cx)?;
        if self.codec.scope == Scope::Row {
            let by_column = self.importance.as_ref().map(Importance::inputs);
            let scale = |row: &[f32]| scale_of_row(self.codec.format, row, max_abs(row), by_column);
            self.scales = values.chunks(columns.len()).map(scale).collect();
        }
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let code = self.sheet.place(&rows, &columns, values)?;
        let scale = self.scales[if self.codec.scope == Scope::Row { rows.start } else { 0 }];
        let x = values[0] / divisor(scale);
        let (value, rounded) = match self.codec.format {
            Format::E4m3 => E4m3::round_one(x),
            Format::E5m2 => E5m2::round_one(x),
        };
        (*code, values[0]) = (rounded, value * scale);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        self.codec.payload(&self.spec, self.sheet.finish()?, self.scales)
    }
}
