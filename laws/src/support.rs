//! The dtypes and ranks that each preset accepts, as a table for snapshot tests.

use std::fmt::Write;
use std::sync::Arc;

use codec_api::{Bytes, Codec, CodecError, Dtype, EncodedTensor, Registry};

use crate::{ALL_DTYPES, FLOAT_DTYPES, Sample};

/// The shape of one small tensor per rank; each row consists of whole blocks of every block format.
const SHAPES: [&[usize]; 5] = [&[], &[256], &[2, 256], &[2, 3, 256], &[2, 1, 3, 256]];

/// The support table of every preset. `ok`: a small tensor of the dtype and rank is encoded,
/// serialised, read back and decoded with the certified error. `-`: the codec refuses the tensor,
/// or the format has no tensor of this kind (one 4-bit element). `FAIL`: all other results. Dtypes
/// with equal results share a row.
///
/// ```text
/// test.sign:default
///   ok   ok   ok   ok   ok    F16 BF16 F32
///   -    -    -    -    -     BOOL F4 U8
/// ```
/// The columns are ranks 0 to 4.
pub fn table(registry: &Registry) -> String {
    let mut text = String::new();
    for (entry, preset, codec) in registry.presets() {
        let mut rows: Vec<([&str; SHAPES.len()], Vec<String>)> = Vec::new();
        for dtype in ALL_DTYPES {
            let row = SHAPES.map(|shape| cell(registry, &codec, dtype, shape));
            match rows.iter_mut().find(|(other, _)| *other == row) {
                Some((_, dtypes)) => dtypes.push(dtype.to_string()),
                None => rows.push((row, vec![dtype.to_string()])),
            }
        }
        let _ = writeln!(text, "{}:{preset}", entry.id);
        for (row, dtypes) in rows {
            let _ = writeln!(text, "  {}  {}", row.map(|value| format!("{value:<4}")).join(" "), dtypes.join(" "));
        }
    }
    text
}

fn cell(registry: &Registry, codec: &Arc<dyn Codec>, dtype: Dtype, shape: &[usize]) -> &'static str {
    let samples = if FLOAT_DTYPES.contains(&dtype) {
        vec![Sample::bell(dtype, shape), Sample::rank_one(dtype, shape)]
    } else {
        vec![Sample::bits(dtype, shape)]
    };
    for sample in samples.into_iter().flatten() {
        match round_trip(registry, codec, &sample) {
            Ok(true) => return "ok",
            Err(e) if e.is_refusal() => {}
            _ => return "FAIL",
        }
    }
    "-"
}

/// Whether a tensor that is encoded, serialised and decoded has the certified error.
fn round_trip(registry: &Registry, codec: &Arc<dyn Codec>, sample: &Sample) -> Result<bool, CodecError> {
    let needs = codec.needs();
    let encoded = EncodedTensor::encode(Arc::clone(codec), sample.view()?, &sample.encode_cx(needs)?)?;
    // A refusal after a successful encode is a failure.
    let failed = |e: CodecError| CodecError::codec(e);
    let file = Bytes::from(encoded.to_bytes().map_err(CodecError::codec)?);
    let read = EncodedTensor::from_bytes(&file, registry).map_err(CodecError::codec)?;
    let cx = sample.decode_cx(needs)?;
    if read.codec.as_lossless().is_some() {
        return Ok(read.decode_bytes(&cx).map_err(failed)? == sample.bytes());
    }
    let decoded = read.decode(&cx).map_err(failed)?;
    let mut rounded = decoded;
    codec_api::util::round(sample.spec().dtype(), &mut rounded)?;
    let found = codec_api::Certificate::measure(&sample.view()?.to_f32()?, &rounded);
    Ok(found.agrees_with(&read.certificate))
}
