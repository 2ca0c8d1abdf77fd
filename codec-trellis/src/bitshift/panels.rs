//! Encoding column by column, a ring of bits at a time.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{
    CodecError, EncodeCx, NoProgress, PanelCut, PanelEncoder, PanelOrder, Panels, Payload, Result, TensorSpec,
    TensorView,
};

use super::Bitshift;
use super::encode::{Block, Coder};
use super::layout::{BLOCK, blocks};

impl Panels for Bitshift {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        let width = width(spec.matrix().1);
        let narrow = || CodecError::Unsupported(format!("blocks of {BLOCK} weights hold several rows of {spec}"));
        let width = NonZeroUsize::new(width).ok_or_else(narrow)?;
        Ok(PanelCut::new(width, width, NonZeroUsize::MIN))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let cut = self.cut(original.spec())?;
        // The scale depends on the codes of the whole tensor.
        let (coder, codes) = Coder::encode(self, &original, &cx.clone().with_progress(&NoProgress))?;
        let columns = original.spec().matrix().1;
        Ok(Box::new(Encoder { cx, coder, codes, columns, order: PanelOrder::new(original.spec(), cut) }))
    }
}

/// Columns of a panel, which is also a block: one ring, or the whole row where its last ring is
/// longer. 0 if a ring holds several rows.
fn width(columns: usize) -> usize {
    match columns {
        ..BLOCK => 0,
        _ if columns.is_multiple_of(BLOCK) => BLOCK,
        _ => columns,
    }
}

struct Encoder<'a> {
    cx: &'a EncodeCx<'a>,
    coder: Coder,
    /// The codes of the original tensor, until its blocks are encoded.
    codes: Vec<u8>,
    columns: usize,
    order: PanelOrder,
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        self.order.start(values).map(drop)
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        self.order.block(&rows, &columns, values)?;
        self.cx.cancel.check()?;
        let (row, layout, weights) = (rows.start, self.coder.layout, values.len());
        let mut codes = &mut self.codes[row * layout.bytes(layout.span) + layout.bytes(columns.start)..];
        let (mut rest, mut start) = (values, row * self.columns + columns.start);
        for len in blocks(weights) {
            let (now, of_now);
            (now, rest) = rest.split_at_mut(len);
            (of_now, codes) = codes.split_at_mut(layout.bytes(len));
            self.coder.code(Block { start, len, span: row }, now, of_now);
            start += len;
        }
        self.cx.progress.tick(weights as u64);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        self.order.finish()?;
        self.coder.payload(self.codes)
    }
}
