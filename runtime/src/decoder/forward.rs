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
use crate::weights::part;

/// A thread's copy of the values of the tokens.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// The values between the layers, `tokens × width`.
    x: Vec<f32>,
    /// The normalised values.
    h: Vec<f32>,
    /// Queries, keys and values; values within a feed-forward network.
    wide: Vec<f32>,
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

impl Decoder {
    /// Runs all layers on the tokens.
    pub(super) fn run_layers(
        &self,
        worker: &Worker<'_>,
        tokens: Tokens<'_>,
        cache: &Cache,
        local: &mut Local,
    ) -> Result<()> {
        let (config, count) = (&self.config, tokens.ids.len());
        self.embed(tokens, &mut local.x)?;
        if let Some(rope) = &config.rope {
            local.rotation.set(rope, tokens.first, count);
        }
        local.h.resize(count * config.width, 0.0);
        local.out.resize(count * config.width, 0.0);
        for (number, layer) in self.layers.iter().enumerate() {
            self.enter(worker, number);
            layer.attention_norm.apply(&local.x, &mut local.h);
            self.attention(worker, (number, layer), (tokens.first, count), cache, local)?;
            layer.feed_forward_norm.apply(&local.x, &mut local.h);
            match &layer.feed_forward {
                FeedForward::One(network) => self.network(worker, network, count, local)?,
                FeedForward::Experts { router, experts, kind } => {
                    let (kind, h) = ((kind, config.activation), (config.width, &*local.h));
                    mixture(worker, self.store.as_ref(), (router, experts), kind, h, &mut local.x)?;
                }
            }
        }
        Ok(())
    }

    /// The logits of some of the tokens, on the first thread.
    pub(super) fn run_head(&self, worker: &Worker<'_>, tokens: Range<usize>, local: &mut Local) -> Result<()> {
        let width = self.config.width;
        let Local { x, h, logits, .. } = local;
        self.enter(worker, self.layers.len());
        let h = &mut h[..tokens.len() * width];
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
        (first, tokens): (usize, usize),
        cache: &Cache,
        local: &mut Local,
    ) -> Result<()> {
        let config = &self.config;
        let (queries, kv) = (config.query_width(), config.kv_width());
        let Local { x, h, wide, mixed, out, rotation, scratch, .. } = local;
        wide.resize(tokens * (queries + 2 * kv), 0.0);
        let inputs = Inputs::new(h, tokens)?;
        if let [q, k, v] = &*layer.inputs {
            let (q_out, rest) = wide.split_at_mut(tokens * queries);
            let (k_out, v_out) = rest.split_at_mut(tokens * kv);
            let job = |linear, out| Job { linear, x: &inputs, out };
            worker.multiply(&mut [job(q, q_out), job(k, k_out), job(v, v_out)]);
        } else {
            worker.multiply(&mut [Job { linear: &layer.inputs[0], x: &inputs, out: wide }]);
        }
        let places = Places::new(config, layer.inputs.len() == 1, tokens);
        let step = Step { config, layer, number, cache, rotation, places, first, tokens };
        let per_head = config.heads / config.kv_heads * config.head_width;
        mixed.resize(tokens * queries, 0.0);
        let own = worker.own(config.kv_heads);
        worker.exchange(
            |slot| {
                slot.resize(tokens * own.len() * per_head, 0.0);
                step.attend(own, wide, slot, scratch);
            },
            |index, values| {
                let heads = part(index, worker.count(), config.kv_heads);
                let place = heads.start * per_head..heads.end * per_head;
                for (out, values) in mixed.chunks_exact_mut(queries).zip(values.chunks_exact(place.len().max(1))) {
                    out[place.clone()].copy_from_slice(values);
                }
            },
        );
        worker.multiply(&mut [Job { linear: &layer.output, x: &Inputs::new(mixed, tokens)?, out }]);
        add(x, out);
        Ok(())
    }

    /// Adds the output of a feed-forward network to `x`.
    fn network(&self, worker: &Worker<'_>, network: &Network, tokens: usize, local: &mut Local) -> Result<()> {
        let Local { x, h, wide, mixed, out, .. } = local;
        let hidden = tokens * network.up.outputs();
        wide.resize(hidden, 0.0);
        let inputs = Inputs::new(h, tokens)?;
        if let Some(gate) = &network.gate {
            mixed.resize(hidden, 0.0);
            let job = |linear, out| Job { linear, x: &inputs, out };
            worker.multiply(&mut [job(gate, &mut **wide), job(&network.up, &mut **mixed)]);
            activate(self.config.activation, wide);
            multiply(wide, mixed);
        } else {
            worker.multiply(&mut [Job { linear: &network.up, x: &inputs, out: wide }]);
            activate(self.config.activation, wide);
        }
        worker.multiply(&mut [Job { linear: &network.down, x: &Inputs::new(wide, tokens)?, out }]);
        add(x, out);
        Ok(())
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
