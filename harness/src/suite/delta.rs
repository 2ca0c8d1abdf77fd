//! Suites of one random matrix that is derived from a base: `delta/gaussian`, `delta/changed`.

use codec_api::Dtype;

use super::init::Init;
use super::synthetic::matrix;
use super::{Item, SuiteError};

/// How the tensor is derived from its base.
#[derive(Clone, Copy)]
enum Change {
    /// Adds `r·N(0, 1)` to every weight.
    Gaussian { r: f64 },
    /// Moves each weight to a neighbouring value of its dtype, up or down, with probability `p`.
    Changed { p: f64 },
}

/// The only tensor of `delta/TEXT`, named `tuned`. Its base is N(0, 1), rounded to the dtype.
/// `None` if there is no such suite.
pub(super) fn items(text: &str, seed: u64) -> Option<Result<Vec<Item>, SuiteError>> {
    let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
    let (key, change): (_, fn(f64) -> Change) = match name {
        "gaussian" => ("r", |r| Change::Gaussian { r }),
        "changed" => ("p", |p| Change::Changed { p }),
        _ => return None,
    };
    let wrong = |reason| SuiteError::Parameter { name: format!("delta/{text}"), reason };
    let (number, rest) = parameters.split_once(':').map_or((parameters, None), |(number, rest)| (number, Some(rest)));
    let read = part_of_one(number, key).and_then(|part| Ok((change(part), matrix(rest, [2048, 2048], Dtype::BF16)?)));
    Some(read.map_err(wrong).and_then(|(change, (shape, dtype))| {
        let base = Init::Normal.item(seed, "base".to_owned(), dtype, &shape)?;
        Ok(vec![match change {
            Change::Gaussian { r } => base.plus_normal(seed, "tuned", r)?,
            Change::Changed { p } => base.stepped(seed, "tuned", p),
        }])
    }))
}

/// The number from 0 to 1 in `key=0.01`.
fn part_of_one(text: &str, key: &str) -> Result<f64, String> {
    let hint = format!("`{key}=` and a number from 0 to 1 come first, such as `{key}=0.01`");
    match text.split_once('=') {
        None => Err(format!("`{key}=` is missing; {hint}")),
        Some((other, _)) if other != key => Err(format!("there is no key `{other}`; {hint}")),
        Some((_, number)) => {
            let part = number.parse().ok().filter(|part| (0.0..=1.0).contains(part));
            part.ok_or_else(|| format!("`{number}` is not a number from 0 to 1; {hint}"))
        }
    }
}
