//! The work of one thread on some tokens.

use std::ops::Range;

use codec_api::Inputs;

use super::Decoder;
use super::attention::{Places, Rotation, Scratch, Step};
use super::cache::Cache;
use super::experts::mixture;
use super::layer::{FeedForward, Layer, Network};
use crate::error::Result;
use crate::kernels::{activate, multiply};
use crate::team::{Job, Worker};
use crate::weights::{part, part_in_granules};

/// A thread's copy of the values of the tokens.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// The values between the layers, `tokens × width`.
    x: Vec<f32>,
    /// The normalised values.
    h: Vec<f32>,
    /// Queries, keys and values; values within a feed-forward network.
    wide: Vec<f32>,
    /// Queries, keys and values of all tokens, for the heads of the thread.
    projected: Vec<f32>,
    /// Outputs of attention; of a gate.
    mixed: Vec<f32>,
    /// Outputs of a step that are added to `x`.
    out: Vec<f32>,
    rotation: Rotation,
    scratch: Scratch,
    /// On the first thread: the logits, `positions × vocabulary`.
    pub(super) logits: Vec<f32>,
}

/// Tokens at the end of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    pub(super) ids: &'a [u32],
    /// Position of the first one.
    pub(super) first: usize,
}

/// Threads share the outputs of each product, unless each gets at least so many tokens. Then they
/// share the tokens, and exchange values only in attention.
const ENOUGH: usize = 16;

/// A thread that shares tokens gets a multiple of so many: operators are fastest with some vectors.
const TOGETHER: usize = 8;

/// Tokens that run together.
#[derive(Debug)]
struct Span {
    /// Position of the first one.
    first: usize,
    count: usize,
    /// Those whose values this thread computes: all, if the threads share outputs.
    own: Range<usize>,
    /// Whether this thread computes products without the others.
    alone: bool,
}

impl Span {
    /// The tokens of thread `index` of `threads`, if they share `count` tokens.
    fn part(index: usize, threads: usize, count: usize) -> Range<usize> {
        part_in_granules(index, threads, count, TOGETHER)
    }

    fn multiply(&self, worker: &Worker<'_>, jobs: &mut [Job<'_>]) {
        if self.alone { worker.multiply_alone(jobs) } else { worker.multiply(jobs) }
    }

    /// Whether other threads have some of the tokens.
    fn is_partial(&self) -> bool {
        self.own.len() < self.count
    }
}

impl Decoder {
    /// How a thread runs the tokens. All threads choose the same way.
    fn span(&self, worker: &Worker<'_>, tokens: Tokens<'_>) -> Span {
        let (first, count, threads) = (tokens.first, tokens.ids.len(), worker.count());
        let dense = self.layers.iter().all(|layer| matches!(layer.feed_forward, FeedForward::One(_)));
        let alone = dense && (threads == 1 || count >= ENOUGH * threads);
        let own = if alone { Span::part(worker.index, threads, count) } else { 0..count };
        Span { first, count, own, alone }
    }

    /// Runs all layers on the tokens.
    pub(super) fn run_layers(
        &self,
        worker: &Worker<'_>,
        tokens: Tokens<'_>,
        cache: &Cache,
        local: &mut Local,
    ) -> Result<()> {
        let (width, span) = (self.config.width, self.span(worker, tokens));
        let own = Tokens { ids: &tokens.ids[span.own.clone()], first: tokens.first + span.own.start };
        self.embed(own, &mut local.x)?;
        if let Some(rope) = &self.config.rope {
            local.rotation.set(rope, tokens.first, span.count);
        }
        local.h.resize(own.ids.len() * width, 0.0);
        local.out.resize(own.ids.len() * width, 0.0);
        for (number, layer) in self.layers.iter().enumerate() {
            self.enter(worker, number);
            layer.attention_norm.apply(&local.x, &mut local.h);
            self.attention(worker, (number, layer), &span, cache, local)?;
            layer.feed_forward_norm.apply(&local.x, &mut local.h);
            match &layer.feed_forward {
                FeedForward::One(network) => self.network(worker, network, &span, local)?,
                FeedForward::Experts { router, experts, kind } => {
                    let (kind, h) = ((kind, self.config.activation), (width, &*local.h));
                    mixture(worker, self.store.as_ref(), (router, experts), kind, h, &mut local.x)?;
                }
            }
        }
        if span.is_partial() {
            exchange_all(worker, &mut local.x, span.count * width);
        }
        Ok(())
    }

    /// The logits of some of the tokens, on the first thread.
    pub(super) fn run_head(&self, worker: &Worker<'_>, tokens: Range<usize>, local: &mut Local) -> Result<()> {
        let width = self.config.width;
        let Local { x, h, logits, .. } = local;
        self.enter(worker, self.layers.len());
        h.resize(tokens.len() * width, 0.0);
        self.norm.apply(&x[tokens.start * width..tokens.end * width], h);
        if worker.index == 0 {
            logits.resize(tokens.len() * self.config.vocabulary, 0.0);
        }
        worker.multiply_for_first(&mut [Job { linear: &self.head, x: &Inputs::new(h, tokens.len())?, out: logits }]);
        Ok(())
    }

    /// Has the weights of a layer loaded, and those of the next one. The head is the last layer.
    fn enter(&self, worker: &Worker<'_>, layer: usize) {
        if let Some(store) = self.store.as_ref().filter(|_| worker.index == 0) {
            store.enter(layer);
        }
    }

    fn embed(&self, tokens: Tokens<'_>, x: &mut Vec<f32>) -> Result<()> {
        let width = self.config.width;
        x.resize(tokens.ids.len() * width, 0.0);
        let mut row = vec![0.0; if self.positions.is_some() { width } else { 0 }];
        for (i, (id, x)) in tokens.ids.iter().zip(x.chunks_exact_mut(width)).enumerate() {
            self.embedding.read(*id as usize, x)?;
            if let Some(positions) = &self.positions {
                positions.read(tokens.first + i, &mut row)?;
                x.iter_mut().zip(&row).for_each(|(x, position)| *x += position);
            }
        }
        Ok(())
    }

    /// Adds the output of attention to `x`.
    fn attention(
        &self,
        worker: &Worker<'_>,
        (number, layer): (usize, &Layer),
        span: &Span,
        cache: &Cache,
        local: &mut Local,
    ) -> Result<()> {
        let (config, tokens) = (&self.config, span.own.len());
        let (queries, kv) = (config.query_width(), config.kv_width());
        let Local { x, h, wide, projected, mixed, out, rotation, scratch, .. } = local;
        wide.resize(tokens * (queries + 2 * kv), 0.0);
        let inputs = Inputs::new(h, tokens)?;
        if let [q, k, v] = &*layer.inputs {
            let (q_out, rest) = wide.split_at_mut(tokens * queries);
            let (k_out, v_out) = rest.split_at_mut(tokens * kv);
            let job = |linear, out| Job { linear, x: &inputs, out };
            span.multiply(worker, &mut [job(q, q_out), job(k, k_out), job(v, v_out)]);
        } else {
            span.multiply(worker, &mut [Job { linear: &layer.inputs[0], x: &inputs, out: wide }]);
        }
        let heads = worker.own(config.kv_heads);
        let places = |tokens| Places::new(config, layer.inputs.len() == 1, tokens);
        if span.is_partial() {
            projected.resize(span.count * (queries + 2 * kv), 0.0);
            let all = places(span.count);
            worker.exchange(
                |slot| slot.clone_from(wide),
                |index, values| {
                    let tokens = Span::part(index, worker.count(), span.count);
                    all.copy(projected, tokens.start, (values, tokens.len(), places(tokens.len())), &heads, config);
                },
            );
        }
        let projected = if span.is_partial() { projected } else { wide };
        let (first, tokens) = (span.first, span.count);
        let step = Step { config, layer, number, cache, rotation, places: places(tokens), first, tokens };
        let per_head = config.heads / config.kv_heads * config.head_width;
        mixed.resize(span.own.len() * queries, 0.0);
        worker.exchange(
            |slot| {
                slot.resize(tokens * heads.len() * per_head, 0.0);
                step.attend(heads.clone(), projected, slot, scratch);
            },
            |index, values| {
                let heads = part(index, worker.count(), config.kv_heads);
                let place = heads.start * per_head..heads.end * per_head;
                let values = values.chunks_exact(place.len().max(1)).skip(span.own.start);
                for (out, values) in mixed.chunks_exact_mut(queries).zip(values) {
                    out[place.clone()].copy_from_slice(values);
                }
            },
        );
        span.multiply(worker, &mut [Job { linear: &layer.output, x: &Inputs::new(mixed, span.own.len())?, out }]);
        add(x, out);
        Ok(())
    }

    /// Adds the output of a feed-forward network to `x`.
    fn network(&self, worker: &Worker<'_>, network: &Network, span: &Span, local: &mut Local) -> Result<()> {
        let Local { x, h, wide, mixed, out, .. } = local;
        let tokens = span.own.len();
        let hidden = tokens * network.up.outputs();
        wide.resize(hidden, 0.0);
        let inputs = Inputs::new(h, tokens)?;
        if let Some(gate) = &network.gate {
            mixed.resize(hidden, 0.0);
            let job = |linear, out| Job { linear, x: &inputs, out };
            span.multiply(worker, &mut [job(gate, &mut **wide), job(&network.up, &mut **mixed)]);
            activate(self.config.activation, wide);
            multiply(wide, mixed);
        } else {
            span.multiply(worker, &mut [Job { linear: &network.up, x: &inputs, out: wide }]);
            activate(self.config.activation, wide);
        }
        span.multiply(worker, &mut [Job { linear: &network.down, x: &Inputs::new(wide, tokens)?, out }]);
        add(x, out);
        Ok(())
    }
}

/// Puts the values of all threads one after the other: `count` values.
fn exchange_all(worker: &Worker<'_>, values: &mut Vec<f32>, count: usize) {
    let mut all = Vec::with_capacity(count);
    worker.exchange(|slot| slot.clone_from(values), |_, part| all.extend_from_slice(part));
    // After an error in another thread, its values may be fewer.
    all.resize(count, 0.0);
    *values = all;
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
