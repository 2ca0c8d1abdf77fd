//! Tensors on which seed 001 demonstrated its model deltas: layers of GPT-2's size. The bases are
//! N(0, 1), so that adding 0.02·N is the "2% weight delta" of that seed.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

const SHAPE: [usize; 2] = [768, 3072];

/// The tensors of `seed001/NAME`. `None` if there is no such suite.
pub(super) fn items(name: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let item = |init: Init, name: String| init.item(seed, name, Dtype::F32, &SHAPE);
    let tuned = |layer: &str, sd| item(Init::Normal, format!("{layer}.base"))?.plus_normal(seed, layer, sd);
    match name {
        "gpt2-delta" => Some(item(Init::Scaled { sd: 0.02 }, "difference".to_owned()).map(|item| vec![item])),
        "gpt2-fine-tune" => Some(tuned("layer", 0.02).map(|item| vec![item])),
        "distilgpt2-workflow" => Some((0..3).map(|i| tuned(&format!("layers.{i}"), 0.01)).collect()),
        _ => None,
    }
}
