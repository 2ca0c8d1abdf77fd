//! The matrices on which the weight store of the first seed showed its ways to store a weight.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

/// The only tensor of `seed000/NAME`, of the same name. `None` if there is no such suite.
pub(super) fn items(name: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let (init, shape) = match name {
        "svd" => (Init::LowRank { rank: 50, noise: 0.01 }, [1000, 1000]),
        "sparse" => (Init::Sparse { density: 0.05 }, [2000, 2000]),
        "quant8" => (Init::Clipped { limit: 3.0 }, [1000, 1000]),
        _ => return None,
    };
    Some(init.item(seed, name.to_owned(), Dtype::F32, &shape).map(|item| vec![item]))
}
