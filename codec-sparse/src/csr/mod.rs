//! Compressed sparse rows, `sparse.csr`: for each row the columns of the non-zero elements. Another
//! codec stores the values of these elements.
//!
//! An element is zero if all its bits are 0, so −0 and NaN are values. For a dtype below a byte,
//! the units are whole bytes instead of elements, all in one row. The values, row by row, form a
//! tensor of their own for the inner codec. If values and columns together would not be smaller
//! than the inner codec's payload for the whole tensor, the codec stores that payload instead.
//!
//! # Source
//! Saad, *Iterative Methods for Sparse Linear Systems*, 2nd edition (2003), section 3.4; `u32` has
//! the arrays of `SciPy`'s `csr_matrix` (`indptr`, `indices`, `data`). Gaps in a few bits: Deep
//! Compression, Han et al., arXiv 1510.00149, section 2 and figure 2 (a filler zero there, a skip
//! without a value here).
//!
//! # Sections
//! With `R × C` the matrix view and `V` values:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte)
//!   and shape `[V]`;
//! - with `index` `u32`: `columns` U32 `[V]`, the column of each value. Rows longer than 2²⁴
//!   columns are cut into segments of that length, and columns count from the start of the segment.
//!   `pointers` U32 `[S+1]` for all `S` segments (U64 for tensors of 2³² elements or more): the
//!   index of each segment's first value, and `V` at the end;
//! - with `narrow` the same, but `columns` is U8 for rows of 256 columns or fewer, otherwise U16 in
//!   segments of 2¹⁶;
//! - with `gap`: `gaps` U8, for each value the number of zeros since the previous value or the
//!   start of the segment; 255 stands for 255 zeros without a value. Segments have 255 columns if
//!   rows are not longer, otherwise 2¹⁵. `counts` `[S]`, U8 with segments of 255 and U16 with the
//!   longer ones: the bytes in `gaps` of each segment;
//! - with `coded` the same, but `coded_gaps` U8 replaces `gaps`: the gaps, entropy-coded as a plane
//!   of bytes in the layout of `entropy::plane`;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or only `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"sparse.csr","version":1,"#,
//!     r#""inner":{"codec":"lossless.raw","version":1},"#,
//!     r#""index":"gap"}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out, `index` `gap`.
//!
//! # Bound
//! No error with an exact inner codec, which makes this codec exact for every dtype. Otherwise the
//! inner codec's error on the values; zeros stay zeros.
//!
//! # Cost
//! The inner codec's cost for `V` values, 4 bytes for the checksum, and
//! - for `u32` `4·(S+1) + 4·V` bytes;
//! - for `narrow` `4·(S+1)` + `V` or `2·V` bytes;
//! - for `gap` `S` or `2·S` + `V` + the number of skips;
//! - for `coded` at most one byte more than for `gap` (5.7 bits a value instead of 8 where one
//!   element in twenty is not zero).
//!
//! From 2³² elements on, a pointer takes 8 bytes instead of 4. At most the inner codec's cost for
//! the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! a row of `V` values, it encodes the dense tensor instead.

mod coded;
mod gap;
mod pointers;

use codec_api::{Codec, FormatVersion, Payload, Preset, Result, register_codec, typetag};
use coded::Coded;
pub(crate) use gap::Gap;
pub(crate) use pointers::Pointers;
use serde::{Deserialize, Serialize};

use crate::coder::{Coder, sparse_codec};
use crate::form::Form;

/// Configuration of `sparse.csr`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Csr {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Stores the values.
    pub inner: Box<dyn Codec>,
    /// How columns are stored.
    #[serde(default)]
    pub index: Index,
}

/// How the columns of values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// 32 bits each, as in software for sparse matrices.
    U32,
    /// 8 or 16 bits each, depending on the length of the rows.
    Narrow,
    /// The number of zeros before each value, in a byte.
    #[default]
    Gap,
    /// The gaps of `gap`, entropy-coded.
    Coded,
}

impl Index {
    fn form(self) -> Box<dyn Form> {
        match self {
            Self::U32 => Box::new(Pointers::U32),
            Self::Narrow => Box::new(Pointers::Narrow),
            Self::Gap => Box::new(Gap),
            Self::Coded => Box::new(Coded),
        }
    }
}

impl Csr {
    /// Creates the codec; `inner` stores the values.
    pub fn new(inner: Box<dyn Codec>, index: Index) -> Self {
        Self { version: FormatVersion, inner, index }
    }

    fn coder(&self) -> Coder<'_> {
        Coder::new(&*self.inner, vec![self.index.form()])
    }
}

sparse_codec! {
    #[typetag::serde(name = "sparse.csr")]
    Csr
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::from_spec("u32", "sparse.csr(lossless.raw):index=u32"),
        Preset::from_spec("narrow", "sparse.csr(lossless.raw):index=narrow"),
        Preset::from_spec("gap", "sparse.csr(lossless.raw):index=gap"),
        Preset::from_spec("int4", "sparse.csr(quant.int:bits=4:group=row:symmetric=true:clip=false):index=gap"),
        Preset::from_spec("gap-int4", "sparse.csr(quant.int:bits=4:group=128:symmetric=false:clip=false):index=gap"),
        Preset::from_spec("coded", "sparse.csr(lossless.raw):index=coded"),
    ]
}

fn probes() -> Vec<String> {
    let specs = [
        "sparse.csr(quant.int:bits=8):index=u32",
        "sparse.csr(quant.q8_0):index=gap",
        "sparse.csr(lossless.zstd):index=coded",
        "sparse.csr(quant.cast:to=bf16):index=narrow",
    ];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.csr", "compressed sparse rows, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
