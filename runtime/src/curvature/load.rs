//! Loads a model's weights as dense matrices.

use checkpoint::Model;
use codec_api::InputAxis;
use codec_api::util::transpose;

use super::Differentiable;
use super::dense::Dense;
use super::head::Head;
use super::layer::{FeedForward, Layer};
use super::layered::Layered;
use super::mixture::Mixture;
use super::network::Network;
use super::norm::NamedNorm;
use crate::config::{Attention, Config, Plain, STACKED};
use crate::decoder::{Norm, directory};
use crate::error::{Error, Result};
use crate::weights::{Resident, Source};

impl<'a> Layered<'a> {
    /// Opens a model as [`crate::Decoder::open`]; nothing is loaded yet.
    ///
    /// # Errors
    /// As there; [`Error::Tensor`] for a mixture whose experts are in one tensor.
    pub fn open(model: &'a Model) -> Result<Self> {
        let config = Config::read(&directory(model).join("config.json"))?;
        let (source, names) = (source(model), config.names);
        let has = |prefix: &&&str| source.has(&format!("{prefix}{}.weight", names.embedding));
        let prefix = names.prefixes.iter().find(has).unwrap_or(&names.prefixes[0]);
        if let (Some(experts), Some(layer)) = (&names.experts, config.expert_layers.iter().position(|has| *has)) {
            let stacked = format!("{prefix}{}{}", names.layer(layer, experts.prefix), STACKED[0]);
            if source.has(&stacked) {
                let reason = "all experts are in it, but statistics belong to matrices of one expert; store them apart";
                return Err(Error::tensor(source.path(), &stacked, reason));
            }
        }
        Ok(Self { config, model, prefix })
    }

    /// All layers.
    pub(super) fn load(self) -> Result<Differentiable> {
        let loader = self.loader();
        let (embedding, positions, _) = self.tables();
        let values = loader.tables()?;
        let layers = (0..self.config.layers).map(|number| loader.layer(number)).collect::<Result<_>>()?;
        let head = loader.head(Some(&values.0))?;
        let positions = positions.zip(values.1);
        Ok(Differentiable { embedding: (embedding, values.0), positions, layers, head, config: self.config })
    }

    /// Reads weights of this model.
    pub(super) fn loader(&self) -> Loader<'_> {
        Loader { of: self, source: source(self.model) }
    }
}

fn source(model: &Model) -> Source<'_> {
    Source::new(model, Resident::Packed, None)
}

/// Reads weights of a model.
pub(super) struct Loader<'a> {
    of: &'a Layered<'a>,
    source: Source<'a>,
}

impl Loader<'_> {
    /// The values of the embedding, and of the positions.
    pub(super) fn tables(&self) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let (config, (embedding, positions, _)) = (&self.of.config, self.of.tables());
        let values = |name: &str, rows: usize| self.values(name, &[rows, config.width]);
        let positions = positions.map(|name| values(&name, config.context)).transpose()?;
        Ok((values(&embedding, config.vocabulary)?, positions))
    }

    /// The head; a tied one has the values of the embedding, which are read if they are not given.
    pub(super) fn head(&self, embedding: Option<&[f32]>) -> Result<Head> {
        let (config, names) = (&self.of.config, self.of.config.names);
        let (outputs, inputs) = (config.vocabulary, config.width);
        let linear = if config.tied {
            let (tensor, ..) = self.of.tables();
            let weight = match embedding {
                Some(values) => values.to_vec(),
                None => self.values(&tensor, &[outputs, inputs])?,
            };
            Dense { tensor, axis: InputAxis::Columns, weight, bias: None, outputs, inputs }
        } else {
            self.dense(names.head, (outputs, inputs), false, false)?
        };
        Ok(Head { norm: self.named(&format!("{}{}", self.of.prefix, names.norm), inputs)?, linear })
    }

    /// The values of a tensor. What was copied from the map need not stay in memory.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.source.values(name, shape);
        self.of.model.release();
        values
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        let kind = self.of.config.norm;
        let weight = self.source.vector(&format!("{name}.weight"), width)?;
        let bias = if kind.centred { self.source.vector(&format!("{name}.bias"), width)? } else { Vec::new() };
        Ok(Norm { kind, weight, bias })
    }

    fn named(&self, name: &str, width: usize) -> Result<NamedNorm> {
        Ok(NamedNorm { name: name.to_owned(), norm: self.norm(name, width)? })
    }

    fn dense(&self, name: &str, (outputs, inputs): (usize, usize), turned: bool, bias: bool) -> Result<Dense> {
        let tensor = format!("{name}.weight");
        let shape = if turned { [inputs, outputs] } else { [outputs, inputs] };
        let mut weight = self.values(&tensor, &shape)?;
        if turned {
            let mut by_outputs = vec![0.0; weight.len()];
            transpose((inputs, outputs), &weight, &mut by_outputs);
            weight = by_outputs;
        }
        let bias = bias.then(|| self.source.vector(&format!("{name}.bias"), outputs)).transpose()?;
        let axis = if turned { InputAxis::Rows } else { InputAxis::Columns };
        Ok(Dense { tensor, axis, weight, bias, outputs, inputs })
    }

    pub(super) fn layer(&self, layer: usize) -> Result<Layer> {
        let (config, names) = (&self.of.config, self.of.config.names);
        let name = |name: &str| format!("{}{}", self.of.prefix, names.layer(layer, name));
        let linear = |of: &str, outputs: usize, inputs: usize, bias: bool| {
            self.dense(&name(of), (outputs, inputs), names.rows_are_inputs, bias)
        };
        let (width, queries, kv) = (config.width, config.query_width(), config.kv_width());
        let bias = config.biases;
        let inputs = match &names.attention {
            Attention::Fused(all) => vec![linear(all, queries + 2 * kv, width, bias.inputs)?],
            Attention::Apart([q, k, v]) => vec![
                linear(q, queries, width, bias.inputs)?,
                linear(k, kv, width, bias.inputs)?,
                linear(v, kv, width, bias.inputs)?,
            ],
        };
        let [q_norm, k_norm] = names.head_norms.map(name);
        let head_norm = |of: &str| self.norm(of, config.head_width);
        Ok(Layer {
            attention_norm: self.named(&name(names.attention_norm), width)?,
            inputs,
            head_norms: if config.head_norms { Some([head_norm(&q_norm)?, head_norm(&k_norm)?]) } else { None },
            output: linear(names.output, width, queries, bias.output)?,
            window: config.windows.get(layer).copied().flatten(),
            feed_forward_norm: self.named(&name(names.feed_forward_norm), width)?,
            feed_forward: self.feed_forward(layer)?,
        })
    }

    fn feed_forward(&self, layer: usize) -> Result<FeedForward> {
        let (config, names) = (&self.of.config, self.of.config.names);
        let prefix = format!("{}{}", self.of.prefix, names.layer(layer, ""));
        let Some((kind, names)) = self.of.experts(layer) else {
            return Ok(FeedForward::One(self.network(&prefix, &names.plain, config.feed_forward)?));
        };
        let network = |expert: usize| {
            self.network(&format!("{prefix}{}{expert}.", names.prefix), &names.apart, kind.feed_forward)
        };
        let router = self.dense(&format!("{prefix}{}", names.router), (kind.count, config.width), false, false)?;
        let experts = (0..kind.count).map(network).collect::<Result<_>>()?;
        Ok(FeedForward::Experts(Mixture { kind, router, experts }))
    }

    fn network(&self, prefix: &str, names: &Plain, wide: usize) -> Result<Network> {
        let config = &self.of.config;
        let linear = |of: &str, outputs: usize, inputs: usize| {
            let turned = config.names.rows_are_inputs;
            self.dense(&format!("{prefix}{of}"), (outputs, inputs), turned, config.biases.feed_forward)
        };
        Ok(Network {
            gate: names.gate.map(|of| linear(of, wide, config.width)).transpose()?,
            up: linear(names.up, wide, config.width)?,
            down: linear(names.down, config.width, wide)?,
        })
    }
}
