//! What an encoder returns: named, typed byte sections and a certified bound.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::bound::Bound;
use crate::error::{CodecError, Result};
use crate::tensor::{Dtype, TensorSpec};

/// One array of a payload: little-endian bytes, owned or a slice of a memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    spec: TensorSpec,
    data: Bytes,
}

impl Section {
    /// # Errors
    /// [`CodecError::Limit`] if `data` is not exactly as long as dtype and shape say.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>, data: impl Into<Bytes>) -> Result<Self> {
        let (spec, data) = (TensorSpec::new(dtype, shape)?, data.into());
        if data.len() != spec.byte_len() {
            return Err(CodecError::Limit(format!(
                "a section {spec} takes {} bytes, not {}",
                spec.byte_len(),
                data.len()
            )));
        }
        Ok(Self { spec, data })
    }

    /// A section U8 of as many bytes as there are.
    ///
    /// # Errors
    /// Never: it has the size of its shape.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::new(Dtype::U8, [bytes.len()], bytes)
    }

    /// A section of these values (u8, u16, f32, …), whose type must be as wide as `dtype`; nothing is copied.
    ///
    /// # Errors
    /// As [`Section::new`].
    pub fn from_values<T>(dtype: Dtype, shape: impl Into<Vec<usize>>, values: Vec<T>) -> Result<Self>
    where
        T: bytemuck::NoUninit + Send + Sync,
    {
        Self::new(dtype, shape, Bytes::from_owner(Values(values)))
    }

    /// Dtype and shape.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

/// Keeps a vector's own alignment while its bytes are shared.
struct Values<T>(Vec<T>);

impl<T: bytemuck::NoUninit> AsRef<[u8]> for Values<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The encoded form of one tensor (or of one chunk of it).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Payload {
    sections: BTreeMap<String, Section>,
    bound: Bound,
}

impl Payload {
    /// A payload without sections yet.
    pub fn new(bound: Bound) -> Self {
        Self { sections: BTreeMap::new(), bound }
    }

    /// Adds a section (replaces one of the same name).
    #[must_use]
    pub fn with(mut self, name: &str, section: Section) -> Self {
        self.sections.insert(name.to_owned(), section);
        self
    }

    /// Adds all sections of a child codec's payload under `scope` (`scope/name`). The child's bound is
    /// not taken over: a composite measures its own.
    #[must_use]
    pub fn with_scope(mut self, scope: &str, child: Payload) -> Self {
        self.sections.extend(child.sections.into_iter().map(|(name, s)| (format!("{scope}/{name}"), s)));
        self
    }

    /// The same sections under another bound, for encoders that know it last.
    #[must_use]
    pub fn with_bound(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// The sections by name.
    pub fn sections(&self) -> &BTreeMap<String, Section> {
        &self.sections
    }

    /// The certified error bound of this very tensor.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Sum of the section bytes: the `bytes` of every report.
    pub fn bytes(&self) -> u64 {
        self.sections.values().map(|s| s.data.len() as u64).sum()
    }

    /// The payload as a decoder reads it.
    pub fn view(&self) -> PayloadView<'_> {
        PayloadView { payload: self, scope: String::new() }
    }
}

/// A decoder's view of a payload: all of it, or the sections under a scope.
#[derive(Clone, Debug)]
pub struct PayloadView<'a> {
    payload: &'a Payload,
    scope: String,
}

impl<'a> PayloadView<'a> {
    /// The sections of the child codec stored under `scope`.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self { payload: self.payload, scope: format!("{}{scope}/", self.scope) }
    }

    /// The section of this name, for formats whose section shapes depend on the data.
    ///
    /// # Errors
    /// [`CodecError::Missing`] with the full name.
    pub fn section(&self, name: &str) -> Result<&'a Section> {
        let full = format!("{}{name}", self.scope);
        self.payload.sections.get(&full).ok_or_else(|| CodecError::Missing(format!("section `{full}`")))
    }

    /// Sum of the bytes of all sections in view, for a composite that compares its child's with their cost before it makes room for
    /// what they decode to.
    pub fn total_bytes(&self) -> u64 {
        self.sections().map(|(_, section)| section.data.len() as u64).sum()
    }

    /// All sections in view, in the order of their names, which are those below the scope.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &'a Section)> {
        self.payload.sections.iter().filter_map(|(name, section)| Some((name.strip_prefix(&*self.scope)?, section)))
    }

    /// Whether there is a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.section(name).is_ok()
    }

    /// The bytes of a section that must have this dtype and shape.
    ///
    /// # Errors
    /// [`CodecError::Missing`] or [`CodecError::Corrupt`].
    pub fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a Bytes> {
        let section = self.section(name)?;
        let spec = section.spec();
        if spec.dtype() == dtype && spec.shape() == shape {
            return Ok(section.data());
        }
        Err(self.corrupt(name, format!("it is {spec}, the format wants {dtype} {shape:?}")))
    }

    /// The bytes of a U8 section of any length.
    ///
    /// # Errors
    /// [`CodecError::Missing`] or [`CodecError::Corrupt`].
    pub fn byte_section(&self, name: &str) -> Result<&'a Bytes> {
        let section = self.section(name)?;
        self.bytes(name, Dtype::U8, &[section.data().len()])
    }

    /// Like [`Self::bytes`], as little-endian values in a buffer of their own.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn values<T: bytemuck::AnyBitPattern>(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<T>> {
        let bytes = self.bytes(name, dtype, shape)?;
        let width = size_of::<T>().max(1);
        if bytes.len() % width != 0 {
            return Err(self.corrupt(name, format!("{} bytes are no whole number of values", bytes.len())));
        }
        Ok(bytes.chunks_exact(width).map(bytemuck::pod_read_unaligned).collect())
    }

    /// A [`CodecError::Corrupt`] that names the section in full.
    pub fn corrupt(&self, name: &str, reason: impl Into<String>) -> CodecError {
        CodecError::corrupt(format!("{}{name}", self.scope), reason)
    }
}
