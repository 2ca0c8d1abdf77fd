//! Tensors on which the weight store of seed 000 demonstrated its storage methods, for single
//! weights and for versions of a weight. Unless stated otherwise, values are N(0, 1) in f32.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

const CHECKPOINTS: usize = 5;
const MEMBERS: usize = 5;
const LAYERS: usize = 6;

/// One layer of an ensemble member.
const LAYER: [(&str, [usize; 2]); 6] = [
    ("query", [512, 512]),
    ("key", [512, 512]),
    ("value", [512, 512]),
    ("output", [512, 512]),
    ("up", [2048, 512]),
    ("down", [512, 2048]),
];

/// The tensors of `seed000/NAME`. `None` if there is no such suite.
pub(super) fn items(name: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let (init, shape) = match name {
        "svd" => (Init::LowRank { rank: 50, noise: 0.01 }, [1000, 1000]),
        "sparse" => (Init::Sparse { density: 0.05 }, [2000, 2000]),
        "quant8" => (Init::Clipped { limit: 3.0 }, [1000, 1000]),
        "delta" => return Some(delta(seed)),
        "checkpoints" => return Some(checkpoints(seed)),
        "ensemble" => return Some(ensemble(seed)),
        _ => return None,
    };
    Some(init.item(seed, name.to_owned(), Dtype::F32, &shape).map(|item| vec![item]))
}

fn normal(seed: u64, name: &str, shape: [usize; 2]) -> Result<Item, SuiteError> {
    Init::Normal.item(seed, name.to_owned(), Dtype::F32, &shape)
}

/// A fine-tune: its base plus 0.01·N.
fn delta(seed: u64) -> Result<Vec<Item>, SuiteError> {
    Ok(vec![normal(seed, "base", [1000, 1000])?.plus_normal(seed, "tuned", 0.01)?])
}

/// Each step is the step before plus 0.1·0.01·N and has that step as its base; the first has no
/// base.
fn checkpoints(seed: u64) -> Result<Vec<Item>, SuiteError> {
    let mut items = vec![normal(seed, "step0", [1000, 1000])?];
    for step in 1..CHECKPOINTS {
        items.push(items[step - 1].plus_normal(seed, &format!("step{step}"), 0.1 * 0.01)?);
    }
    Ok(items)
}

/// Each member is the first member plus 0.02·N; the tensors of the first member are the bases.
fn ensemble(seed: u64) -> Result<Vec<Item>, SuiteError> {
    let names = || (0..LAYERS).flat_map(|i| LAYER.map(|(name, shape)| (format!("layers.{i}.{name}"), shape)));
    let mut items = Vec::with_capacity(MEMBERS * LAYERS * LAYER.len());
    for (name, shape) in names() {
        items.push(normal(seed, &format!("member0.{name}"), shape)?);
    }
    for member in 1..MEMBERS {
        for (place, (name, _)) in names().enumerate() {
            items.push(items[place].plus_normal(seed, &format!("member{member}.{name}"), 0.02)?);
        }
    }
    Ok(items)
}
