//! Ways to damage a safetensors file.

use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::Rng;
use serde_json::{Map, Value};

/// Key of the metadata in a header.
const METADATA: &str = "__metadata__";

/// Shapes that need from nothing to petabytes.
const SHAPES: [&[u64]; 10] = [
    &[0],
    &[],
    &[1 << 22],
    &[1 << 12, 1 << 13],
    &[1 << 14, 1 << 14],
    &[1, 1 << 28],
    &[1 << 28, 1],
    &[1 << 40],
    &[1 << 20, 1 << 20],
    &[u64::MAX, 2],
];

/// Damages a safetensors file in one way: its bytes, its header, or the JSON text of the metadata
/// with this key.
pub fn damage(file: &mut Vec<u8>, key: &str, rng: &mut Xoshiro256PlusPlus) {
    match rng.next_u64() % 8 {
        0 => flip(file, rng),
        1 => cut(file, rng),
        2 => fill(file, rng),
        3 => edit_header(file, rng, swap_sections),
        4 => edit_header(file, rng, edit_value),
        5 => edit_header(file, rng, |header, rng| edit_description(header, key, rng, edit_value)),
        6 => edit_header(file, rng, |header, rng| edit_description(header, key, rng, set_shape)),
        _ => flip_data(file, rng),
    }
}

fn below(rng: &mut Xoshiro256PlusPlus, end: usize) -> usize {
    (rng.next_u64() % end.max(1) as u64) as usize
}

fn flip(file: &mut [u8], rng: &mut Xoshiro256PlusPlus) {
    let at = below(rng, file.len());
    if let Some(byte) = file.get_mut(at) {
        *byte ^= 1 << (rng.next_u64() % 8);
    }
}

fn flip_data(file: &mut [u8], rng: &mut Xoshiro256PlusPlus) {
    let start = split(file).map_or(0, |(_, start)| start);
    for _ in 0..=rng.next_u64() % 8 {
        flip(&mut file[start..], rng);
    }
}

fn cut(file: &mut Vec<u8>, rng: &mut Xoshiro256PlusPlus) {
    file.truncate(below(rng, file.len()));
}

/// Overwrites a part of the data.
fn fill(file: &mut [u8], rng: &mut Xoshiro256PlusPlus) {
    let start = split(file).map_or(0, |(_, start)| start);
    let data = &mut file[start..];
    let (from, to) = (below(rng, data.len()), below(rng, data.len()));
    let (byte, random) = ([0, 0x7f, 0x80, 0xff][below(rng, 4)], rng.next_u64().is_multiple_of(2));
    for place in &mut data[from.min(to)..from.max(to)] {
        *place = if random { rng.next_u64() as u8 } else { byte };
    }
}

/// The header, and where the data begin.
fn split(file: &[u8]) -> Option<(Value, usize)> {
    let len = u64::from_le_bytes(*file.first_chunk()?);
    let end = usize::try_from(len).ok()?.checked_add(8)?;
    Some((serde_json::from_slice(file.get(8..end)?).ok()?, end))
}

/// Changes the header; the data stay as they are.
fn edit_header(
    file: &mut Vec<u8>,
    rng: &mut Xoshiro256PlusPlus,
    edit: impl FnOnce(&mut Value, &mut Xoshiro256PlusPlus),
) {
    let Some((mut header, start)) = split(file) else { return };
    edit(&mut header, rng);
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let data = file.split_off(start);
    *file = [&(text.len() as u64).to_le_bytes()[..], &text, &data].concat();
}

/// Changes the JSON text of a metadata key.
fn edit_description(
    header: &mut Value,
    key: &str,
    rng: &mut Xoshiro256PlusPlus,
    edit: impl FnOnce(&mut Value, &mut Xoshiro256PlusPlus),
) {
    let Some(text) = header.get_mut(METADATA).and_then(|metadata| metadata.get_mut(key)) else { return };
    let Some(mut description) = text.as_str().and_then(|text| serde_json::from_str(text).ok()) else { return };
    edit(&mut description, rng);
    *text = Value::String(description.to_string());
}

/// Changes one of the shapes anywhere.
fn set_shape(description: &mut Value, rng: &mut Xoshiro256PlusPlus) {
    let (mut shapes, mut rest) = (Vec::new(), vec![description]);
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(object) => {
                for (key, value) in object.iter_mut() {
                    if key == "shape" { shapes.push(value) } else { rest.push(value) }
                }
            }
            Value::Array(list) => rest.extend(list),
            _ => {}
        }
    }
    let at = below(rng, shapes.len());
    if let Some(shape) = shapes.into_iter().nth(at) {
        *shape = SHAPES[below(rng, SHAPES.len())].into();
    }
}

/// Two sections get each other's bytes.
fn swap_sections(header: &mut Value, rng: &mut Xoshiro256PlusPlus) {
    let Some(object) = header.as_object_mut() else { return };
    let names: Vec<_> = object.keys().filter(|name| *name != METADATA).cloned().collect();
    let pick = |rng: &mut _| names.get(below(rng, names.len()));
    let (Some(a), Some(b)) = (pick(rng), pick(rng)) else { return };
    let offsets = |object: &Map<String, Value>, name: &str| object[name].get("data_offsets").cloned();
    let (Some(of_a), Some(of_b)) = (offsets(object, a), offsets(object, b)) else { return };
    object[a]["data_offsets"] = of_b;
    object[b]["data_offsets"] = of_a;
}

/// Changes, adds or removes one value anywhere.
fn edit_value(value: &mut Value, rng: &mut Xoshiro256PlusPlus) {
    let deeper = !rng.next_u64().is_multiple_of(4);
    match value {
        Value::Object(object) if !object.is_empty() => {
            let key = object.keys().nth(below(rng, object.len())).cloned().unwrap_or_default();
            if deeper {
                edit_value(&mut object[&key], rng);
            } else if let Some(removed) = object.remove(&key)
                && rng.next_u64().is_multiple_of(2)
            {
                object.insert(format!("{key}x"), removed);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = below(rng, list.len());
            if deeper {
                edit_value(&mut list[at], rng);
            } else {
                edit_list(list, at, rng);
            }
        }
        _ => *value = other(rng),
    }
}

/// Changes the order or the number of values.
fn edit_list(list: &mut Vec<Value>, at: usize, rng: &mut Xoshiro256PlusPlus) {
    match rng.next_u64() % 4 {
        0 => list.insert(at, other(rng)),
        1 => drop(list.remove(at)),
        2 => {
            let with = below(rng, list.len());
            list.swap(at, with);
        }
        _ => list.insert(at, list[at].clone()),
    }
}

/// A value that a header rarely has.
fn other(rng: &mut Xoshiro256PlusPlus) -> Value {
    match rng.next_u64() % 10 {
        0 => Value::Null,
        1 => true.into(),
        2 => "F32".into(),
        3 => Value::Array(vec![Value::from(1), Value::from(1u64 << 32)]),
        4 => (-1).into(),
        5 => 1e300.into(),
        6 => u64::MAX.into(),
        7 => (rng.next_u64() % 300).into(),
        8 => (1u64 << (rng.next_u64() % 64)).into(),
        _ => 0.into(),
    }
}
