//! Cheaper expressions with the same values, and what an evaluation will do.

use std::any::Any;
use std::fmt::Write;
use std::sync::Arc;

use crate::error::Result;
use crate::evaluate::Options;
use crate::graph::{Data, Graph, Kind, Node};
use crate::leaf::Leaf;
use crate::operation::rows_and_columns;
use crate::operations::elementwise::{Binary, Cast, Function, Pair, Scale, Threshold};
use crate::operations::matmul::{Linear, Matmul};
use crate::operations::sums::WeightedSum;
use crate::operations::views::{Reshape, Slice, Transpose};
use crate::plan::{Plan, Role, Wanted};

/// Most values of a constant that is computed in advance.
const FOLDED: usize = 4096;

/// Most passes over an expression: a slice moves by one operation in a pass.
const PASSES: usize = 64;

/// A cheaper node, and why it is cheaper.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Optimised {
    /// The node.
    pub node: Node,
    /// A sentence for each rewrite.
    pub rewrites: Vec<String>,
}

/// Which rewrites are done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rules {
    /// Those that keep every bit and make one evaluation cheaper.
    Exact,
    /// Also constants, which are computed once for all evaluations, and products.
    All,
}

/// A rewritten node, and the rewrite's name.
type Rewrite = Option<(Node, &'static str)>;

/// A rewrite: its name, and the nodes before and after it.
type Rewritten = (&'static str, Node, Node);

/// A node that may be rewritten.
struct Place<'a> {
    node: Node,
    data: &'a Data,
    /// Whether nothing else uses the first operand.
    alone: bool,
}

impl Graph {
    /// Rewrites an expression with every rule. Products may be associated otherwise and use
    /// operators of codecs, so that their last bits differ; all other rewrites keep every bit.
    ///
    /// # Errors
    /// Those of constants that are computed in advance.
    pub fn optimise(&self, node: Node) -> Result<Optimised> {
        self.check(node)?;
        let (_, ids, rewrites) = self.rewritten(vec![(node.index, None)], Rules::All)?;
        let sentence = |(rule, old, new): Rewritten| format!("{rule}: {old:?} becomes {new:?}");
        Ok(Optimised { node: self.node(ids[0].0), rewrites: rewrites.into_iter().map(sentence).collect() })
    }

    /// The plan of rewritten expressions, the wanted ones, and the rewrites.
    pub(crate) fn rewritten(
        &self,
        mut wanted: Vec<Wanted>,
        rules: Rules,
    ) -> Result<(Plan, Vec<Wanted>, Vec<Rewritten>)> {
        let (mut rewrites, mut plan) = (Vec::new(), Plan::new(&self.read(), &wanted, |_| None));
        for _ in 0..PASSES {
            let Some(new) = self.pass(&plan, rules, &mut rewrites)? else { break };
            wanted.iter_mut().zip(&plan.wanted).for_each(|((id, _), at)| *id = new[*at].index);
            plan = Plan::new(&self.read(), &wanted, |_| None);
        }
        Ok((plan, wanted, rewrites))
    }

    /// Rewrites every node of a plan, operands first. `None` if no rule fits.
    fn pass(&self, plan: &Plan, rules: Rules, rewrites: &mut Vec<Rewritten>) -> Result<Option<Vec<Node>>> {
        if rules == Rules::Exact && !plan.data.iter().any(|data| has_exact_rule(data)) {
            return Ok(None);
        }
        let (before, uses) = (rewrites.len(), plan.uses());
        let mut new: Vec<Node> = plan.ids.iter().map(|id| self.node(*id)).collect();
        for (at, data) in plan.data.iter().enumerate() {
            let Kind::Operation { operation, .. } = &data.kind else { continue };
            let edges = plan.operands(at);
            let alone = edges.first().is_some_and(|(operand, _)| uses[*operand] == 1);
            let mut data = Arc::clone(data);
            if edges.iter().any(|(operand, _)| new[*operand].index != plan.ids[*operand]) {
                let operands: Vec<Node> = edges.iter().map(|(operand, _)| new[*operand]).collect();
                new[at] = self.apply_shared(Arc::clone(operation), &operands)?;
                data = self.data(new[at])?;
            }
            // Every rule makes an expression cheaper, or moves a node nearer to the leaves.
            while let Some((better, rule)) = self.rewrite(&Place { node: new[at], data: &data, alone }, rules)? {
                rewrites.push((rule, new[at], better));
                new[at] = better;
                data = self.data(better)?;
            }
        }
        Ok((rewrites.len() > before).then_some(new))
    }

    /// The rewrites of [`Self::optimise`], and the steps of the evaluation that follows: what each
    /// computes, what it keeps, and what it reads.
    ///
    /// # Errors
    /// As [`Self::optimise`].
    pub fn explain(&self, node: Node) -> Result<String> {
        let Optimised { node, rewrites } = self.optimise(node)?;
        let plan = self.plan([(node, None)], &Options::default())?;
        let mut text = rewrites.iter().fold(String::new(), |text, rewrite| text + rewrite + "\n");
        for (number, step) in plan.steps.iter().enumerate() {
            let (spec, rows) = (&plan.data[step.root].spec, &plan.need[step.root]);
            let names: Vec<String> = step.members.iter().map(|at| name(&plan.data[*at])).collect();
            let what = if step.survey { "first pass" } else { "keeps" };
            let _ = writeln!(
                text,
                "step {number} {what} node {} ({spec}), rows {rows:?}, in one pass: {}",
                plan.ids[step.root],
                names.join(", ")
            );
        }
        let read = plan.roles.iter().zip(&plan.data).zip(&plan.ids);
        for ((_, data), id) in read.filter(|((role, _), _)| matches!(role, Role::Direct | Role::Operator)) {
            let _ = writeln!(text, "reads node {id} ({}) where it is: {}", data.spec, name(data));
        }
        Ok(text)
    }

    /// Applies the first rule that fits.
    fn rewrite(&self, place: &Place<'_>, rules: Rules) -> Result<Rewrite> {
        let Kind::Operation { operation, operands } = &place.data.kind else { return Ok(None) };
        if rules == Rules::Exact && !has_exact_rule(place.data) {
            return Ok(None);
        }
        let nodes: Vec<Node> = operands.iter().map(|(id, _)| self.node(*id)).collect();
        let below: Vec<Arc<Data>> = nodes.iter().map(|node| self.data(*node)).collect::<Result<_>>()?;
        if rules == Rules::All
            && let Some(folded) = self.fold(place, &below)?
        {
            return Ok(Some((folded, "constant")));
        }
        let operation: &dyn Any = &**operation;
        if let Some(slice) = operation.downcast_ref::<Slice>() {
            let moves = place.alone && !slice.is_of_whole_rows(&below[0].spec);
            return if moves { self.push_slice(slice, &below[0]) } else { Ok(None) };
        }
        if let Some(cast) = operation.downcast_ref::<Cast>() {
            return if place.alone { self.push_cast(*cast, &below[0]) } else { Ok(None) };
        }
        if let Some(Binary { function: Pair::Add }) = operation.downcast_ref() {
            return self.fuse_sum(&nodes, &below);
        }
        if let (Rules::All, Some(matmul)) = (rules, operation.downcast_ref::<Matmul>()) {
            return self.product(*matmul, &nodes, &below);
        }
        Ok(None)
    }

    /// The values of an operation on small constants.
    fn fold(&self, place: &Place<'_>, below: &[Arc<Data>]) -> Result<Option<Node>> {
        let data = place.data;
        let small = |data: &Data| data.spec.elements() <= FOLDED;
        let constant = |data: &Arc<Data>| small(data) && matches!(data.kind, Kind::Leaf(Leaf::Dense(_)));
        if !small(data) || data.spec.dtype() != codec_api::Dtype::F32 || !below.iter().all(constant) {
            return Ok(None);
        }
        let value = self.eval(place.node)?;
        Ok(Some(self.array(value.spec().shape(), value.values())?))
    }

    /// A slice of an operation on each value is the operation on slices.
    fn push_slice(&self, slice: &Slice, below: &Data) -> Result<Rewrite> {
        let Kind::Operation { operation, operands } = &below.kind else { return Ok(None) };
        let any: &dyn Any = &**operation;
        let by_value = any.is::<Function>() || any.is::<Scale>() || any.is::<Threshold>() || any.is::<Cast>();
        if !(by_value || any.is::<Binary>() || any.is::<WeightedSum>()) {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(operands.len());
        for (id, _) in operands {
            if self.data(self.node(*id))?.spec.shape() != below.spec.shape() {
                return Ok(None);
            }
            parts.push(self.apply(slice.clone(), &[self.node(*id)])?);
        }
        Ok(Some((self.apply_shared(Arc::clone(operation), &parts)?, "slice pushed down")))
    }

    /// Values are rounded before they are moved.
    fn push_cast(&self, cast: Cast, below: &Data) -> Result<Rewrite> {
        let Kind::Operation { operation, operands } = &below.kind else { return Ok(None) };
        let any: &dyn Any = &**operation;
        if !(any.is::<Reshape>() || any.is::<Transpose>()) {
            return Ok(None);
        }
        let inner = self.apply(cast, &[self.node(operands[0].0)])?;
        Ok(Some((self.apply_shared(Arc::clone(operation), &[inner])?, "cast pushed down")))
    }

    /// `s·x + t·y` in one pass.
    fn fuse_sum(&self, nodes: &[Node], below: &[Arc<Data>]) -> Result<Rewrite> {
        let scaled = |number: usize| match &below[number].kind {
            Kind::Operation { operation, operands } => {
                let any: &dyn Any = &**operation;
                any.downcast_ref::<Scale>().map(|scale| (self.node(operands[0].0), scale.factor))
            }
            Kind::Leaf(_) => None,
        };
        let (a, b) = (scaled(0), scaled(1));
        if a.is_none() && b.is_none() || below[0].spec.shape() != below[1].spec.shape() {
            return Ok(None);
        }
        let [(x, s), (y, t)] = [a.unwrap_or((nodes[0], 1.0)), b.unwrap_or((nodes[1], 1.0))];
        Ok(Some((self.weighted_sum(&[x, y], &[s, t])?, "scale and add fused")))
    }

    fn product(&self, matmul: Matmul, nodes: &[Node], below: &[Arc<Data>]) -> Result<Rewrite> {
        let [x, right] = [nodes[0], nodes[1]];
        if let Kind::Leaf(leaf) = &below[1].kind {
            let fits = below[1].spec.shape().len() == 2 && leaf.operator()?.is_some();
            let linear = Linear { rows_are_outputs: matmul.transposed };
            return Ok(if fits { Some((self.apply(linear, &[x, right])?, "operator of the codec")) } else { None });
        }
        let Kind::Operation { operation, operands } = &below[1].kind else { return Ok(None) };
        let any: &dyn Any = &**operation;
        if any.is::<Transpose>() {
            let turned = Matmul { transposed: !matmul.transposed };
            let node = self.apply(turned, &[x, self.node(operands[0].0)])?;
            return Ok(Some((node, "transpose in the product")));
        }
        // x·(A·B) is (x·A)·B.
        let inner = any.downcast_ref::<Matmul>().filter(|inner| !inner.transposed && !matmul.transposed);
        let (Some(_), [(a, _), (b, _)]) = (inner, &**operands) else { return Ok(None) };
        let [a, b] = [self.node(*a), self.node(*b)];
        let [shape_a, shape_b] = [self.spec(a)?, self.spec(b)?];
        let ([k, r], &[_, n]) = (shape_a.shape(), shape_b.shape()) else { return Ok(None) };
        let rows = rows_and_columns(&below[0].spec).0 as f64;
        let [k, r, n] = [*k, *r, n].map(|length| length as f64);
        if rows * k * r + rows * r * n >= k * r * n + rows * k * n {
            return Ok(None);
        }
        let left = self.matmul(x, a)?;
        Ok(Some((self.matmul(left, b)?, "product associated by cost")))
    }
}

/// Whether an exact rule may fit an operation.
fn has_exact_rule(data: &Data) -> bool {
    let Kind::Operation { operation, .. } = &data.kind else { return false };
    let any: &dyn Any = &**operation;
    any.is::<Slice>() || any.is::<Cast>() || matches!(any.downcast_ref(), Some(Binary { function: Pair::Add }))
}

/// An operation or leaf, for readers.
pub(crate) fn name(data: &Data) -> String {
    match &data.kind {
        Kind::Leaf(leaf) => format!("{leaf:?}"),
        Kind::Operation { operation, .. } => operation.typetag_name().to_owned(),
    }
}
