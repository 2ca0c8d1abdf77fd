//! The settings of `lowrank.svd`, and the keys of its header.

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
    /// Encodes the singular vectors.
    pub inner: Box<dyn Codec>,
    /// Selects the number of components; one key of the header.
    #[serde(flatten)]
    pub keep: Keep,
    /// How the decomposition is computed.
    pub method: Method,
}

impl Svd {
    /// Keeps components as `keep` says; `inner` encodes their vectors.
    pub fn new(inner: Box<dyn Codec>, keep: Keep) -> Self {
        Self { version: FormatVersion, inner, keep, method: Method::Auto }
    }

    /// Sets the method of the decomposition.
    #[must_use]
    pub fn computed(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
}

/// The rule for the number of components to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// This many components.
    Rank(Bounded<1, { u32::MAX }>),
    /// The fewest components with this share of `Σ w²`.
    Energy(Share),
    /// The fewest components with at most this relative Frobenius error after coding.
    Error(Share),
    /// The most components with sections of at most this many bytes.
    Bytes(NonZeroU64),
}

/// A number above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// `None` unless `share` is above 0 and at most 1.
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

/// The method of the decomposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// [`Self::Randomised`] if the shorter side is above 2048, otherwise [`Self::Exact`].
    #[default]
    Auto,
    /// All components, to the accuracy of f32.
    Exact,
    /// The largest components, from a random block of vectors; exact if the block would be a third
    /// of the shorter side or more.
    Randomised,
}

/// The share of `Σ w²` to keep if a header has no key for it.
const DEFAULT_ENERGY: Share = Share(0.9999);

/// The keys of a header.
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
