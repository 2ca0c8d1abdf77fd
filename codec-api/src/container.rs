//! The header of a safetensors file: 8 bytes with the header length, that many bytes of JSON, then
//! the data of the tensors.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::FormatError;
use crate::tensor::TensorSpec;

/// Limit of the safetensors format for the JSON text, in bytes.
const MAX_HEADER: usize = 100_000_000;

/// Key of the file's metadata strings; every other key is the name of a tensor.
const STRINGS: &str = "__metadata__";

/// Reads the header of a safetensors file. Returns it with the offset at which the data begin.
/// Tensors are in the order of their data; empty tensors at the same offset are in the order of
/// their names.
///
/// Checks that no name occurs twice and that the declared tensors fill the rest of `bytes` without
/// gaps or overlaps. The safetensors crate supplies the [`Metadata`] type, but its own reader is
/// not used: it adds declared sizes without overflow checks and, of two tensors with the same name,
/// silently keeps the last.
///
/// # Errors
/// [`FormatError::Container`] with the fault and the tensor concerned.
pub fn read_safetensors_header(bytes: &[u8]) -> Result<(Metadata, usize), FormatError> {
    read(bytes, false).map_err(FormatError::Container)
}

/// As [`read_safetensors_header`], for a file that may be cut off: tensors may end behind `bytes`.
///
/// # Errors
/// As [`read_safetensors_header`].
pub fn read_safetensors_prefix(bytes: &[u8]) -> Result<(Metadata, usize), FormatError> {
    read(bytes, true).map_err(FormatError::Container)
}

fn read(bytes: &[u8], cut: bool) -> Result<(Metadata, usize), String> {
    let (length, rest) =
        bytes.split_first_chunk().ok_or_else(|| format!("{} bytes are too few for a header", bytes.len()))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > rest.len() || length > MAX_HEADER {
        return Err(format!(
            "the header claims {length} bytes, the file has {} (and the format allows {MAX_HEADER})",
            rest.len()
        ));
    }
    let (text, data) = rest.split_at(length);
    let text = str::from_utf8(text).map_err(|e| format!("the header is not UTF-8: {e}"))?;
    let Unique(mut entries) = parse::<Unique<&RawValue>>(text)?;
    let strings = match entries.remove(STRINGS) {
        Some(raw) => parse::<Option<Unique<String>>>(raw.get()).map_err(|e| format!("`{STRINGS}` in the {e}"))?,
        None => None,
    };
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, raw) in entries {
        let info: TensorInfo = parse(raw.get()).map_err(|e| format!("tensor `{name}` in the {e}"))?;
        tensors.push((name, info));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    check_layout(&tensors, data.len(), cut)?;
    let strings = strings.map(|Unique(strings)| strings.into_iter().collect());
    Ok((Metadata::new(strings, tensors).map_err(|e| e.to_string())?, 8 + length))
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("header: {e}"))
}

/// Checks that the tensors, sorted by offset, cover all `present` bytes, and more only if `cut`,
/// and that the length of each agrees with its dtype and shape.
fn check_layout(tensors: &[(String, TensorInfo)], present: usize, cut: bool) -> Result<(), String> {
    let mut filled = 0;
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        let spec = TensorSpec::new(info.dtype, info.shape.as_slice()).map_err(|e| format!("tensor `{name}`: {e}"))?;
        if begin < filled {
            return Err(format!("tensor `{name}` begins at {begin}, inside another one that ends at {filled}"));
        }
        if begin > filled {
            return Err(format!("no tensor owns the {} bytes before tensor `{name}`", begin - filled));
        }
        if end.checked_sub(begin) != Some(spec.byte_len()) {
            return Err(format!(
                "tensor `{name}` is {spec} and takes {} bytes, its offsets are {begin} to {end}",
                spec.byte_len()
            ));
        }
        if end > present && !cut {
            return Err(format!(
                "tensor `{name}` ends at {end}, the file has {present} bytes of tensors; it is cut off or damaged"
            ));
        }
        filled = end;
    }
    if filled == present || cut && filled > present {
        return Ok(());
    }
    Err(format!("the header declares {filled} bytes of tensors, the file has {present}; it is damaged"))
}

/// A JSON object without duplicate keys: serde's own maps silently keep the last value.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match entries.entry(key) {
                Entry::Occupied(entry) => return Err(A::Error::custom(format!("`{}` occurs twice", entry.key()))),
                Entry::Vacant(entry) => entry.insert(map.next_value()?),
            };
        }
        Ok(Unique(entries))
    }
}
