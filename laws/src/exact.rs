//! The part of law 1 for exact codecs: the codec restores every bit of every dtype it supports, and
//! notices a damaged payload.

use codec_api::{CodecError, EncodedTensor};

use super::mutations::with_data;
use super::sample::noise;
use super::trial::{Trial, each_offer, for_all};
use super::{ALL_DTYPES, Law, Sample, Subject, Violation};
use crate::strategies;

/// Largest number of flipped bits tried per section.
const FLIPS: usize = 600;

/// Special floats as f32 bits: quiet and signalling NaN with payloads, both zeros, both infinities,
/// subnormals.
const SPECIAL: [u32; 10] = [
    0x7fc0_1234,
    0x7f80_0001,
    0xffc0_0000,
    0xffff_ffff,
    0x0000_0000,
    0x8000_0000,
    0x7f80_0000,
    0xff80_0000,
    0x0000_0001,
    0x807f_ffff,
];

pub(super) fn exact(subject: &Subject) -> Result<(), Violation> {
    for dtype in ALL_DTYPES {
        for shape in [&[4, 24][..], &[8], &[0, 3]] {
            if let Ok(sample) = Sample::bits(dtype, shape) {
                each_offer(subject, Law::Certificate, &sample, restores)?;
                each_offer(subject, Law::Certificate, &sample, notices_flips)?;
            }
        }
    }
    for dtype in super::FLOAT_DTYPES {
        // F16 and BF16 read their own special values from the upper half of the bits.
        let bytes = SPECIAL.iter().flat_map(|bits| bits.to_be_bytes()).rev().collect::<Vec<_>>();
        let elements = bytes.len() * 8 / dtype.bitsize();
        let spec = codec_api::TensorSpec::new(dtype, [elements]);
        if let Ok(sample) = spec.and_then(|spec| Sample::new("NaN, zeros, infinities, subnormals", spec, bytes)) {
            each_offer(subject, Law::Certificate, &sample, restores)?;
        }
    }
    for_all(subject, Law::Certificate, &strategies::bit_tensor(), |sample| {
        each_offer(subject, Law::Certificate, sample, restores)
    })
}

/// Decoding restores the stored bytes. It also restores the values as f32 for float dtypes, and
/// refuses f32 for all other dtypes.
fn restores(trial: &Trial<'_>) -> Result<(), Violation> {
    let Some(encoded) = encode(trial)? else { return Ok(()) };
    if !encoded.certificate.exact {
        return Err(trial.violation(format!("{:?}", encoded.certificate), "a lossless codec is exact"));
    }
    let bytes = trial.decode_bytes(&encoded)?;
    if let Some(at) = bytes.iter().zip(trial.sample.bytes()).position(|(a, b)| a != b) {
        let found = format!("byte {at} is {:#04x} and was {:#04x}", bytes[at], trial.sample.bytes()[at]);
        return Err(trial.violation(found, "every bit comes back"));
    }
    if trial.sample.spec().is_float() {
        let decoded = trial.decode(&encoded)?;
        if !same_bits(&trial.source()?, &decoded) {
            return Err(trial.violation("`decode` gives other bits than the source as f32", "every bit comes back"));
        }
    } else if decode_any(trial, &encoded)?.is_some() {
        return Err(trial.violation("`decode` gives f32 values", "f32 for F32, F16 and BF16 only"));
    }
    Ok(())
}

/// Both ways to decode return an error for each flipped bit of the payload, unless the flip changes
/// nothing (a format may contain unused bits).
fn notices_flips(trial: &Trial<'_>) -> Result<(), Violation> {
    let Some(encoded) = encode(trial)? else { return Ok(()) };
    for (name, section) in encoded.payload.sections() {
        let bits = section.data().len() * 8;
        for i in 0..bits.min(FLIPS) {
            let bit = if bits <= FLIPS { i } else { noise(i as u64) as usize % bits };
            let mut data = section.data().to_vec();
            data[bit / 8] ^= 1 << (bit % 8);
            let mut damaged = encoded.clone();
            damaged.payload = with_data(&encoded.payload, name, data);
            if let Some(what) = silently_wrong(trial, &damaged)? {
                let found = format!("bit {bit} of section `{name}` was flipped, and `{what}` gives other values");
                return Err(trial.violation(found, "an error: a checksum tells"));
            }
        }
    }
    Ok(())
}

/// The name of the method that decodes a damaged payload to wrong values without an error.
fn silently_wrong(trial: &Trial<'_>, damaged: &EncodedTensor) -> Result<Option<&'static str>, Violation> {
    let bytes = trial.calmly("decode_bytes", || damaged.decode_bytes(&trial.sample.decode_cx(trial.offer)?))?;
    if bytes.is_ok_and(|bytes| bytes != trial.sample.bytes()) {
        return Ok(Some("decode_bytes"));
    }
    match decode_any(trial, damaged)? {
        Some(values) if !same_bits(&trial.source()?, &values) => Ok(Some("decode")),
        _ => Ok(None),
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

/// Decodes to f32; `None` if the codec returns an error.
fn decode_any(trial: &Trial<'_>, encoded: &EncodedTensor) -> Result<Option<Vec<f32>>, Violation> {
    Ok(trial.calmly("decode", || encoded.decode(&trial.sample.decode_cx(trial.offer)?))?.ok())
}

/// Encodes; `None` if the codec refuses a dtype that it is not registered for.
fn encode(trial: &Trial<'_>) -> Result<Option<EncodedTensor>, Violation> {
    let (subject, spec) = (trial.subject, trial.sample.spec());
    if subject.entry.only.is_empty() || subject.entry.only.contains(&spec.dtype()) {
        let wanted = "a lossless codec encodes every dtype, or those that it is registered for alone";
        return trial.try_encode()?.map(Some).map_err(|e| trial.violation(format!("encode failed: {e}"), wanted));
    }
    match trial.calmly("accepts", || subject.codec.accepts(spec))? {
        Err(CodecError::Unsupported(reason)) if !reason.is_empty() => Ok(None),
        answer => {
            let found = answer.map_or_else(|e| e.to_string(), |()| "it is accepted".to_owned());
            Err(trial.violation(found, "`accepts` refuses a dtype that the codec is not registered for as unsupported"))
        }
    }
}
