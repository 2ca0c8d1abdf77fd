//! Suites of one random matrix: `gaussian`, `laplace`, `scale-mixed`, with `[:RxC[:DTYPE]]`.

use codec_api::Dtype;

use super::init::Init;
use super::{Item, SuiteError};

/// 1 GiB as f32, so that a mistyped shape does not exhaust the memory.
const MAX_ELEMENTS: usize = 1 << 28;

/// The only tensor of the suite, named like the distribution; `None` if there is no such
/// distribution.
pub(super) fn items(text: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let (name, parameters) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let init = match name {
        "gaussian" => Init::Normal,
        "laplace" => Init::Laplace,
        "scale-mixed" => Init::ScaleMixed { sd: 0.4 },
        _ => return None,
    };
    let wrong = |reason| SuiteError::Parameter { name: text.to_owned(), reason };
    let item = matrix(parameters, [1024, 1024], Dtype::F32)
        .map_err(wrong)
        .and_then(|(shape, dtype)| init.item(seed, name.to_owned(), dtype, &shape));
    Some(item.map(|item| vec![item]))
}

/// Parses `RxC[:DTYPE]`; missing parts default to `shape` and `dtype`.
pub(super) fn matrix(text: Option<&str>, shape: [usize; 2], dtype: Dtype) -> Result<([usize; 2], Dtype), String> {
    let Some(text) = text else { return Ok((shape, dtype)) };
    let (shape, dtype) = match text.split_once(':') {
        None => (text, dtype),
        Some((shape, "f32")) => (shape, Dtype::F32),
        Some((shape, "f16")) => (shape, Dtype::F16),
        Some((shape, "bf16")) => (shape, Dtype::BF16),
        Some((_, other)) => return Err(format!("`{other}` is not one of f32, f16, bf16")),
    };
    let numbers = shape.split_once('x').and_then(|(r, c)| Some([r.parse().ok()?, c.parse().ok()?]));
    let [rows, columns]: [usize; 2] =
        numbers.ok_or_else(|| format!("`{shape}` is not ROWSxCOLUMNS, such as 1024x1024"))?;
    match rows.checked_mul(columns) {
        Some(1..=MAX_ELEMENTS) => Ok(([rows, columns], dtype)),
        _ => Err(format!("{rows}x{columns} is outside 1 to {MAX_ELEMENTS} weights")),
    }
}
