//! What the model deltas of the second seed were shown on.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

/// The tensor of `seed001/gpt2-delta`: the difference between a layer of GPT-2's size and its made-up fine-tune. `None` if there is no
/// such suite.
pub(super) fn items(name: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let difference = || Init::Scaled { sd: 0.02 }.item(seed, "difference".to_owned(), Dtype::F32, &[768, 3072]);
    (name == "gpt2-delta").then(|| difference().map(|item| vec![item]))
}
