//! Encoding column by column: all columns are one panel, in blocks of one column.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{
    Codec, CodecError, EncodeCx, PanelCut, PanelEncoder, PanelOrder, Panels, Payload, Result, TensorSpec, TensorView,
};

use super::layout::Layout;
use super::search::{Room, search};
use super::steps::Steps;
use super::write::payload;
use super::{Columns, Order, most_bytes};
use crate::coded::machine::Machine;

/// Weights of at least this many steps have no multiple.
const LARGEST: f32 = 2_097_152.0;

impl Panels for Columns {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        self.accepts(spec)?;
        let layout = Layout::new(spec, self.order);
        let [panel, height] =
            [layout.columns, layout.height].map(|n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN));
        let cut = PanelCut::new(panel, NonZeroUsize::MIN, height);
        Ok(if self.order == Order::Rows { cut.of_transposed() } else { cut })
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let order = PanelOrder::new(original.spec(), self.cut(original.spec())?);
        Ok(Box::new(InPanels { order, encoder: Encoder::new(self, original.spec(), cx)? }))
    }
}

/// An encode. Rows and columns are those of the transposed matrix for [`Order::Rows`].
pub(super) struct Encoder<'a> {
    codec: &'a Columns,
    cx: &'a EncodeCx<'a>,
    layout: Layout,
    /// Most bytes of the payload.
    most: u64,
    steps: Steps,
    /// Factors of rows, and steps of columns.
    tables: (Vec<f32>, Vec<f32>),
    machine: Machine,
    /// The state of each block.
    states: Vec<u32>,
    /// Column by column.
    multiples: Vec<i32>,
    x: Vec<f32>,
    room: Room,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(codec: &'a Columns, spec: &TensorSpec, cx: &'a EncodeCx<'a>) -> Result<Self> {
        codec.accepts(spec)?;
        let layout = Layout::new(spec, codec.order);
        let steps = Steps::new(codec.step.get(), layout, codec.order, cx.calibration_of(spec)?)?;
        Ok(Self {
            codec,
            cx,
            layout,
            most: most_bytes(spec, layout),
            tables: steps.tables(),
            steps,
            machine: Machine::new(codec.states.get()),
            states: vec![0; layout.rows.div_ceil(layout.height)],
            multiples: vec![0; layout.rows * layout.columns],
            x: Vec::new(),
            room: Room::default(),
        })
    }

    /// Encodes the block of these rows in the next of its columns.
    pub(super) fn block(&mut self, rows: Range<usize>, column: usize, values: &mut [f32]) -> Result<()> {
        self.cx.cancel.check()?;
        let Layout { rows: all, height, .. } = self.layout;
        let (factors, step) = (&self.tables.0[rows.clone()], self.tables.1[column]);
        self.x.clear();
        self.x.extend(values.iter().zip(factors).map(|(value, factor)| value / (step * factor)));
        if let Some(x) = self.x.iter().find(|x| x.is_nan() || x.abs() >= LARGEST) {
            let reason = "a weight of 2²¹ steps or more has no multiple; a larger step is needed".to_owned();
            return Err(CodecError::Unsuitable { reason, number: f64::from(*x) });
        }
        let block = rows.start / height;
        let state = &mut self.states[block];
        if column.is_multiple_of(self.layout.segment_of(block).width()) {
            *state = 0;
        }
        let multiples = &mut self.multiples[column * all..][rows];
        *state = search(self.codec.states, &self.x, *state, &mut self.room, multiples);
        // The rows that the last block lacks are zeros for the trellis.
        for _ in values.len()..height {
            *state = self.machine.next(*state, 0);
        }
        for ((value, factor), j) in values.iter_mut().zip(factors).zip(multiples) {
            *value = *j as f32 * (step * factor);
        }
        self.cx.progress.tick(values.len() as u64);
        Ok(())
    }

    /// The payload, after the last block.
    pub(super) fn finish(self) -> Result<Payload> {
        let payload = payload(self.layout, &self.steps, &self.multiples, self.cx)?;
        if payload.bytes() <= self.most {
            return Ok(payload);
        }
        let reason = format!("more than {} bytes; a larger step is needed", self.most);
        Err(CodecError::Unsuitable { reason, number: payload.bytes() as f64 })
    }
}

/// An encode that checks the order of what it is given.
struct InPanels<'a> {
    order: PanelOrder,
    encoder: Encoder<'a>,
}

impl PanelEncoder for InPanels<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        self.order.start(values).map(drop)
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        self.order.block(&rows, &columns, values)?;
        self.encoder.block(rows, columns.start, values)
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        self.order.finish()?;
        self.encoder.finish()
    }
}
