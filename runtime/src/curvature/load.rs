//! Loads a model's weights as dense matrices.

use checkpoint::Model;
use codec_api::InputAxis;
use codec_api::util::transpose;

use super::Differentiable;
use super::dense::Dense;
use super::head::Head;
use super::layer::Layer;
use crate::config::{Attention, Config};
use crate::decoder::Norm;
use crate::error::Result;
use crate::weights::{Resident, Source};

/// Loads the weights.
///
/// # Errors
/// As [`crate::Decoder::open`].
pub(super) fn load(model: &Model, config: Config) -> Result<Differentiable> {
    let source = Source::new(model, Resident::Packed, None);
    let names = config.names;
    let has = |prefix: &&&str| source.has(&format!("{prefix}{}.weight", names.embedding));
    let prefix = names.prefixes.iter().find(has).unwrap_or(&names.prefixes[0]);
    let loader = Loader { config: &config, source: &source, prefix };
    let width = config.width;
    let table = |name: &str, rows: usize| -> Result<(String, Vec<f32>)> {
        let name = format!("{prefix}{name}.weight");
        let values = source.values(&name, &[rows, width])?;
        Ok((name, values))
    };
    let embedding = table(names.embedding, config.vocabulary)?;
    let positions = names.positions.map(|name| table(name, config.context)).transpose()?;
    let layers = (0..config.layers).map(|layer| loader.layer(layer)).collect::<Result<_>>()?;
    let linear = if config.tied {
        let (tensor, weight) = embedding.clone();
        let axis = InputAxis::Columns;
        Dense { tensor, axis, weight, bias: None, outputs: config.vocabulary, inputs: width }
    } else {
        loader.dense(names.head, (config.vocabulary, width), false, false)?
    };
    let head = Head { norm: loader.norm(&format!("{prefix}{}", names.norm), width)?, linear };
    Ok(Differentiable { config, embedding, positions, layers, head })
}

struct Loader<'a> {
    config: &'a Config,
    source: &'a Source<'a>,
    prefix: &'static str,
}

impl Loader<'_> {
    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        let kind = self.config.norm;
        let weight = self.source.vector(&format!("{name}.weight"), width)?;
        let bias = if kind.centred { self.source.vector(&format!("{name}.bias"), width)? } else { Vec::new() };
        Ok(Norm { kind, weight, bias })
    }

    fn dense(&self, name: &str, (outputs, inputs): (usize, usize), turned: bool, bias: bool) -> Result<Dense> {
        let tensor = format!("{name}.weight");
        let shape = if turned { [inputs, outputs] } else { [outputs, inputs] };
        let mut weight = self.source.values(&tensor, &shape)?;
        if turned {
            let mut by_outputs = vec![0.0; weight.len()];
            transpose((inputs, outputs), &weight, &mut by_outputs);
            weight = by_outputs;
        }
        let bias = bias.then(|| self.source.vector(&format!("{name}.bias"), outputs)).transpose()?;
        let axis = if turned { InputAxis::Rows } else { InputAxis::Columns };
        Ok(Dense { tensor, axis, weight, bias, outputs, inputs })
    }

    fn layer(&self, layer: usize) -> Result<Layer> {
        let (config, names) = (self.config, self.config.names);
        let name = |name: &str| format!("{}{}", self.prefix, names.layer(layer, name));
        let linear = |of: &str, outputs: usize, inputs: usize, bias: bool| {
            self.dense(&name(of), (outputs, inputs), names.rows_are_inputs, bias)
        };
        let (width, queries, kv) = (config.width, config.query_width(), config.kv_width());
        let (bias, wide) = (config.biases, config.feed_forward);
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
        let gate = names.plain.gate.map(|of| linear(of, wide, width, bias.feed_forward)).transpose()?;
        Ok(Layer {
            attention_norm: self.norm(&name(names.attention_norm), width)?,
            inputs,
            head_norms: if config.head_norms { Some([head_norm(&q_norm)?, head_norm(&k_norm)?]) } else { None },
            output: linear(names.output, width, queries, bias.output)?,
            window: config.windows.get(layer).copied().flatten(),
            feed_forward_norm: self.norm(&name(names.feed_forward_norm), width)?,
            gate,
            up: linear(names.plain.up, wide, width, bias.feed_forward)?,
            down: linear(names.plain.down, width, wide, bias.feed_forward)?,
        })
    }
}
