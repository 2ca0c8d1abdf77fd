//! The settings of `lowrank.svd`, and what a header may say.

use std::num::NonZeroU64;

use codec_api::{Bounded, Codec, FormatVersion};
use serde::{Deserialize, Serialize};

/// Configuration of `lowrank.svd`; see the [crate's documentation](crate) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Keys")]
#[non_exhaustive]
pub struct Svd {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Codes the singular vectors.
    pub inner: Box<dyn Codec>,
    /// How many components are kept: one key of the header.
    #[serde(flatten)]
    pub keep: Keep,
    /// How the decomposition is computed.
    pub method: Method,
}

impl Svd {
    /// Keeps this many components, whose vectors `inner` codes.
    pub fn new(inner: Box<dyn Codec>, keep: Keep) -> Self {
        Self { version: FormatVersion, inner, keep, method: Method::Auto }
    }

    /// With a choice how the decomposition is computed.
    #[must_use]
    pub fn computed(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
}

/// How many components of the decomposition are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// So many.
    Rank(Bounded<1, { u32::MAX }>),
    /// The fewest that hold this share of `Σ w²`.
    Energy(Share),
    /// The fewest whose coded form has at most this relative Frobenius error.
    Error(Share),
    /// The most whose sections take at most so many bytes.
    Bytes(NonZeroU64),
}

/// A number above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// `None` if it is not above 0 and at most 1.
    pub const fn new(share: f64) -> Option<Self> {
        if 0.0 < share && share <= 1.0 { Some(Self(share)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        Self::new(share).ok_or_else(|| format!("{share} is out of range: a number above 0 and at most 1 is wanted"))
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

/// How the decomposition is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// [`Self::Randomised`] where the shorter side is above 2048, else [`Self::Exact`].
    #[default]
    Auto,
    /// All components, to the accuracy of f32.
    Exact,
    /// The largest components by way of a random block of vectors; exactly where the block would be a third of the
    /// shorter side or more.
    Randomised,
}

/// The share of `Σ w²` that is kept if a header says nothing.
const DEFAULT_ENERGY: Share = Share(0.9999);

/// What a header may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    version: FormatVersion<1>,
    inner: Box<dyn Codec>,
    rank: Option<Bounded<1, { u32::MAX }>>,
    energy: Option<Share>,
    error: Option<Share>,
    bytes: Option<NonZeroU64>,
    #[serde(default)]
    method: Method,
}

impl TryFrom<Keys> for Svd {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let given = [
            ("rank", keys.rank.map(Keep::Rank)),
            ("energy", keys.energy.map(Keep::Energy)),
            ("error", keys.error.map(Keep::Error)),
            ("bytes", keys.bytes.map(Keep::Bytes)),
        ];
        let mut given = given.into_iter().filter_map(|(key, keep)| Some((key, keep?)));
        let keep = match (given.next(), given.next()) {
            (None, _) => Keep::Energy(DEFAULT_ENERGY),
            (Some((_, keep)), None) => keep,
            (Some((one, _)), Some((other, _))) => {
                return Err(format!(
                    "`{one}` and `{other}` are both given: at most one of `rank`, `energy`, `error`, `bytes` is wanted"
                ));
            }
        };
        Ok(Self { version: keys.version, inner: keys.inner, keep, method: keys.method })
    }
}
