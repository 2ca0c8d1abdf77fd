//! The smallest of the sparse forms, `sparse`: for each tensor the positions that take the fewest
//! bytes. Another codec stores the values.
//!
//! The candidates are [`sparse.csr`](crate::csr) with every `index` but `coded` (its size is
//! unknown before coding), [`sparse.coo`](crate::coo) and [`sparse.bitmap`](crate::bitmap). Their
//! sizes are computed, with the upper bound of the inner codec's cost for the values. All
//! candidates store the same values in the same order, so only the positions matter. Groups as in
//! [`sparse.nm`](crate::nm) are not a candidate: N and M must be known in advance, and a bitmap is
//! never larger than 2:4. If no form is smaller than the inner codec's payload for the whole
//! tensor, the codec stores that payload instead.
//!
//! # Source
//! None: the choice follows from the sizes.
//!
//! # Sections
//! The sections of the chosen form. The decoder recognises the form by `gaps` (`sparse.csr` with
//! `gap`); `bitmap`; `offsets` (`sparse.coo`); `columns` U8 or U16 with `pointers` (`narrow`);
//! `columns` U32 (`u32`); or `dense/…`. Among equally small forms, the first in this order wins.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"sparse","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out.
//!
//! # Bound
//! No error with an exact inner codec, which makes this codec exact for every dtype. Otherwise the
//! inner codec's error on the values; zeros stay zeros.
//!
//! # Cost
//! The cost of the smallest form; at most the inner codec's cost for the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! the values in a row, it encodes the dense tensor instead.

use codec_api::{Codec, FormatVersion, Payload, Preset, Result, register_codec, typetag};
use serde::{Deserialize, Serialize};

use crate::bitmap::Flags;
use crate::coder::{Coder, sparse_codec};
use crate::coo::Coordinates;
use crate::csr::{Gap, Pointers};

/// Configuration of `sparse`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sparse {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Stores the values.
    pub inner: Box<dyn Codec>,
}

impl Sparse {
    /// Creates the codec; `inner` stores the values.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner }
    }

    fn coder(&self) -> Coder<'_> {
        let forms: [Box<dyn crate::form::Form>; 5] = [
            Box::new(Gap),
            Box::new(Flags),
            Box::new(Coordinates),
            Box::new(Pointers::Narrow),
            Box::new(Pointers::U32),
        ];
        Coder::new(&*self.inner, forms.into())
    }
}

sparse_codec! {
    #[typetag::serde(name = "sparse")]
    Sparse
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::from_spec("default", "sparse(lossless.raw)"),
        Preset::from_spec("int4", "sparse(quant.int:bits=4:group=128:symmetric=false:clip=false)"),
    ]
}

fn probes() -> Vec<String> {
    let specs = ["sparse(quant.int:bits=8:group=128)", "sparse(lossless.zstd)", "sparse(sparse.bitmap)"];
    specs.map(str::to_owned).into()
}

register_codec!("sparse", "the smallest sparse form, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
