//! Encoding column by column.

use std::ops::Range;

use codec_api::util::Importance;
use codec_api::{EncodeCx, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView};
use simd::max_abs;

use super::fit::Fit;
use super::{
    BLOCK, LEVELS, MIDDLES, Maxima, Nf4, SUPER, block_maxima, dequantise_maximum, inverse_of, quantise_maximum,
};
use crate::panels::{Sheet, cut};

impl Panels for Nf4 {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        let (rows, _) = spec.matrix();
        // The blocks of a single row cannot run into another one.
        if rows > 1 {
            spec.require_whole_blocks(BLOCK)?;
        }
        Ok(cut(BLOCK))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let (spec, values) = (original.spec(), original.to_finite_f32()?);
        let (sheet, columns) = (Sheet::new(spec, self.cut(spec)?, 0), spec.matrix().1);
        let mut maxima = Maxima::new(self, values.len());
        block_maxima(&values, &mut maxima.absmax);
        if self.double_quant {
            maxima.scales = maxima.absmax.chunks(SUPER).map(max_abs).collect();
        }
        Ok(Box::new(Encoder { codec: self, cx, columns, importance: Importance::new(spec, cx)?, sheet, maxima }))
    }
}

struct Encoder<'a> {
    codec: &'a Nf4,
    cx: &'a EncodeCx<'a>,
    columns: usize,
    importance: Option<Importance>,
    sheet: Sheet<u8>,
    maxima: Maxima,
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let panel = self.sheet.start(values, self.cx)?;
        for (row, values) in values.chunks(panel.len()).enumerate() {
            let place = row * self.columns + panel.start;
            let block = place / BLOCK;
            let scale = self.codec.double_quant.then(|| self.maxima.scales[block / SUPER]);
            let absmax = &mut self.maxima.absmax[block..=block];
            block_maxima(values, absmax);
            if let Some(importance) = &self.importance {
                Fit { importance, columns: self.columns, scale }.search(values, place, absmax);
            }
            if let Some(scale) = scale {
                self.maxima.codes[block] = quantise_maximum(absmax[0], scale);
                absmax[0] = dequantise_maximum(self.maxima.codes[block], scale);
            }
        }
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let place = self.sheet.place(&rows, &columns, values)?;
        let absmax = self.maxima.absmax[(rows.start * self.columns + columns.start) / BLOCK];
        let x = values[0] * inverse_of(absmax);
        let code = MIDDLES[..LEVELS.len() - 1].iter().filter(|middle| x > **middle).count();
        *place = code as u8;
        values[0] = LEVELS[code] * absmax;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        let codes = self.sheet.finish()?;
        let packed = codes.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
        self.maxima.payload(self.codec, packed)
    }
}
