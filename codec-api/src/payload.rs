//! The result of an encode: named, typed byte sections.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::certificate::Certificate;
use crate::codec::Codec;
use crate::context::{BaseTensor, DecodeCx};
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
    /// [`CodecError::Usage`] if `data` is not exactly as long as dtype and shape say.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>, data: impl Into<Bytes>) -> Result<Self> {
        let (spec, data) = (TensorSpec::new(dtype, shape)?, data.into());
        if data.len() != spec.byte_len() {
            return Err(CodecError::Usage(format!(
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

/// Name of the section that holds the id of the base tensor ([`Payload::with_base`]).
const BASE: &str = "base";

/// The encoded form of one tensor (or of one chunk of it).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Payload {
    sections: BTreeMap<String, Section>,
    measured: Option<Certificate>,
}

impl Payload {
    /// Size of the section that [`Self::with_base`] adds.
    pub const BASE_BYTES: u64 = 32;

    /// A payload without sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a section.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the name is taken, empty, or contains a `/`, which separates the
    /// scopes of child codecs.
    pub fn with(self, name: &str, section: Section) -> Result<Self> {
        if name.is_empty() || name.contains('/') {
            return Err(CodecError::Usage(format!("`{name}` cannot be the name of a section")));
        }
        self.insert(name.to_owned(), section)
    }

    /// Adds all sections of a child codec's payload under `scope/`.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the scope is taken, empty, or contains a `/`.
    pub fn with_scope(mut self, scope: &str, child: Payload) -> Result<Self> {
        if scope.is_empty() || scope.contains('/') {
            return Err(CodecError::Usage(format!("`{scope}` cannot be the scope of a child codec")));
        }
        for (name, section) in child.sections {
            self = self.insert(format!("{scope}/{name}"), section)?;
        }
        Ok(self)
    }

    /// Adds the section `base` U8 `[32]`: the id of the base tensor that decoding needs
    /// ([`crate::BaseTensor::id`]).
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_base(self, id: [u8; 32]) -> Result<Self> {
        self.with(BASE, Section::from_bytes(id.to_vec())?)
    }

    /// Stores the error that the encoder measured during the encode, for an encoder that measures
    /// much faster than a decode would. The numbers must be those of [`Certificate::measure`] on
    /// the decoded values, rounded to the stored dtype.
    #[must_use]
    pub fn with_measured(mut self, certificate: Certificate) -> Self {
        self.measured = Some(certificate);
        self
    }

    /// The error that the encoder measured; `None` if it did not measure.
    pub fn measured(&self) -> Option<Certificate> {
        self.measured
    }

    /// A payload of sections under their full names, scopes included, for readers of containers.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if two sections have the same name.
    pub fn from_sections(sections: impl IntoIterator<Item = (String, Section)>) -> Result<Self> {
        sections.into_iter().try_fold(Self::new(), |payload, (name, section)| payload.insert(name, section))
    }

    fn insert(mut self, name: String, section: Section) -> Result<Self> {
        if self.sections.contains_key(&name) {
            return Err(CodecError::Usage(format!("the payload has a section `{name}` already")));
        }
        self.sections.insert(name, section);
        Ok(self)
    }

    /// The ids of the base tensors that decoding needs: those of the codec and of its children.
    pub fn bases(&self) -> Vec<[u8; 32]> {
        let of_base = |name: &str| name == BASE || name.ends_with(&format!("/{BASE}"));
        let sections = self.sections.iter().filter(|(name, _)| of_base(name));
        sections.filter_map(|(_, section)| section.data.as_ref().try_into().ok()).collect()
    }

    /// A payload with these sections only, for levels of quality.
    #[must_use]
    pub fn restricted_to(&self, names: &[String]) -> Self {
        let sections = self.sections.iter().filter(|(name, _)| names.contains(name));
        Self { sections: sections.map(|(name, s)| (name.clone(), s.clone())).collect(), measured: None }
    }

    /// The sections by name.
    pub fn sections(&self) -> &BTreeMap<String, Section> {
        &self.sections
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
    /// [`CodecError::MissingSection`] with the full section name.
    pub fn section(&self, name: &str) -> Result<&'a Section> {
        let full = format!("{}{name}", self.scope);
        self.payload.sections.get(&full).ok_or(CodecError::MissingSection(full))
    }

    /// Checks that the codec accepts the spec, and that the sections in view have a size that the
    /// codec's cost allows for it. A composite checks its child before it allocates the output.
    ///
    /// # Errors
    /// Those of [`Codec::accepts`]; [`CodecError::Corrupt`] with all sizes.
    pub fn check_size(&self, codec: &dyn Codec, spec: &TensorSpec) -> Result<()> {
        codec.accepts(spec)?;
        self.check_between(self.total_bytes(), &codec.cost(spec).bytes, spec)
    }

    /// Checks the size of some of the sections.
    pub(crate) fn check_between(&self, bytes: u64, allowed: &RangeInclusive<u64>, spec: &TensorSpec) -> Result<()> {
        if allowed.contains(&bytes) {
            return Ok(());
        }
        let (least, most) = (allowed.start(), allowed.end());
        Err(self.corrupt("*", format!("{bytes} bytes in total; expected {least} to {most} for a {spec} tensor")))
    }

    /// Sum of the sizes of all sections in view, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.sections().map(|(_, section)| section.data.len() as u64).sum()
    }

    /// All sections in view in the order of their names; the names are relative to the scope.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &'a Section)> {
        self.payload.sections.iter().filter_map(|(name, section)| Some((name.strip_prefix(&*self.scope)?, section)))
    }

    /// Whether the view has a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.payload.sections.contains_key(&format!("{}{name}", self.scope))
    }

    /// The bytes of the section `name`, which must have this dtype and shape.
    ///
    /// # Errors
    /// [`CodecError::MissingSection`] without the section; [`CodecError::Corrupt`] for another
    /// dtype or shape.
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

    /// The base tensor that the payload names ([`Payload::with_base`]). It must be the one of `cx`.
    ///
    /// # Errors
    /// [`CodecError::MissingBase`] with the named id if `cx` has no base or another one,
    /// [`CodecError::Unsupported`] if the base is not a tensor of `spec`; those of
    /// [`PayloadView::bytes`].
    pub fn base<'c, 'b>(&self, spec: &TensorSpec, cx: &'c DecodeCx<'b>) -> Result<&'c BaseTensor<'b>> {
        let id = self.bytes(BASE, Dtype::U8, &[Payload::BASE_BYTES as usize])?;
        match &cx.base {
            Some(base) if base.id[..] == id[..] => base.of_spec(spec),
            base => Err(CodecError::MissingBase {
                wanted: id.as_ref().try_into().ok(),
                given: base.as_ref().map(|base| base.id),
            }),
        }
    }

    /// A [`CodecError::Corrupt`] with the full name of the section, scope included.
    pub fn corrupt(&self, name: &str, reason: impl Into<String>) -> CodecError {
        CodecError::corrupt(format!("{}{name}", self.scope), reason)
    }
}
