//! Compressed sparse rows, `sparse.csr`: for each row the columns of the elements that are not zero, and their values, which
//! another codec stores.
//!
//! An element is zero if all its bits are 0: −0 and NaN are values. Elements of a dtype below a byte go by whole bytes, all in one row.
//! The values, row by row, are a tensor of their own for the inner codec. Where that and the columns would not be smaller than what
//! the inner codec makes of the whole tensor, that is the payload.
//!
//! # Source
//! Saad, *Iterative Methods for Sparse Linear Systems*, 2nd edition (2003), section 3.4; `u32` has the arrays of `SciPy`'s `csr_matrix`
//! (`indptr`, `indices`, `data`). Gaps in a few bits: Deep Compression, Han et al., arXiv 1510.00149, section 2 and figure 2
//! (there a filler zero, here a skip without a value).
//!
//! # Sections
//! With `R × C` the matrix view and `V` values:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte) and shape `[V]`;
//! - with `index` `u32`: `columns` U32 `[V]`, the column of each value; rows longer than 2²⁴ columns are cut into segments of that many,
//!   whose columns count from their start; `pointers` U32 `[S+1]` for all `S` segments, U64 for tensors of 2³² elements or more: where the
//!   values of each segment begin, and `V`;
//! - with `narrow` the same, but `columns` U8 for rows of 256 columns or fewer, else U16 in segments of 2¹⁶;
//! - with `gap`: `gaps` U8, for each value the zeros since the value before it or the start of the segment; 255 stands for 255
//!   zeros without a value. Segments are of 255 columns if the rows are not longer, else of 2¹⁵. `counts` `[S]`, U8 or U16 with
//!   such rows: the bytes in `gaps` of each segment;
//! - with `coded` the same, but instead of `gaps` there is `coded_gaps` U8: the gaps, entropy-coded as a plane of bytes in the layout of
//!   `entropy::plane`;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or all of this is `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"sparse.csr","version":1,"inner":{"codec":"lossless.raw","version":1},"index":"gap"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out, `index` `gap`.
//!
//! # Bound
//! `Exact` with an exact inner codec, which makes this one exact for every dtype. Else measured, as `MaxAbs` (near the end of f32 as `RelFrobenius`): zeros stay zeros.
//!
//! # Cost
//! What the inner codec takes for `V` values, `4·(S+1) + 4·V` bytes for `u32`, `4·(S+1)` + `V` or `2·V` for `narrow`, `S` or `2·S` + `V` + the skips for
//! `gap`, for `coded` at most a byte more than for `gap` (5.7 bits a value instead of 8 where one in twenty is not zero), and 4 for the checksum; from 2³² elements on pointers take 8 bytes instead of 4. At most what the inner codec takes for the whole tensor.
//!
//! # Limits
//! What the inner codec takes; it may need neither base nor calibration. If it does not take `V` values in a row, the whole tensor is its.

mod coded;
mod gap;
mod pointers;

use codec_api::{Codec, FormatVersion, Preset, register_codec, typetag};
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
    /// 32 bits each, as software for sparse matrices has them.
    U32,
    /// 8 or 16 bits each, as the length of the rows allows.
    Narrow,
    /// The zeros before each value, in a byte.
    #[default]
    Gap,
    /// These, entropy-coded.
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
    /// With this codec for the values.
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
    const RAW: &str = r#"{"codec":"lossless.raw","version":1}"#;
    const INT4: &str = r#"{"codec":"quant.int","version":1,"bits":4,"group":"row","symmetric":true,"clip":false}"#;
    const GROUPED: &str = r#"{"codec":"quant.int","version":1,"bits":4,"group":128,"symmetric":false,"clip":false}"#;
    let preset = |name, inner: &str, index: &str| {
        let header = format!(r#"{{"codec":"sparse.csr","version":1,"inner":{inner},"index":"{index}"}}"#);
        Preset::from_header(name, &header)
    };
    let all = [
        preset("u32", RAW, "u32"),
        preset("narrow", RAW, "narrow"),
        preset("gap", RAW, "gap"),
        preset("int4", INT4, "gap"),
        preset("gap-int4", GROUPED, "gap"),
        preset("coded", RAW, "coded"),
    ];
    all.into_iter().flatten().collect()
}

register_codec!("sparse.csr", "compressed sparse rows, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]));
