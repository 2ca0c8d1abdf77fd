//! Heads of safetensors files.

use std::collections::BTreeMap;

use codec_api::TensorSpec;
use serde_json::{Value, json};

/// The largest head of the format, in bytes.
const MAX_HEADER: usize = 100_000_000;

/// The bytes before the data of a file with these tensors, in this order.
///
/// # Errors
/// If the format does not allow so long a head.
pub(crate) fn header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a TensorSpec)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<Vec<u8>, String> {
    let mut text = format!("{{\"__metadata__\":{}", serde_json::to_string(metadata).map_err(|e| e.to_string())?);
    let mut begin = 0u64;
    for (name, spec) in tensors {
        let end = begin + spec.byte_len() as u64;
        let (name, dtype, shape) = (Value::from(name), spec.dtype(), spec.shape());
        let entry = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [begin, end]});
        text.extend([",", &name.to_string(), ":", &entry.to_string()]);
        begin = end;
    }
    text.push('}');
    let length = text.len().next_multiple_of(8);
    if length > MAX_HEADER {
        return Err(format!("its header would have {length} bytes; the format allows {MAX_HEADER}"));
    }
    text.extend(std::iter::repeat_n(' ', length - text.len()));
    Ok([&(length as u64).to_le_bytes(), text.as_bytes()].concat())
}
