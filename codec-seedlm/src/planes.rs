//! Sections of a level with `coded`: the seeds, and the entropy-coded exponents and mantissas.

use codec_api::util::{pack_bits, unpack_bits};
use codec_api::{Bytes, CodecError, Dtype, Payload, PayloadView, Result, Section};
use entropy::plane::{self, Known};

use crate::block::{Code, EXPONENT_BITS, Shape};
use crate::sections::name;

const SEEDS: &str = "seeds";
const EXPONENTS: &str = "exponents";
const MANTISSAS: &str = "mantissas";

/// The sections of a level, except its bias.
pub(crate) const NAMES: [&str; 3] = [SEEDS, EXPONENTS, MANTISSAS];

/// Smallest and largest size of these sections in bytes, for `n` weights.
pub(crate) fn bytes(shape: Shape, n: usize) -> (u64, u64) {
    let blocks = n.div_ceil(shape.weights);
    let seeds = packed_bytes(blocks, shape.seed_bits);
    let fields = [packed_bytes(blocks, EXPONENT_BITS), packed_bytes(blocks * shape.rank, shape.mantissa_bits)];
    // A plane of equal bytes takes two bytes.
    let least: usize = fields.iter().map(|bytes| bytes.min(&2)).sum();
    ((seeds + least) as u64, (seeds + fields[0] + fields[1]) as u64)
}

/// The blocks of a level.
#[derive(Debug)]
pub(crate) struct Planes {
    /// The packed seeds.
    pub(crate) seeds: Bytes,
    /// One byte for each block.
    pub(crate) exponents: Vec<u8>,
    /// One byte for each mantissa, block by block. The sign is the highest bit of the field, not of
    /// the byte.
    pub(crate) mantissas: Vec<u8>,
}

impl Planes {
    pub(crate) fn read(shape: Shape, level: usize, blocks: usize, payload: &PayloadView<'_>) -> Result<Self> {
        // The seeds are not compressed, so a small payload cannot claim many blocks.
        let seeds = payload.bytes(&name(SEEDS, level), Dtype::U8, &[packed_bytes(blocks, shape.seed_bits)])?.clone();
        let exponents = read(&name(EXPONENTS, level), payload, blocks, EXPONENT_BITS, &[])?;
        let contexts = contexts(&exponents, shape.rank);
        let mantissas = read(&name(MANTISSAS, level), payload, blocks * shape.rank, shape.mantissa_bits, &contexts)?;
        Ok(Self { seeds, exponents, mantissas })
    }
}

/// Adds the sections of a level.
pub(crate) fn write(shape: Shape, level: usize, codes: &[Code], payload: Payload) -> Result<Payload> {
    let seeds = pack_bits(codes.iter().map(|code| code.seed.into()), shape.seed_bits as usize);
    let exponents: Vec<u8> = codes.iter().map(|code| code.exponent).collect();
    let field = (1u8 << shape.mantissa_bits) - 1;
    let mantissas: Vec<u8> =
        codes.iter().flat_map(|code| &code.mantissas[..shape.rank]).map(|m| *m as u8 & field).collect();
    let contexts = contexts(&exponents, shape.rank);
    let sections =
        [seeds, shortest(&exponents, EXPONENT_BITS, &[])?, shortest(&mantissas, shape.mantissa_bits, &contexts)?];
    NAMES
        .into_iter()
        .zip(sections)
        .try_fold(payload, |payload, (what, bytes)| payload.with(&name(what, level), Section::from_bytes(bytes)?))
}

/// The context of each mantissa: the exponent of its block, and its place in the block.
fn contexts(exponents: &[u8], rank: usize) -> Vec<u8> {
    exponents.iter().flat_map(|exponent| (0..rank as u8).map(move |j| exponent * rank as u8 + j)).collect()
}

fn packed_bytes(fields: usize, bits: u32) -> usize {
    (fields * bits as usize).div_ceil(8)
}

/// A coded plane, or the packed fields if these are not longer.
fn shortest(fields: &[u8], bits: u32, contexts: &[u8]) -> Result<Vec<u8>> {
    let known = Known::of_contexts(contexts);
    let coded = plane::encode(fields, known).map_err(CodecError::codec)?;
    if coded.len() < packed_bytes(fields.len(), bits) {
        return Ok(coded);
    }
    Ok(pack_bits(fields.iter().map(|field| u64::from(*field)), bits as usize))
}

/// Reads `count` fields written by [`shortest`].
fn read(name: &str, payload: &PayloadView<'_>, count: usize, bits: u32, contexts: &[u8]) -> Result<Vec<u8>> {
    let section = payload.section(name)?;
    let (length, most) = (section.spec().elements(), packed_bytes(count, bits));
    let bytes = payload.bytes(name, Dtype::U8, &[length.min(most)])?;
    if length == most {
        return Ok(unpack_bits(bytes, bits as usize).take(count).map(|field| field as u8).collect());
    }
    let mut fields = vec![0; count];
    let known = Known::of_contexts(contexts);
    plane::decode(bytes, known, &mut fields).map_err(|e| payload.corrupt(name, e.to_string()))?;
    let largest = fields.iter().fold(0, |largest, field| *field.max(&largest));
    if largest >> bits != 0 {
        return Err(payload.corrupt(name, format!("{largest} does not fit in a field of {bits} bits")));
    }
    Ok(fields)
}
