//! The result of an encode: named, typed byte sections and a certified bound.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::bound::Bound;
use crate::error::{CodecError, Result};
use crate::tensor::{Dtype, TensorSpec};

/// One array of a payload: little-endian bytes, either owned or a slice of a memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    spec: TensorSpec,
    data: Bytes,
}

impl Section {
    /// A section of little-endian bytes.
    ///
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

    /// A U8 section `[bytes.len()]`.
    ///
    /// # Errors
    /// Never: the data length always matches the shape.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::new(Dtype::U8, [bytes.len()], bytes)
    }

    /// A section of these values (u8, u16, f32, …). `T` must be as wide as `dtype`. Nothing is
    /// copied.
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

/// Owner of a shared buffer that keeps the alignment of `T`.
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
    /// A payload without sections.
    pub fn new(bound: Bound) -> Self {
        Self { sections: BTreeMap::new(), bound }
    }

    /// Adds a section; replaces an existing section of that name.
    #[must_use]
    pub fn with(mut self, name: &str, section: Section) -> Self {
        self.sections.insert(name.to_owned(), section);
        self
    }

    /// Adds all sections of a child codec's payload under `scope/`. The bound of the child is
    /// dropped: a composite certifies its own.
    #[must_use]
    pub fn with_scope(mut self, scope: &str, child: Payload) -> Self {
        self.sections.extend(child.sections.into_iter().map(|(name, s)| (format!("{scope}/{name}"), s)));
        self
    }

    /// Replaces the bound, for encoders that know it only at the end.
    #[must_use]
    pub fn with_bound(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// The sections by name.
    pub fn sections(&self) -> &BTreeMap<String, Section> {
        &self.sections
    }

    /// The certified error bound for this tensor.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Sum of the section sizes in bytes; every report shows it as `bytes`.
    pub fn bytes(&self) -> u64 {
        self.sections.values().map(|s| s.data.len() as u64).sum()
    }

    /// A view of the whole payload, for decoders.
    pub fn view(&self) -> PayloadView<'_> {
        PayloadView { payload: self, scope: String::new() }
    }
}

/// A decoder's view of a payload: all sections, or only those under a scope.
#[derive(Clone, Debug)]
pub struct PayloadView<'a> {
    payload: &'a Payload,
    scope: String,
}

impl<'a> PayloadView<'a> {
    /// The view of a child codec: only the sections under `scope/`.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self { payload: self.payload, scope: format!("{}{scope}/", self.scope) }
    }

    /// The section of this name, for formats whose section shapes depend on the data; other formats
    /// use [`Self::bytes`] or [`Self::values`], which check dtype and shape.
    ///
    /// # Errors
    /// [`CodecError::Missing`] with the full section name.
    pub fn section(&self, name: &str) -> Result<&'a Section> {
        let full = format!("{}{name}", self.scope);
        self.payload.sections.get(&full).ok_or_else(|| CodecError::Missing(format!("section `{full}`")))
    }

    /// Sum of the sizes of all sections in view, in bytes. A composite compares it with its child's
    /// cost before it allocates the child's output.
    pub fn total_bytes(&self) -> u64 {
        self.sections().map(|(_, section)| section.data.len() as u64).sum()
    }

    /// All sections in view in the order of their names; the names are relative to the scope.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &'a Section)> {
        self.payload.sections.iter().filter_map(|(name, section)| Some((name.strip_prefix(&*self.scope)?, section)))
    }

    /// Whether the view has a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.section(name).is_ok()
    }

    /// The bytes of the section `name`, which must have this dtype and shape.
    ///
    /// # Errors
    /// [`CodecError::Missing`] without the section; [`CodecError::Corrupt`] for another dtype or
    /// shape.
    pub fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a Bytes> {
        let section = self.section(name)?;
        let spec = section.spec();
        if spec.dtype() == dtype && spec.shape() == shape {
            return Ok(section.data());
        }
        Err(self.corrupt(name, format!("it is {spec}, expected {dtype} {shape:?}")))
    }

    /// The bytes of a rank-1 U8 section of any length.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn byte_section(&self, name: &str) -> Result<&'a Bytes> {
        let section = self.section(name)?;
        self.bytes(name, Dtype::U8, &[section.data().len()])
    }

    /// Like [`Self::bytes`], but copies the little-endian values into a vector.
    ///
    /// # Errors
    /// As [`Self::bytes`]; [`CodecError::Corrupt`] if the bytes are not a whole number of `T`.
    pub fn values<T: bytemuck::AnyBitPattern>(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<T>> {
        let bytes = self.bytes(name, dtype, shape)?;
        let width = size_of::<T>().max(1);
        if bytes.len() % width != 0 {
            return Err(self.corrupt(name, format!("{} bytes are not a whole number of values", bytes.len())));
        }
        Ok(bytes.chunks_exact(width).map(bytemuck::pod_read_unaligned).collect())
    }

    /// A [`CodecError::Corrupt`] with the full name of the section, scope included.
    pub fn corrupt(&self, name: &str, reason: impl Into<String>) -> CodecError {
        CodecError::corrupt(format!("{}{name}", self.scope), reason)
    }
}
