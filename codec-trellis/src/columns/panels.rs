//! Encoding column by column.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::first_non_finite;
use codec_api::{Codec, CodecError, EncodeCx, PanelCut, PanelEncoder, Panels, Payload, Result, TensorSpec, TensorView};

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
        let height = NonZeroUsize::new(layout.height).unwrap_or(NonZeroUsize::MIN);
        let cut = PanelCut::new(NonZeroUsize::MIN, NonZeroUsize::MIN, height);
        Ok(if self.order == Order::Rows { cut.of_transposed() } else { cut })
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        Ok(Box::new(Encoder::new(self, original.spec(), cx)?))
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
    /// Columns that have begun, and the row and column of the next block.
    begun: usize,
    next: (usize, usize),
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
            begun: 0,
            next: (0, 0),
            x: Vec::new(),
            room: Room::default(),
        })
    }

    fn wrong(&self, given: &str) -> CodecError {
        CodecError::Usage(format!("{given}, where row {}, column {} is next", self.next.0, self.next.1))
    }

    /// The index in the matrix view of the first value that is not finite.
    fn check_finite(&self, values: &[f32], (row, column): (usize, usize)) -> Result<()> {
        let Some(at) = first_non_finite(values) else { return Ok(()) };
        Err(CodecError::NonFinite { index: self.layout.index(self.codec.order, row + at, column) })
    }
}

impl PanelEncoder for Encoder<'_> {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        let (row, column) = self.next;
        if row != 0 || self.begun != column || column == self.layout.columns || values.len() != self.layout.rows {
            return Err(self.wrong(&format!("a column of {} values", values.len())));
        }
        self.cx.cancel.check()?;
        self.check_finite(values, (0, column))?;
        self.begun += 1;
        self.cx.progress.tick(values.len() as u64);
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let (row, column) = self.next;
        let Layout { rows: all, height, .. } = self.layout;
        let wanted = row..(row + height).min(all);
        if rows != wanted || columns != (column..column + 1) || self.begun != column + 1 || values.len() != rows.len() {
            return Err(self.wrong(&format!("{} values of rows {rows:?}, columns {columns:?}", values.len())));
        }
        self.check_finite(values, self.next)?;
        let (factors, step) = (&self.tables.0[rows.clone()], self.tables.1[column]);
        self.x.clear();
        self.x.extend(values.iter().zip(factors).map(|(value, factor)| value / (step * factor)));
        if let Some(x) = self.x.iter().find(|x| x.is_nan() || x.abs() >= LARGEST) {
            let reason = "a weight of 2²¹ steps or more has no multiple; a larger step is needed".to_owned();
            return Err(CodecError::Unsuitable { reason, number: f64::from(*x) });
        }
        let block = row / height;
        let state = &mut self.states[block];
        if column.is_multiple_of(self.layout.segment_of(block).width()) {
            *state = 0;
        }
        let multiples = &mut self.multiples[column * all..][rows.clone()];
        *state = search(self.codec.states, &self.x, *state, &mut self.room, multiples);
        // The rows that the last block lacks are zeros for the trellis.
        for _ in rows.len()..height {
            *state = self.machine.next(*state, 0);
        }
        for ((value, factor), j) in values.iter_mut().zip(factors).zip(multiples) {
            *value = *j as f32 * (step * factor);
        }
        self.next = if rows.end == all { (0, column + 1) } else { (rows.end, column) };
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        if self.next != (0, self.layout.columns) {
            return Err(self.wrong("the end"));
        }
        let payload = payload(self.layout, &self.steps, &self.multiples, self.cx)?;
        if payload.bytes() <= self.most {
            return Ok(payload);
        }
        let reason = format!("more than {} bytes; a larger step is needed", self.most);
        Err(CodecError::Unsuitable { reason, number: payload.bytes() as f64 })
    }
}
