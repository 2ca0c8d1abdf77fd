//! Payloads that no encoder writes: damaged, swapped and invented ones.

use codec_api::{Dtype, EncodedTensor, Payload, Section, TensorSpec};

use super::sample::noise;

/// Specs of tensors with little or no data; the first ones would need terabytes.
const SPECS: [(Dtype, &[usize]); 18] = [
    (Dtype::F32, &[1 << 40]),
    (Dtype::F32, &[1 << 20, 1 << 20]),
    (Dtype::BF16, &[1 << 40, 1]),
    (Dtype::F16, &[1, 1 << 40]),
    // Hundreds of megabytes, which a machine would have.
    (Dtype::F32, &[1 << 12, 1 << 14]),
    (Dtype::BF16, &[1 << 27, 1]),
    (Dtype::F16, &[1, 1 << 26]),
    (Dtype::F32, &[64, 64, 1 << 14]),
    (Dtype::BOOL, &[1 << 14, 1 << 14]),
    (Dtype::F4, &[1 << 14, 1 << 15]),
    (Dtype::F32, &[0]),
    (Dtype::F32, &[0, 1 << 40]),
    (Dtype::F32, &[1 << 40, 0]),
    (Dtype::F32, &[]),
    (Dtype::BF16, &[1, 1]),
    (Dtype::F32, &[5, 129]),
    (Dtype::F16, &[2, 2, 2, 2, 2, 2]),
    (Dtype::U8, &[64]),
];

/// A description of the change, and the changed encoded tensor.
pub(super) type Mutation = (String, EncodedTensor);

/// `payload` with the bytes of section `name` replaced by `data` of the same length.
pub(super) fn with_data(payload: &Payload, name: &str, data: Vec<u8>) -> Payload {
    let spec = payload.sections().get(name).map(Section::spec);
    replaced(payload, name, spec.and_then(|spec| Section::new(spec.dtype(), spec.shape(), data).ok()))
}

/// `payload` with section `name` replaced by `section`, or removed for `None`.
pub(super) fn replaced(payload: &Payload, name: &str, section: Option<Section>) -> Payload {
    let kept = payload.sections().iter().filter(|(other, _)| *other != name);
    let kept = kept.map(|(other, section)| (other.clone(), section.clone()));
    // The names differ, so no section is refused.
    Payload::from_sections(kept.chain(section.map(|section| (name.to_owned(), section)))).unwrap_or_default()
}

/// Every change to a single section of `encoded`, and some changes to several sections at once.
pub(super) fn sections(encoded: &EncodedTensor) -> Vec<Mutation> {
    let payload = &encoded.payload;
    let change = |what: String, payload: Payload| {
        let mut changed = encoded.clone();
        changed.payload = payload;
        (what, changed)
    };
    let mut all = vec![change("every section removed".to_owned(), Payload::new())];
    for (name, section) in payload.sections() {
        all.push(change(format!("section `{name}` removed"), replaced(payload, name, None)));
        for (what, other) in reshaped(section).into_iter().chain(rewritten(section)) {
            all.push(change(format!("section `{name}` {what}"), replaced(payload, name, Some(other))));
        }
        for (other_name, other) in payload.sections().iter().filter(|(other, _)| *other != name) {
            let what = format!("section `{name}` is a copy of `{other_name}`");
            all.push(change(what, replaced(payload, name, Some(other.clone()))));
        }
    }
    all
}

/// Other dtypes and shapes, shorter and longer data.
fn reshaped(section: &Section) -> Vec<(String, Section)> {
    let (dtype, shape, data) = (section.spec().dtype(), section.spec().shape(), section.data());
    let mut all = Vec::new();
    let mut add = |what: String, dtype, shape: Vec<usize>, data: Vec<u8>| {
        all.extend(Section::new(dtype, shape, data).ok().map(|s| (what, s)));
    };
    add("read as U8".to_owned(), Dtype::U8, vec![data.len()], data.to_vec());
    add("read as F32".to_owned(), Dtype::F32, vec![data.len() / 4], data.to_vec());
    add("with one more axis".to_owned(), dtype, [shape, &[1]].concat(), data.to_vec());
    add("flattened".to_owned(), dtype, vec![section.spec().elements()], data.to_vec());
    add("with its axes reversed".to_owned(), dtype, shape.iter().rev().copied().collect(), data.to_vec());
    for (axis, &extent) in shape.iter().enumerate() {
        for other in [0, 1, extent / 2, extent.saturating_sub(1), extent + 1, 2 * extent + 1] {
            let mut shape = shape.to_vec();
            shape[axis] = other;
            let Ok(spec) = TensorSpec::new(dtype, shape.as_slice()) else { continue };
            let mut data = data.to_vec();
            data.resize(spec.byte_len(), 0x5a);
            add(format!("cut or grown to {shape:?}"), dtype, shape, data);
        }
    }
    all
}

/// Other bytes in the same dtype and shape.
fn rewritten(section: &Section) -> Vec<(String, Section)> {
    let (spec, data) = (section.spec(), section.data());
    let mut all = Vec::new();
    let mut add = |what: String, data: Vec<u8>| {
        all.extend(Section::new(spec.dtype(), spec.shape(), data).ok().map(|s| (what, s)));
    };
    for byte in [0x00, 0x7f, 0x80, 0xff] {
        add(format!("filled with {byte:#04x}"), vec![byte; data.len()]);
    }
    for seed in 0..8 {
        add(format!("of random bytes {seed}"), (0..data.len() as u64).map(|i| noise(i ^ (seed << 32)) as u8).collect());
    }
    for i in 0..64.min(data.len() as u64) {
        let mut data = data.to_vec();
        let at = noise(i) as usize % data.len();
        data[at] ^= (noise(i + 1000) as u8).max(1);
        add(format!("with byte {at} changed"), data);
    }
    all
}

/// The payload of `encoded` under other specs.
pub(super) fn specs(encoded: &EncodedTensor) -> Vec<Mutation> {
    let other = SPECS.into_iter().filter_map(|(dtype, shape)| TensorSpec::new(dtype, shape).ok());
    other
        .map(|spec| {
            let mut changed = encoded.clone();
            let what = format!("the payload of {} under spec {spec}", encoded.spec);
            changed.spec = spec;
            (what, changed)
        })
        .collect()
}

/// Damaged files: every truncation, changed bytes, and noise.
pub(super) fn files(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all =
        (0..file.len()).map(|n| (format!("the file's first {n} bytes"), file[..n].to_vec())).collect::<Vec<_>>();
    for i in 0..300 {
        let (at, bit) = (noise(i) as usize % file.len(), noise(i + 1000) % 8);
        let mut file = file.to_vec();
        file[at] ^= 1 << bit;
        all.push((format!("the file with bit {bit} of byte {at} flipped"), file));
    }
    for seed in 0..20 {
        let length = noise(seed) % 200;
        all.push((format!("random file {seed}"), (0..length).map(|i| noise(i ^ (seed << 32)) as u8).collect()));
    }
    all
}
