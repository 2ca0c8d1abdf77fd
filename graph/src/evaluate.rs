//! Evaluating nodes.

use std::ops::Range;
use std::sync::Arc;

use codec_api::util::zeros;
use codec_api::{Cancel, CodecError, NoProgress, Progress};
use futures_channel::oneshot;

use crate::cache::{Cache, Value};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node};
use crate::operation::rows_and_columns;
use crate::optimise::Rules;
use crate::plan::Plan;
use crate::run::Run;

/// How to evaluate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of results, kept values and blocks at a time; `None`: no limit. Leaves in memory
    /// and what codecs allocate are not counted. Blocks become smaller to keep it; results have the
    /// same bits.
    pub memory: Option<u64>,
    /// Ends the evaluation early; checked once per block.
    pub cancel: Option<Arc<Cancel>>,
    /// Receives the number of values that were computed.
    pub progress: Arc<dyn Progress>,
    /// Where results are kept and found. Expressions are then evaluated as they were built, so that
    /// others find their parts.
    pub cache: Option<Arc<Cache>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: None, cancel: None, progress: Arc::new(NoProgress), cache: None }
    }
}

/// What an evaluation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Nodes that were computed.
    pub evaluations: u64,
    /// Nodes found in the cache.
    pub hits: u64,
    /// Bytes of leaves, as they are stored, and of kept values that operations have read.
    pub bytes_read: u64,
    /// Bytes of kept values and results.
    pub bytes_written: u64,
    /// Most bytes of results, kept values and blocks at a time.
    pub peak_bytes: u64,
}

impl Graph {
    /// Evaluates a node. Small expressions are evaluated on the calling thread.
    ///
    /// Without a cache, all evaluations rewrite an expression first where that keeps every bit:
    /// slices and casts move towards the leaves, and sums take one pass. Rewrites that change the
    /// last bits are done by [`Self::optimise`] alone.
    ///
    /// # Errors
    /// Those of leaves and operations.
    pub fn eval(&self, node: Node) -> Result<Arc<Value>> {
        let (mut values, _) = self.evaluate(&[node], &Options::default())?;
        values.pop().ok_or(Error::Foreign)
    }

    /// Evaluates nodes together: each shared node once.
    ///
    /// # Errors
    /// Those of leaves and operations; [`Error::Cancelled`]; [`Error::Memory`].
    pub fn evaluate(&self, nodes: &[Node], options: &Options) -> Result<(Vec<Arc<Value>>, Statistics)> {
        let plan = self.plan(nodes.iter().map(|node| (*node, None)), options)?;
        let mut run = Run::new(self, &plan, options);
        run.steps(0..plan.steps.len())?;
        let values = plan.wanted.iter().filter_map(|at| run.take(*at)).collect();
        Ok((values, run.statistics()))
    }

    /// Evaluates some rows of a node, and no rows of others that they do not need.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; [`Error::Leaf`] for rows that are not there.
    pub fn rows(&self, node: Node, rows: Range<usize>, options: &Options) -> Result<(Vec<f32>, Statistics)> {
        let spec = self.spec(node)?;
        let (all, columns) = rows_and_columns(&spec);
        if rows.start > rows.end || rows.end > all {
            let error = CodecError::Usage(format!("rows {rows:?} of a tensor {spec} with {all} rows"));
            return Err(Error::Leaf { leaf: format!("{node:?}"), error });
        }
        let plan = self.plan([(node, Some(rows.clone()))], options)?;
        let mut run = Run::new(self, &plan, options);
        run.steps(0..plan.steps.len())?;
        let statistics = run.statistics();
        let value = run.take(plan.wanted[0]).ok_or(Error::Foreign)?;
        drop(run);
        if value.values.len() == spec.elements() && rows.len() != all {
            return Ok((value.values[rows.start * columns..rows.end * columns].to_vec(), statistics));
        }
        Ok((Arc::try_unwrap(value).map_or_else(|value| value.values.clone(), |value| value.values), statistics))
    }

    /// Evaluates a node by windows of rows, and gives each to `visit`, in their order, with the
    /// number of its first row. The result is never in memory as a whole.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and those of `visit`.
    pub fn visit(
        &self,
        node: Node,
        options: &Options,
        mut visit: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<Statistics> {
        /// Values of a window: enough for all threads.
        const WINDOW: usize = 1 << 20;
        let plan = self.plan([(node, None)], options)?;
        let (rows, columns) = rows_and_columns(&self.spec(node)?);
        let mut run = Run::new(self, &plan, options);
        let Some((last, before)) = plan.steps.split_last() else {
            let value = run.take(plan.wanted[0]).ok_or(Error::Foreign)?;
            visit(0, value.values())?;
            return Ok(run.statistics());
        };
        run.steps(0..before.len())?;
        let allowed = options.memory.map_or(WINDOW, |bytes| WINDOW.min(bytes as usize / 16));
        let window = (allowed / columns.max(1)).clamp(1, rows.max(1));
        let fail = |error| Error::Leaf { leaf: format!("{node:?}"), error };
        let mut out = zeros(window * columns).map_err(fail)?;
        for first in (0..rows).step_by(window) {
            let end = (first + window).min(rows);
            let out = &mut out[..(end - first) * columns];
            run.fill(last, first..end, out)?;
            visit(first, out)?;
        }
        Ok(run.statistics())
    }

    /// Evaluates a node on a thread of rayon.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub async fn eval_async(self: &Arc<Self>, node: Node, options: &Options) -> Result<Arc<Value>> {
        let (sender, receiver) = oneshot::channel();
        let (graph, options) = (Arc::clone(self), options.clone());
        rayon::spawn(move || {
            let result = graph.evaluate(&[node], &options);
            // Nobody waits any more if the future was dropped.
            let _ = sender.send(result.and_then(|(mut values, _)| values.pop().ok_or(Error::Foreign)));
        });
        receiver.await.unwrap_or(Err(Error::Cancelled))
    }

    pub(crate) fn plan(
        &self,
        wanted: impl IntoIterator<Item = (Node, Option<Range<usize>>)>,
        options: &Options,
    ) -> Result<Arc<Plan>> {
        let numbers = wanted.into_iter().map(|(node, rows)| self.check(node).map(|()| (node.index, rows)));
        let wanted: Vec<_> = numbers.collect::<Result<_>>()?;
        if let Some(cache) = options.cache.as_deref() {
            return Ok(Plan::new(&self.read(), &wanted, |id| cache.get(self.node(id))).into());
        }
        match *wanted {
            [(id, None)] => self.planned(id, || Ok(self.rewritten(wanted, Rules::Exact)?.0)),
            _ => Ok(self.rewritten(wanted, Rules::Exact)?.0.into()),
        }
    }
}
