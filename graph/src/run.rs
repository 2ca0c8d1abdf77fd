//! Running the steps of a plan.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec_api::CodecError;
use codec_api::util::zeros;
use rayon::prelude::*;

use crate::cache::Value;
use crate::error::{Error, Result};
use crate::evaluate::{Options, Statistics};
use crate::graph::{Graph, Kind};
use crate::operation::{Access, Block, Operand, Survey, rows_and_columns};
use crate::plan::{OUT, Plan, Role, Step};
use crate::reader::Reader;

/// Values of the widest node of a block, if no operation prefers more rows: several such buffers
/// stay in the first two levels of the cache.
const BLOCK: usize = 1 << 14;

/// Rows below which the blocks of a product are not divided among more threads.
const FEW: usize = 16;

/// Floating-point operations below which other threads would only delay a step: they have to be
/// woken first.
const SMALL: f64 = 4e5;

/// The same for results of fewer than [`FEW_VALUES`], whose operations are not bound by memory.
const SMALL_IN_CACHE: f64 = 4e6;
const FEW_VALUES: usize = 1 << 18;

/// An evaluation in progress.
pub(crate) struct Run<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a Plan,
    pub(crate) options: &'a Options,
    /// Values of kept nodes, from the first row that is needed.
    values: Vec<Option<Arc<Value>>>,
    surveys: Vec<Option<Box<dyn Any + Send + Sync>>>,
    /// A buffer that is not used any more.
    spare: Option<Vec<f32>>,
    live: u64,
    peak: u64,
    evaluations: u64,
    hits: u64,
    read: AtomicU64,
    written: u64,
}

/// Buffers of a thread.
struct Scratch {
    slots: Vec<Vec<f32>>,
    /// The rows of each node of the step.
    ranges: Vec<Range<usize>>,
}

impl Scratch {
    fn new(step: &Step) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(step.slots, Vec::new);
        Self { slots, ranges: vec![0..0; step.width] }
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(graph: &'a Graph, plan: &'a Plan, options: &'a Options) -> Self {
        let (mut values, mut hits) = (vec![None; plan.ids.len()], 0);
        for (value, role) in values.iter_mut().zip(&plan.roles) {
            if let Role::Cached(cached) = role {
                *value = Some(Arc::clone(cached));
                hits += 1;
            }
        }
        let mut surveys = Vec::new();
        if plan.steps.iter().any(|step| step.survey) {
            surveys.resize_with(plan.ids.len(), || None);
        }
        let (live, peak, evaluations, written) = (0, 0, 0, 0);
        let read = AtomicU64::new(0);
        Self { graph, plan, options, values, surveys, spare: None, live, peak, evaluations, hits, read, written }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            evaluations: self.evaluations,
            hits: self.hits,
            bytes_read: self.read.load(Ordering::Relaxed),
            bytes_written: self.written,
            peak_bytes: self.peak,
        }
    }

    /// The value of a wanted node.
    pub(crate) fn take(&mut self, position: usize) -> Option<Arc<Value>> {
        self.values[position].clone()
    }

    /// Runs steps, and lets go of values after their last use, unless they are wanted.
    pub(crate) fn steps(&mut self, steps: Range<usize>) -> Result<()> {
        let plan = self.plan;
        for number in steps {
            let step = &plan.steps[number];
            if step.survey {
                self.survey(step)?;
            } else {
                self.keep(step)?;
            }
            let operands = step.members.iter().flat_map(|at| plan.operands(*at)).map(|(operand, _)| *operand);
            for at in operands.filter(|at| plan.last_step[*at] == number && !plan.wanted.contains(at)) {
                if let Some(value) = self.values[at].take()
                    && matches!(plan.roles[at], Role::Kept)
                {
                    self.live -= size_of_val(value.values()) as u64;
                    self.spare = Arc::try_unwrap(value).ok().map(|value| value.values);
                }
            }
        }
        Ok(())
    }

    /// Computes a node that is kept, or finds it in the cache.
    fn keep(&mut self, step: &Step) -> Result<()> {
        let (at, plan, options) = (step.root, self.plan, self.options);
        let (rows, _) = rows_and_columns(&plan.data[at].spec);
        let whole = plan.need[at] == (0..rows);
        let cache = options.cache.as_deref().filter(|_| whole);
        let waits = rayon::current_thread_index().is_none();
        let value = match cache {
            Some(cache) => {
                let (value, hit) = cache.find(self.graph.node(plan.ids[at]), waits, || self.compute(step))?;
                if hit {
                    self.hits += 1;
                    self.live += size_of_val(value.values()) as u64;
                }
                value
            }
            None => self.compute(step)?,
        };
        self.values[at] = Some(value);
        Ok(())
    }

    fn compute(&mut self, step: &Step) -> Result<Arc<Value>> {
        let (at, plan) = (step.root, self.plan);
        let rows = plan.need[at].clone();
        let spec = &plan.data[at].spec;
        let len = rows.len() * rows_and_columns(spec).1;
        let spare = self.spare.take().filter(|spare| spare.capacity() >= len && spare.capacity() / 2 <= len);
        let mut values = match spare {
            Some(mut spare) => {
                spare.resize(len, 0.0);
                spare
            }
            None => zeros(len).map_err(|error| self.failed(at, error))?,
        };
        self.live += size_of_val(&*values) as u64;
        self.fill(step, rows, &mut values)?;
        Ok(Arc::new(Value { spec: spec.clone(), values }))
    }

    /// Computes rows of the root of a step, in parallel if that is worth it.
    pub(crate) fn fill(&mut self, step: &Step, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let (all, columns) = rows_and_columns(&self.plan.data[step.root].spec);
        let at_once = Self::block(step, rows.len());
        let flops = step.flops * rows.len() as f64 / all.max(1) as f64;
        let blocks = rows.len().div_ceil(at_once);
        let small = if out.len() < FEW_VALUES { SMALL_IN_CACHE } else { SMALL };
        let threads = if flops < small { 1 } else { rayon::current_num_threads().min(blocks.max(1)) };
        let at_once = self.budget(step, at_once, threads)?;
        let this = &*self;
        let compute = |scratch: &mut Scratch, (number, out): (usize, &mut [f32])| -> Result<()> {
            let first = rows.start + number * at_once;
            this.compute_block(step, first..(first + at_once).min(rows.end), out, scratch)?;
            this.options.progress.tick(out.len() as u64);
            Ok(())
        };
        let chunk = (at_once * columns).max(1);
        if threads == 1 {
            let mut scratch = Scratch::new(step);
            out.chunks_mut(chunk).enumerate().try_for_each(|block| compute(&mut scratch, block))?;
        } else {
            let blocks = out.par_chunks_mut(chunk).enumerate();
            blocks.try_for_each_init(|| Scratch::new(step), compute)?;
        }
        self.evaluations += step.members.len() as u64;
        self.written += size_of_val(out) as u64;
        Ok(())
    }

    /// Rows of a block, if `rows` are computed.
    fn block(step: &Step, rows: usize) -> usize {
        let few = match step.rows {
            usize::MAX => rows,
            preferred => preferred.min(rows.div_ceil(rayon::current_num_threads()).max(FEW)),
        };
        (BLOCK / step.columns).max(few).clamp(1, rows.max(1))
    }

    /// Rows of a block within the byte budget.
    fn budget(&mut self, step: &Step, at_once: usize, threads: usize) -> Result<usize> {
        let mut widths = vec![0; step.slots];
        for &at in &step.members {
            if let Some(width) = widths.get_mut(self.plan.slot[at] as usize) {
                *width = rows_and_columns(&self.plan.data[at].spec).1.max(*width);
            }
        }
        let row = (widths.iter().sum::<usize>() * 4 * threads) as u64;
        let mut rows = at_once as u64;
        if let Some(allowed) = self.options.memory {
            let left = allowed.saturating_sub(self.live);
            if self.live > allowed || row > left {
                return Err(Error::Memory { needed: self.live + row, allowed });
            }
            rows = rows.min(left.checked_div(row).unwrap_or(rows)).max(1);
        }
        self.peak = self.peak.max(self.live + row * rows);
        Ok(rows as usize)
    }

    fn failed(&self, at: usize, error: CodecError) -> Error {
        if matches!(error, CodecError::Cancelled) {
            return Error::Cancelled;
        }
        let operation = match &self.plan.data[at].kind {
            Kind::Operation { operation, .. } => operation.typetag_name().to_owned(),
            Kind::Leaf(leaf) => format!("{leaf:?}"),
        };
        Error::Operation { operation, node: self.plan.ids[at], error }
    }

    /// The pass of an operation over its operands.
    fn survey(&mut self, step: &Step) -> Result<()> {
        let (at, plan) = (step.root, self.plan);
        let Kind::Operation { operation, .. } = &plan.data[at].kind else { return Ok(()) };
        if plan.data[at].prepared.get().is_some() {
            return Ok(());
        }
        let edges = plan.operands(at);
        let specs: Vec<_> = edges.iter().map(|(operand, _)| &plan.data[*operand].spec).collect();
        let reader = Reader { graph: self.graph, options: self.options, plan, at, specs: &specs };
        if let Some(prepared) = operation.prepare(&reader).map_err(|error| self.failed(at, error))? {
            // Another evaluation may have come first, with the same result.
            drop(plan.data[at].prepared.set(prepared));
            return Ok(());
        }
        let Some(mut survey) = operation.survey(&specs) else { return Ok(()) };
        let rows = specs.iter().map(|spec| rows_and_columns(spec).0).max().unwrap_or(0);
        let at_once = self.budget(step, Self::block(step, rows), 1)?;
        let mut scratch = Scratch::new(step);
        loop {
            for first in (0..rows).step_by(at_once) {
                self.survey_block(step, first..(first + at_once).min(rows), &mut *survey, &mut scratch)?;
            }
            if !survey.again() {
                break;
            }
        }
        self.surveys[at] = Some(survey.finish());
        Ok(())
    }

    fn survey_block(
        &self,
        step: &Step,
        rows: Range<usize>,
        survey: &mut dyn Survey,
        scratch: &mut Scratch,
    ) -> Result<()> {
        scratch.ranges[self.plan.place[step.root]] = rows;
        self.ranges(step.root, scratch);
        step.members.iter().rev().for_each(|at| self.ranges(*at, scratch));
        for &at in &step.members {
            self.member(at, &mut [], scratch)?;
        }
        let (operands, _) = self.operands(step.root, scratch, false)?;
        survey.take(&operands).map_err(|error| self.failed(step.root, error))
    }

    /// Computes rows of the root.
    fn compute_block(&self, step: &Step, rows: Range<usize>, out: &mut [f32], scratch: &mut Scratch) -> Result<()> {
        if let Some(cancel) = &self.options.cancel {
            cancel.check().map_err(|_| Error::Cancelled)?;
        }
        scratch.ranges[self.plan.place[step.root]] = rows;
        step.members.iter().rev().for_each(|at| self.ranges(*at, scratch));
        step.members.iter().try_for_each(|at| self.member(*at, out, scratch))
    }

    /// The rows of streamed operands.
    fn ranges(&self, at: usize, scratch: &mut Scratch) {
        for (number, (operand, access)) in self.plan.operands(at).iter().enumerate() {
            if matches!(self.plan.roles[*operand], Role::Streamed) && *access != Access::Operator {
                let rows = scratch.ranges[self.plan.place[at]].clone();
                scratch.ranges[self.plan.place[*operand]] = self.plan.rows_of(at, number, rows);
            }
        }
    }

    /// Computes a node's rows of a block.
    fn member(&self, at: usize, out: &mut [f32], scratch: &mut Scratch) -> Result<()> {
        let (data, rows) = (&self.plan.data[at], scratch.ranges[self.plan.place[at]].clone());
        let slot = self.plan.slot[at];
        let mut own = Vec::new();
        let target = if slot == OUT {
            out
        } else {
            own = std::mem::take(&mut scratch.slots[slot as usize]);
            own.resize(rows.len() * rows_and_columns(&data.spec).1, 0.0);
            own.as_mut_slice()
        };
        match &data.kind {
            Kind::Leaf(leaf) => {
                let read = leaf.read(&data.spec, rows, target)?;
                self.read.fetch_add(read, Ordering::Relaxed);
            }
            Kind::Operation { operation, .. } => {
                let (mut operands, read) = self.operands(at, scratch, true)?;
                if operation.in_place()
                    && let Some(first) = operands.first_mut()
                {
                    if !self.plan.shares_buffer(at, self.plan.operands(at)[0].0) {
                        target.copy_from_slice(first.values);
                    }
                    first.values = &[];
                }
                let survey = data.prepared.get().or_else(|| self.surveys.get(at)?.as_ref()).map(|found| &**found);
                let block = Block { rows, spec: &data.spec, operands: &operands, survey };
                operation.evaluate(&block, target).map_err(|error| self.failed(at, error))?;
                self.read.fetch_add(read, Ordering::Relaxed);
            }
        }
        if slot != OUT {
            scratch.slots[slot as usize] = own;
        }
        Ok(())
    }

    /// The operands of a node, and the bytes of leaves and kept values among them. One whose values
    /// are in the output has none here.
    fn operands<'s>(&'s self, at: usize, scratch: &'s Scratch, taken: bool) -> Result<(Vec<Operand<'s>>, u64)> {
        let (plan, mut bytes) = (self.plan, 0);
        let edges = plan.operands(at);
        let mut operands = Vec::with_capacity(edges.len());
        for (number, &(operand, access)) in edges.iter().enumerate() {
            let data = &*plan.data[operand];
            let rows = plan.rows_of(at, number, scratch.ranges[plan.place[at]].clone());
            let columns = rows_and_columns(&data.spec).1;
            let (mut values, mut operator): (&[f32], _) = (&[], None);
            if access == Access::Operator {
                if let Kind::Leaf(leaf) = &data.kind {
                    operator = leaf.operator()?;
                    bytes += operator.map_or(0, codec_api::LinearOp::resident_bytes);
                }
            } else if matches!(plan.roles[operand], Role::Streamed) {
                if !(taken && number == 0 && plan.shares_buffer(at, operand)) {
                    values = &scratch.slots[plan.slot[operand] as usize];
                    values = values.get(..rows.len() * columns).unwrap_or(values);
                }
            } else {
                let (all, first) = match &self.values[operand] {
                    Some(value) if matches!(plan.roles[operand], Role::Kept) => (
                        value.values(),
                        if value.values().len() == data.spec.elements() { 0 } else { plan.need[operand].start },
                    ),
                    Some(value) => (value.values(), 0),
                    None => (data.values().unwrap_or(&[]), 0),
                };
                let range = rows.start.saturating_sub(first) * columns..rows.end.saturating_sub(first) * columns;
                let wrong = || CodecError::Usage(format!("operand {number} has no rows {rows:?}"));
                values = all.get(range).ok_or_else(wrong).map_err(|error| self.failed(at, error))?;
                bytes += size_of_val(values) as u64;
            }
            operands.push(Operand { spec: &data.spec, rows, values, operator });
        }
        Ok((operands, bytes))
    }
}
