//! The checksum that every exact payload carries, and decoding to f32 through the stored bytes.

use codec_api::{CodecError, DecodeCx, Dtype, Lossless, PayloadView, Result, Section, TensorSpec, widen};

/// Name of the section with the CRC-32C of the stored bytes.
const CHECKSUM: &str = "crc32c";
/// Its size.
pub(crate) const CHECKSUM_BYTES: u64 = 4;

pub(crate) fn checksum(bytes: &[u8]) -> Result<(&'static str, Section)> {
    Ok((CHECKSUM, Section::from_values(Dtype::U32, [1], vec![crc32c::crc32c(bytes)])?))
}

pub(crate) fn verify(payload: &PayloadView<'_>, bytes: &[u8]) -> Result<()> {
    let stored = payload.values::<u32>(CHECKSUM, Dtype::U32, &[1])?[0];
    let found = crc32c::crc32c(bytes);
    if stored == found {
        return Ok(());
    }
    Err(payload.corrupt(
        CHECKSUM,
        format!("the decoded bytes have CRC-32C {found:08x}, stored is {stored:08x}: the payload is damaged"),
    ))
}

/// Decodes F32, F16 and BF16 to f32 by way of the stored bytes.
pub(crate) fn decode_f32(
    codec: &dyn Lossless,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
    out: &mut [f32],
) -> Result<()> {
    spec.check_output(out.len())?;
    if !spec.is_float() {
        let reason = format!("dtype {} does not decode to f32 without loss; decode its bytes", spec.dtype());
        return Err(CodecError::Unsupported(reason));
    }
    if spec.dtype() == Dtype::F32 {
        return codec.decode_bytes(spec, payload, cx, bytemuck::cast_slice_mut(out));
    }
    let mut bytes = vec![0; spec.byte_len()];
    codec.decode_bytes(spec, payload, cx, &mut bytes)?;
    widen(spec.dtype(), &bytes, out)
}

/// Checks the length of the buffer for the stored bytes.
pub(crate) fn check_bytes(spec: &TensorSpec, len: usize) -> Result<()> {
    if len == spec.byte_len() {
        return Ok(());
    }
    Err(CodecError::Limit(format!("the output buffer has {len} bytes, the tensor {}", spec.byte_len())))
}
