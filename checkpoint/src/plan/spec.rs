//! A tensor's dtype and shape in a plan: `{"dtype":"F32","shape":[2,3]}`. The sizes are checked
//! when it is read.

use codec_api::{Dtype, TensorSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    dtype: Dtype,
    shape: Vec<usize>,
}

pub(super) fn serialize<S: Serializer>(spec: &TensorSpec, serializer: S) -> Result<S::Ok, S::Error> {
    Json { dtype: spec.dtype(), shape: spec.shape().to_vec() }.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TensorSpec, D::Error> {
    let Json { dtype, shape } = Json::deserialize(deserializer)?;
    TensorSpec::new(dtype, shape).map_err(de::Error::custom)
}
