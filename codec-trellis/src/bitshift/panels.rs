//! Encoding column by column, a ring of bits at a time.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::first_non_finite;
use codec_api::{
    CodecError, EncodeCx, NoProgress, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView,
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
        let (shape, width) = (original.spec().matrix(), cut.panel.get());
        Ok(Box::new(Encoder { cx, coder, codes, shape, width, end: 0, next: (0, 0) }))
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
    shape: (usize, usize),
    width: usize,
    /// Where the panel ends that has begun last.
    end: usize,
    /// Row and first column of the next block.
    next: (usize, usize),
}

impl Encoder<'_> {
    fn wrong(&self, given: &str) -> CodecError {
        let (row, column) = self.next;
        CodecError::Usage(format!("{given}, where row {row}, column {column} of {:?} is next", self.shape))
    }
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let (rows, columns) = self.shape;
        if self.next != (0, self.end) || self.end == columns || values.len() != rows * self.width {
            return Err(self.wrong(&format!("a panel of {} values", values.len())));
        }
        self.end += self.width;
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let (row, column) = self.next;
        let next = (row..row + 1, column..column + self.width);
        if (&rows, &columns) != (&next.0, &next.1) || columns.end > self.end || values.len() != self.width {
            return Err(self.wrong(&format!("{} values of rows {rows:?}, columns {columns:?}", values.len())));
        }
        self.cx.cancel.check()?;
        let first = row * self.shape.1 + column;
        if let Some(at) = first_non_finite(values) {
            return Err(CodecError::NonFinite { index: first + at });
        }
        let layout = self.coder.layout;
        let mut codes = &mut self.codes[row * layout.bytes(layout.span) + layout.bytes(column)..];
        let (mut rest, mut start) = (values, first);
        for len in blocks(self.width) {
            let (now, of_now);
            (now, rest) = rest.split_at_mut(len);
            (of_now, codes) = codes.split_at_mut(layout.bytes(len));
            self.coder.code(Block { start, len, span: row }, now, of_now);
            start += len;
        }
        self.cx.progress.tick(self.width as u64);
        self.next = if row + 1 == self.shape.0 { (0, columns.end) } else { (row + 1, column) };
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        if self.next != (0, self.shape.1) {
            return Err(self.wrong("the end"));
        }
        self.coder.payload(self.codes)
    }
}
