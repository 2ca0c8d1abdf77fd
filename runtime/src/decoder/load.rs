//! Puts a decoder together from the weights that its configuration names.

use std::cell::Cell;

use checkpoint::Model;

use super::layer::{FeedForward, Layer, Network, Norm};
use super::{Decoder, Options};
use crate::config::{self, Attention, Config, ExpertNames, Plain, STACKED};
use crate::error::{Error, Result};
use crate::team::Team;
use crate::weights::{Adapter, Adapting, Linear, LowRank, Source, Table};

/// Loads the weights.
///
/// # Errors
/// As [`Decoder::open`].
pub(super) fn load(model: &Model, config: Config, adapter: Option<&Adapter>, options: Options) -> Result<Decoder> {
    let team = Team::new(options.threads)?;
    let source = Source::new(model, options.resident, options.memory);
    let loader = Loader::new(&config, &source, adapter);
    let (names, width) = (config.names, config.width);
    let (vocabulary, embedding) = (config.vocabulary, loader.name(names.embedding) + ".weight");
    let (embedding, head) = if config.tied {
        let (table, head) = source.tied(&embedding, vocabulary, width)?;
        (table, Some(head))
    } else {
        (loader.looked_up(&embedding, vocabulary)?, None)
    };
    let positions = names.positions.map(|name| loader.name(name) + ".weight");
    let positions = positions.map(|name| loader.looked_up(&name, config.context)).transpose()?;
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        // What was copied from the map need not stay in memory.
        model.release();
        layers.push(loader.layer(layer)?);
    }
    let norm = loader.norm(&loader.name(names.norm), width)?;
    source.set_place(config.layers, false);
    let last = || {
        let shape = (vocabulary, width);
        loader.adapted(names.head, source.linear(names.head, shape, false, false)?, shape)
    };
    let head = head.map_or_else(last, Ok)?;
    loader.adapting.as_ref().map_or(Ok(()), Adapting::check_all_used)?;
    let resident_bytes = source.resident_bytes() + loader.adapters.get();
    let token_bytes = resident_bytes - loader.idle_bytes.get();
    model.release();
    let store = source.into_store()?;
    Ok(Decoder { config, embedding, positions, layers, norm, head, resident_bytes, token_bytes, store, team })
}

struct Loader<'a> {
    config: &'a Config,
    source: &'a Source<'a>,
    prefix: &'static str,
    /// Bytes of weights that a token does not read.
    idle_bytes: Cell<u64>,
    adapting: Option<Adapting<'a>>,
    /// Bytes of its matrices so far.
    adapters: Cell<u64>,
}

impl<'a> Loader<'a> {
    fn new(config: &'a Config, source: &'a Source<'a>, adapter: Option<&'a Adapter>) -> Self {
        let prefixes = config.names.prefixes;
        let has = |prefix: &&&str| source.has(&format!("{prefix}{}.weight", config.names.embedding));
        // Without an embedding, the error names the usual one.
        let prefix = prefixes.iter().find(has).unwrap_or(&prefixes[0]);
        let adapting = adapter.map(|adapter| Adapting::new(adapter, prefixes));
        Self { config, source, prefix, idle_bytes: Cell::new(0), adapting, adapters: Cell::new(0) }
    }

    /// A table of which a token reads one row.
    fn looked_up(&self, name: &str, rows: usize) -> Result<Table> {
        let before = self.source.resident_bytes();
        let table = self.source.table(name, rows, self.config.width)?;
        self.add_idle(before, (rows.saturating_sub(1), rows.max(1)));
        Ok(table)
    }

    /// Counts a share of the bytes that were added after there were `before`.
    fn add_idle(&self, before: u64, (idle, all): (usize, usize)) {
        let bytes = (self.source.resident_bytes() - before) as f64 * idle as f64 / all as f64;
        self.idle_bytes.set(self.idle_bytes.get() + bytes as u64);
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        let kind = self.config.norm;
        let weight = self.source.vector(&format!("{name}.weight"), width)?;
        let bias = if kind.centred { self.source.vector(&format!("{name}.bias"), width)? } else { Vec::new() };
        Ok(Norm { kind, weight, bias })
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Linear> {
        let linear = self.source.linear(name, (outputs, inputs), self.config.names.rows_are_inputs, bias)?;
        self.adapted(name, linear, (outputs, inputs))
    }

    /// The layer with its part of the adapter.
    fn adapted(&self, name: &str, linear: Linear, (outputs, inputs): (usize, usize)) -> Result<Linear> {
        let Some(adapting) = &self.adapting else { return Ok(linear) };
        let part = adapting.part(name, outputs, inputs)?;
        self.adapters.set(self.adapters.get() + part.as_ref().map_or(0, LowRank::resident_bytes));
        Ok(linear.with_adapter(part))
    }

    fn layer(&self, layer: usize) -> Result<Layer> {
        let (config, names) = (self.config, self.config.names);
        let name = |name: &str| self.name(&names.layer(layer, name));
        let (width, queries, kv) = (config.width, config.query_width(), config.kv_width());
        let bias = config.biases;
        self.source.set_place(layer, false);
        let inputs = match &names.attention {
            Attention::Fused(all) => vec![self.linear(&name(all), queries + 2 * kv, width, bias.inputs)?],
            Attention::Apart([q, k, v]) => vec![
                self.linear(&name(q), queries, width, bias.inputs)?,
                self.linear(&name(k), kv, width, bias.inputs)?,
                self.linear(&name(v), kv, width, bias.inputs)?,
            ],
        };
        let head_norm = |of: &str| self.norm(&name(of), config.head_width);
        let [q_norm, k_norm] = names.head_norms;
        Ok(Layer {
            attention_norm: self.norm(&name(names.attention_norm), width)?,
            inputs,
            head_norms: if config.head_norms { Some([head_norm(q_norm)?, head_norm(k_norm)?]) } else { None },
            output: self.linear(&name(names.output), width, queries, bias.output)?,
            window: config.windows.get(layer).copied().flatten(),
            feed_forward_norm: self.norm(&name(names.feed_forward_norm), width)?,
            feed_forward: self.feed_forward(layer)?,
        })
    }

    fn feed_forward(&self, layer: usize) -> Result<FeedForward> {
        let (config, names) = (self.config, self.config.names);
        if let (Some(kind), Some(names)) = (config.experts, &names.experts)
            && config.expert_layers.get(layer) == Some(&true)
        {
            return self.experts(layer, kind, names);
        }
        let prefix = self.name(&names.layer(layer, ""));
        self.network(&prefix, &names.plain, config.feed_forward).map(FeedForward::One)
    }

    fn network(&self, prefix: &str, names: &Plain, feed_forward: usize) -> Result<Network> {
        let (width, bias) = (self.config.width, self.config.biases.feed_forward);
        let linear = |name: &str, outputs, inputs| self.linear(&format!("{prefix}{name}"), outputs, inputs, bias);
        Ok(Network {
            gate: names.gate.map(|name| linear(name, feed_forward, width)).transpose()?,
            up: linear(names.up, feed_forward, width)?,
            down: linear(names.down, width, feed_forward)?,
        })
    }

    fn experts(&self, layer: usize, kind: config::Experts, names: &ExpertNames) -> Result<FeedForward> {
        let (width, name) = (self.config.width, |name: &str| self.name(&self.config.names.layer(layer, name)));
        let (count, feed_forward, prefix) = (kind.count, kind.feed_forward, name(names.prefix));
        let router = self.linear(&name(names.router), count, width, false)?;
        self.source.set_place(layer, true);
        let [gate_up, down] = STACKED.map(|name| format!("{prefix}{name}"));
        let first = format!("{prefix}0.{}.weight", names.apart.up);
        let before = self.source.resident_bytes();
        let experts = match (self.source.has(&gate_up), self.source.has(&first)) {
            (true, false) => self.stacked([&gate_up, &down], count, feed_forward)?,
            (false, _) => (0..count)
                .map(|expert| self.network(&format!("{prefix}{expert}."), &names.apart, feed_forward))
                .collect::<Result<_>>()?,
            (true, true) => {
                let reason = format!("`{first}` is there too; experts are stacked or apart, not both");
                return Err(Error::tensor(self.source.path(), &gate_up, reason));
            }
        };
        self.add_idle(before, (kind.count - kind.used, kind.count));
        Ok(FeedForward::Experts { router, experts, kind })
    }

    /// Experts in two tensors: gate above up, and down.
    fn stacked(&self, [gate_up, down]: [&str; 2], count: usize, feed_forward: usize) -> Result<Vec<Network>> {
        let width = self.config.width;
        let gate_up = self.source.matrix(gate_up, &[count, 2 * feed_forward, width])?;
        let down = self.source.matrix(down, &[count, width, feed_forward])?;
        let network = |expert: usize| {
            let first = 2 * expert * feed_forward;
            Network {
                gate: Some(Linear::of_rows(&gate_up, first..first + feed_forward)),
                up: Linear::of_rows(&gate_up, first + feed_forward..first + 2 * feed_forward),
                down: Linear::of_rows(&down, expert * width..(expert + 1) * width),
            }
        };
        Ok((0..count).map(network).collect())
    }
}
