//! The layers and models on which seed 002 compared SeedLM with BitNet and VPTQ, with PyTorch's
//! parameter names, shapes and default initialisations, all f32.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

/// One parameter of a layer.
struct Parameter {
    name: String,
    shape: Vec<usize>,
    init: Init,
}

/// A model's name and the function that makes its parameters.
type Model = (&'static str, fn() -> Vec<Parameter>);

const MODELS: [Model; 5] =
    [("mlp", mlp), ("cnn", cnn), ("transformer", transformer), ("lstm", lstm), ("linear", large_linear)];

/// The tensors of `seed002/REST`. A tensor of a model has the model's name as prefix
/// (`mlp.fc1.weight`), so that it is the same in `models` and in `models/mlp`. `None` if there is
/// no such suite.
pub(super) fn items(rest: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let parameters = match rest {
        "layers" => layers(),
        "models" => MODELS.iter().flat_map(model).collect(),
        _ => {
            let wanted = rest.strip_prefix("models/")?;
            model(MODELS.iter().find(|(name, _)| *name == wanted)?)
        }
    };
    Some(parameters.into_iter().map(|p| p.init.item(seed, p.name, Dtype::F32, &p.shape)).collect())
}

fn model((name, parameters): &Model) -> Vec<Parameter> {
    parameters().into_iter().map(|p| Parameter { name: format!("{name}.{}", p.name), ..p }).collect()
}

fn layers() -> Vec<Parameter> {
    [
        weight("linear_small", &[64, 128]),
        weight("linear_medium", &[256, 512]),
        weight("linear_large", &[512, 1024]),
        weight("conv_3x3", &[64, 32, 3, 3]),
        weight("conv_1x1", &[128, 256, 1, 1]),
        embedding("embedding", 1000, 256),
    ]
    .into()
}

fn mlp() -> Vec<Parameter> {
    [layer("fc1", &[512, 784]), layer("fc2", &[256, 512]), layer("fc3", &[128, 256]), layer("fc4", &[10, 128])]
        .into_iter()
        .flatten()
        .collect()
}

fn cnn() -> Vec<Parameter> {
    [
        layer("conv1", &[64, 3, 3, 3]),
        layer("conv2", &[128, 64, 3, 3]),
        layer("conv3", &[256, 128, 3, 3]),
        layer("fc1", &[1024, 16384]),
        layer("fc2", &[10, 1024]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A `TransformerEncoderLayer`; the four heads share the projections.
fn transformer() -> Vec<Parameter> {
    const WIDTH: usize = 256;
    let attention = [
        parameter("self_attn.in_proj_weight", &[3 * WIDTH, WIDTH], Init::xavier(WIDTH, 3 * WIDTH)),
        parameter("self_attn.in_proj_bias", &[3 * WIDTH], Init::Constant(0.0)),
        weight("self_attn.out_proj", &[WIDTH, WIDTH]),
        parameter("self_attn.out_proj.bias", &[WIDTH], Init::Constant(0.0)),
    ];
    let feed_forward = [layer("linear1", &[1024, WIDTH]), layer("linear2", &[WIDTH, 1024])];
    let norms = ["norm1", "norm2"].into_iter().flat_map(|norm| {
        [
            parameter(&format!("{norm}.weight"), &[WIDTH], Init::Constant(1.0)),
            parameter(&format!("{norm}.bias"), &[WIDTH], Init::Constant(0.0)),
        ]
    });
    attention.into_iter().chain(feed_forward.into_iter().flatten()).chain(norms).collect()
}

fn lstm() -> Vec<Parameter> {
    const HIDDEN: usize = 512;
    let mut parameters = vec![embedding("embedding", 10_000, 256)];
    for (layer, inputs) in [(0, 256), (1, HIDDEN)] {
        for (name, shape) in [
            ("weight_ih", &[4 * HIDDEN, inputs][..]),
            ("weight_hh", &[4 * HIDDEN, HIDDEN]),
            ("bias_ih", &[4 * HIDDEN]),
            ("bias_hh", &[4 * HIDDEN]),
        ] {
            parameters.push(parameter(&format!("lstm.{name}_l{layer}"), shape, Init::fan_in(HIDDEN)));
        }
    }
    parameters
}

fn large_linear() -> Vec<Parameter> {
    layer("linear", &[4096, 2048]).into()
}

fn parameter(name: &str, shape: &[usize], init: Init) -> Parameter {
    Parameter { name: name.to_owned(), shape: shape.to_vec(), init }
}

/// The weight of a linear or convolution layer. The first axis is outputs; the product of all
/// others is the fan-in.
fn weight(name: &str, shape: &[usize]) -> Parameter {
    parameter(&format!("{name}.weight"), shape, Init::fan_in(shape[1..].iter().product()))
}

/// Weight and bias; both use the fan-in of the weight.
fn layer(name: &str, shape: &[usize]) -> [Parameter; 2] {
    let weight = weight(name, shape);
    let bias = parameter(&format!("{name}.bias"), &shape[..1], weight.init);
    [weight, bias]
}

fn embedding(name: &str, words: usize, width: usize) -> Parameter {
    parameter(&format!("{name}.weight"), &[words, width], Init::Normal)
}
