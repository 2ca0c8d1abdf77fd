//! The base tensor: every payload of this crate names its base and decodes with no other.

use std::fmt::Write;

use codec_api::{BaseTensor, CodecError, DecodeCx, Dtype, EncodeCx, PayloadView, Result, Section, TensorSpec};

/// Name of the section with the base's id.
pub(crate) const BASE: &str = "base";

/// Bytes of the base's id.
pub(crate) const ID_BYTES: u64 = 32;

/// Returns the base to encode a tensor of this spec against.
///
/// # Errors
/// [`CodecError::Missing`] without a base, [`CodecError::Unsupported`] if its spec differs.
pub(crate) fn given<'c, 'a>(spec: &TensorSpec, cx: &'c EncodeCx<'a>) -> Result<&'c BaseTensor<'a>> {
    let missing = || CodecError::Missing("base tensor: give the one to encode against (`--base`)".to_owned());
    of_spec(spec, cx.base.as_ref().ok_or_else(missing)?)
}

/// The section `base` U8 `[32]`: blake3 of the base's stored bytes.
///
/// # Errors
/// Never: the section has the size of its shape.
pub(crate) fn section(base: &BaseTensor<'_>) -> Result<Section> {
    Section::from_bytes(base.id.to_vec())
}

/// Returns the base that the payload of a tensor of this spec names.
///
/// # Errors
/// [`CodecError::Missing`] with the named blake3 if the base is absent or another one,
/// [`CodecError::Unsupported`] if its spec differs; those of [`PayloadView::bytes`].
pub(crate) fn expect<'c, 'a>(
    payload: &PayloadView<'_>,
    spec: &TensorSpec,
    cx: &'c DecodeCx<'a>,
) -> Result<&'c BaseTensor<'a>> {
    let id = payload.bytes(BASE, Dtype::U8, &[ID_BYTES as usize])?;
    let missing = |found: &str| {
        let wanted = hex(id);
        CodecError::Missing(format!("base tensor with blake3 {wanted}: {found}; give that base (`--base`)"))
    };
    match &cx.base {
        Some(base) if base.id[..] == id[..] => of_spec(spec, base),
        Some(base) => Err(missing(&format!("the one given has {}", hex(&base.id)))),
        None => Err(missing("none is given")),
    }
}

fn of_spec<'c, 'a>(spec: &TensorSpec, base: &'c BaseTensor<'a>) -> Result<&'c BaseTensor<'a>> {
    let found = base.view.spec();
    if found == spec {
        return Ok(base);
    }
    Err(CodecError::Unsupported(format!("the base is {found}, the tensor {spec}: dtype and shape must be the same")))
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
