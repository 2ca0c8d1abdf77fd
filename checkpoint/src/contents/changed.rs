//! How a tensor of two models differs.

use codec_api::TensorSpec;
use serde::Serialize;

use crate::compare::{Change, TensorDiff};

/// A tensor of two models. Serialised, these are the keys of `netweight diff --json`.
#[derive(Debug, Serialize)]
pub struct ChangedContents<'a> {
    /// The name.
    pub name: &'a str,
    /// What has changed.
    pub change: Change,
    /// The tensor in the first model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<DtypeAndShape>,
    /// The tensor in the second model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<DtypeAndShape>,
    /// Number of changed elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Their share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_share: Option<f64>,
    /// `‖a − b‖/‖a‖`; null if it is not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_difference: Option<f64>,
    /// The largest difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs_difference: Option<f64>,
}

/// Dtype and shape of a tensor.
#[derive(Debug, Serialize)]
pub struct DtypeAndShape {
    /// The dtype, as in safetensors files.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
}

impl<'a> ChangedContents<'a> {
    /// That of a compared tensor.
    pub fn of(tensor: &'a TensorDiff) -> Self {
        let spec = |spec: &TensorSpec| DtypeAndShape { dtype: spec.dtype().to_string(), shape: spec.shape().to_vec() };
        let [first, second] = [0, 1].map(|i| tensor.specs[i].as_ref().map(spec));
        let difference = tensor.difference;
        Self {
            name: &tensor.name,
            change: tensor.change,
            first,
            second,
            changed: difference.map(|difference| difference.changed),
            changed_share: tensor.changed_share(),
            relative_difference: difference.and_then(|difference| difference.relative),
            max_abs_difference: difference.and_then(|difference| difference.max_abs),
        }
    }
}

impl TensorDiff {
    /// The share of changed elements, if the elements were compared.
    pub fn changed_share(&self) -> Option<f64> {
        let elements = self.specs[0].as_ref()?.elements().max(1);
        Some(self.difference?.changed as f64 / elements as f64)
    }
}
