//! From the wanted nodes to steps.
//!
//! A step computes one node whole (or the rows of it that others need), block by block of rows.
//! Nodes that only this step uses, and by the same rows, are computed with it, in blocks that stay
//! in the caches. Every other node is kept until its last use. There is no recursion: nodes are in
//! the order in which they were built, operands first.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use crate::cache::Value;
use crate::graph::{Data, Kind, Nodes};
use crate::operation::{Access, rows_and_columns};

/// How the values of a node are at hand.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// They are in memory already: a dense leaf.
    Direct,
    /// So is a result of an earlier evaluation.
    Cached(Arc<Value>),
    /// A step computes them, and they are kept until their last use.
    Kept,
    /// The step of another node computes them by blocks.
    Streamed,
    /// Only its linear operator is used.
    Operator,
}

/// A node that is wanted, and which of its rows, if not all.
pub(crate) type Wanted = (u32, Option<Range<usize>>);

/// The slot of a node whose values are in the output of its step.
pub(crate) const OUT: u32 = u32::MAX;

/// The computation of one node.
#[derive(Debug)]
pub(crate) struct Step {
    /// The position of the node.
    pub(crate) root: usize,
    /// The positions of the nodes that are computed, in their order.
    pub(crate) members: Vec<usize>,
    /// Whether the operands of the root are computed, for its first pass over them.
    pub(crate) survey: bool,
    /// Number of buffers of a block.
    pub(crate) slots: usize,
    /// Number of nodes that the root's step computes.
    pub(crate) width: usize,
    /// Most columns of a member.
    pub(crate) columns: usize,
    /// Most rows that a member prefers.
    pub(crate) rows: usize,
    /// Floating-point operations for all rows of the members.
    pub(crate) flops: f64,
}

/// The nodes below the wanted ones, and how they are computed.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Numbers of the nodes in the graph, ascending. A position is an index here.
    pub(crate) ids: Vec<u32>,
    pub(crate) data: Vec<Arc<Data>>,
    /// Positions of the operands of all nodes.
    edges: Vec<(usize, Access)>,
    /// Where the edges of each node begin.
    first: Vec<usize>,
    pub(crate) roles: Vec<Role>,
    /// The rows that are needed.
    pub(crate) need: Vec<Range<usize>>,
    /// The buffer of each streamed node in a block.
    pub(crate) slot: Vec<u32>,
    /// The consumer whose buffer a node shares; the node itself without one.
    chain: Vec<usize>,
    /// The number of each node in its step.
    pub(crate) place: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    /// The last step that uses a kept node.
    pub(crate) last_step: Vec<usize>,
    /// The positions of the wanted nodes, in the order in which they were given.
    pub(crate) wanted: Vec<usize>,
}

/// How consumers use a node.
#[derive(Clone, Copy, Default)]
struct Uses {
    count: usize,
    /// The first consumer's space and step.
    space: usize,
    step: usize,
    /// Whether the consumers' rows differ, or one needs all rows.
    apart: bool,
    last: usize,
}

impl Plan {
    /// Plans the evaluation of `wanted` rows of nodes. `cached` knows results of earlier ones.
    pub(crate) fn new(nodes: &Nodes<'_>, wanted: &[Wanted], cached: impl Fn(u32) -> Option<Arc<Value>>) -> Self {
        let mut plan = Self::collect(nodes, wanted, cached);
        plan.wanted = wanted.iter().map(|(id, _)| plan.position(*id)).collect();
        let mut stage = vec![0; plan.ids.len()];
        let uses = plan.assign(wanted, &mut stage);
        plan.make_steps(&stage, &uses);
        plan
    }

    /// The position of a node of the graph.
    pub(crate) fn position(&self, id: u32) -> usize {
        self.ids.partition_point(|other| *other < id)
    }

    pub(crate) fn operands(&self, position: usize) -> &[(usize, Access)] {
        &self.edges[self.first[position]..self.first[position + 1]]
    }

    /// How often each node is used: by others, and as a wanted one.
    pub(crate) fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.ids.len()];
        self.edges.iter().map(|(operand, _)| operand).chain(&self.wanted).for_each(|at| uses[*at] += 1);
        uses
    }

    /// Finds the nodes below the wanted ones: a heap gives the latest first, each once.
    fn collect(nodes: &Nodes<'_>, wanted: &[Wanted], cached: impl Fn(u32) -> Option<Arc<Value>>) -> Self {
        let mut heap: BinaryHeap<u32> = wanted.iter().map(|(id, _)| *id).collect();
        let (mut ids, mut roles) = (Vec::new(), Vec::new());
        while let Some(id) = heap.pop() {
            if ids.last() == Some(&id) {
                continue;
            }
            ids.push(id);
            if let Some(value) = cached(id) {
                roles.push(Role::Cached(value));
            } else {
                roles.push(Role::Streamed);
                heap.extend(nodes[id as usize].operands().iter().map(|(id, _)| *id));
            }
        }
        ids.reverse();
        roles.reverse();
        let data: Vec<_> = ids.iter().map(|id| Arc::clone(&nodes[*id as usize])).collect();
        let (mut edges, mut first) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len() + 1));
        for (data, role) in data.iter().zip(&roles) {
            first.push(edges.len());
            if !matches!(role, Role::Cached(_)) {
                let place = |id: u32| ids.partition_point(|other| *other < id);
                edges.extend(data.operands().iter().map(|(id, access)| (place(*id), *access)));
            }
        }
        first.push(edges.len());
        let len = ids.len();
        let (need, last_step) = (vec![0..0; len], vec![usize::MAX; len]);
        let (slot, chain, place) = (vec![OUT; len], (0..len).collect(), vec![0; len]);
        Self {
            ids,
            data,
            edges,
            first,
            roles,
            need,
            slot,
            chain,
            place,
            steps: Vec::new(),
            last_step,
            wanted: Vec::new(),
        }
    }

    /// Decides from the last node to the first which are kept, and which rows are needed.
    fn assign(&mut self, wanted: &[Wanted], stage: &mut [usize]) -> Vec<Uses> {
        let mut uses = vec![Uses::default(); self.ids.len()];
        // The rows of two nodes in one space have the same numbers in each block.
        let mut space = vec![0; self.ids.len()];
        for (number, (_, rows)) in wanted.iter().enumerate() {
            let at = self.wanted[number];
            let all = 0..rows_and_columns(&self.data[at].spec).0;
            unite(&mut self.need[at], rows.clone().unwrap_or(all));
            uses[at].apart = true;
            uses[at].count += 1;
            if !matches!(self.roles[at], Role::Cached(_)) {
                self.roles[at] = Role::Kept;
            }
        }
        for at in (0..self.ids.len()).rev() {
            let used = uses[at];
            (stage[at], space[at]) = (at, at);
            match self.roles[at] {
                Role::Cached(_) => continue,
                Role::Kept => {}
                _ if used.count == 0 => self.roles[at] = Role::Operator,
                _ if self.data[at].values().is_some() => self.roles[at] = Role::Direct,
                _ if used.apart => self.roles[at] = Role::Kept,
                _ => (stage[at], space[at]) = (used.step, used.space),
            }
            let survey = self.has_survey(at);
            for edge in self.first[at]..self.first[at + 1] {
                let (operand, access) = self.edges[edge];
                if access == Access::Operator {
                    continue;
                }
                let all = 0..rows_and_columns(&self.data[operand].spec).0;
                let rows = if survey { all } else { self.rows_of(at, edge - self.first[at], self.need[at].clone()) };
                unite(&mut self.need[operand], rows);
                let used = &mut uses[operand];
                let own = if access == Access::Same { space[at] } else { operand };
                used.apart |= access == Access::Whole
                    || used.count > 0 && (own == operand || used.space != own || used.step != stage[at]);
                (used.space, used.step, used.last) = (own, stage[at], used.last.max(at));
                used.count += 1;
            }
        }
        uses
    }

    /// The rows of an operand that rows of a node need.
    pub(crate) fn rows_of(&self, at: usize, number: usize, rows: Range<usize>) -> Range<usize> {
        let (operand, access) = self.operands(at)[number];
        let spec = &self.data[operand].spec;
        match (access, &self.data[at].kind) {
            (Access::Rows, Kind::Operation { operation, .. }) => {
                operation.rows(number, rows, spec, &self.data[at].spec)
            }
            (Access::Whole, _) => 0..rows_and_columns(spec).0,
            (Access::Operator, _) => 0..0,
            _ => rows,
        }
    }

    fn has_survey(&self, at: usize) -> bool {
        let data = &self.data[at];
        data.surveyed && data.prepared.get().is_none() && !matches!(self.roles[at], Role::Cached(_))
    }

    fn make_steps(&mut self, stage: &[usize], uses: &[Uses]) {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.ids.len()];
        for (at, role) in self.roles.iter().enumerate() {
            if matches!(role, Role::Kept | Role::Streamed) {
                members[stage[at]].push(at);
            }
        }
        for (root, members) in members.into_iter().enumerate().filter(|(_, members)| !members.is_empty()) {
            let (slots, width) = (self.assign_slots(root, &members, uses), members.len());
            members.iter().enumerate().for_each(|(place, at)| self.place[*at] = place);
            let surveyed: Vec<usize> = members.iter().copied().filter(|at| self.has_survey(*at)).collect();
            for at in surveyed {
                let below = self.below(at, &members);
                self.steps.push(self.step(at, below, true, [slots, width]));
            }
            self.steps.push(self.step(root, members, false, [slots, width]));
        }
        for (number, step) in self.steps.iter().enumerate() {
            let users = step.members.iter().chain(step.survey.then_some(&step.root));
            for &user in users {
                for edge in self.first[user]..self.first[user + 1] {
                    self.last_step[self.edges[edge].0] = number;
                }
            }
        }
    }

    fn step(&self, root: usize, members: Vec<usize>, survey: bool, [slots, width]: [usize; 2]) -> Step {
        let mut step = Step { root, members, survey, slots, width, columns: 1, rows: 1, flops: 0.0 };
        let mut specs = Vec::new();
        for &at in &step.members {
            let data = &*self.data[at];
            step.columns = step.columns.max(rows_and_columns(&data.spec).1);
            if let Kind::Operation { operation, .. } = &data.kind
                && !self.operands(at).is_empty()
            {
                specs.clear();
                specs.extend(self.operands(at).iter().map(|(operand, _)| &self.data[*operand].spec));
                step.rows = step.rows.max(operation.preferred_rows());
                step.flops += operation.flops(&specs, &data.spec);
            }
        }
        step
    }

    /// The members of a step that the operands of one of them need.
    fn below(&self, at: usize, members: &[usize]) -> Vec<usize> {
        let mut wanted = vec![false; members.len()];
        wanted[self.place[at]] = true;
        for &member in members.iter().rev().filter(|member| **member <= at) {
            if wanted[self.place[member]] {
                let streamed = |operand: &&(usize, Access)| matches!(self.roles[operand.0], Role::Streamed);
                // A streamed operand is computed in this step.
                let operands = self.operands(member).iter().filter(streamed);
                operands.for_each(|(operand, _)| wanted[self.place[*operand]] = true);
            }
        }
        members.iter().copied().filter(|member| *member < at && wanted[self.place[*member]]).collect()
    }

    /// Gives each member of a step a buffer: that of its consumer if this works in place, and
    /// otherwise one that no other member needs at the same time. Returns their number.
    fn assign_slots(&mut self, root: usize, members: &[usize], uses: &[Uses]) -> usize {
        for &at in members.iter().rev() {
            let Kind::Operation { operation, .. } = &self.data[at].kind else { continue };
            if !operation.in_place() || self.data[at].surveyed {
                continue;
            }
            let operand = self.operands(at)[0].0;
            if matches!(self.roles[operand], Role::Streamed) && uses[operand].count == 1 {
                self.chain[operand] = self.chain[at];
            }
        }
        let (mut free, mut count) = (Vec::new(), 0);
        for &at in members {
            let head = self.chain[at];
            if head != root && self.slot[head] == OUT {
                self.slot[head] = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
            }
            self.slot[at] = self.slot[head];
            for edge in self.first[at]..self.first[at + 1] {
                let operand = self.edges[edge].0;
                let ends = self.chain[operand] == operand && uses[operand].last == at;
                if ends && matches!(self.roles[operand], Role::Streamed) {
                    // An operand that is used twice is given back once.
                    let slot = self.slot[operand];
                    if !free.contains(&slot) {
                        free.push(slot);
                    }
                }
            }
        }
        count as usize
    }

    /// Whether a node works in the buffer of its first operand.
    pub(crate) fn shares_buffer(&self, at: usize, operand: usize) -> bool {
        matches!(self.roles[operand], Role::Streamed) && operand != at && self.chain[operand] == self.chain[at]
    }
}

/// Extends a range to hold another one.
fn unite(range: &mut Range<usize>, other: Range<usize>) {
    if range.start >= range.end {
        *range = other;
    } else if !other.is_empty() {
        *range = range.start.min(other.start)..range.end.max(other.end);
    }
}
