//! Field types for codec configurations that check values during deserialisation.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// The `version` field of a codec configuration: always `N`; deserialising any other number is an
/// error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatVersion<const N: u32>;

impl<const N: u32> Serialize for FormatVersion<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for FormatVersion<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            v if v == N => Ok(Self),
            v if v > N => Err(de::Error::custom(format!(
                "format version {v} is newer than {N}, the newest this program reads; update netweight"
            ))),
            v => Err(de::Error::custom(format!("format version {v} is not supported; this program reads version {N}"))),
        }
    }
}

/// An integer from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// `None` if `value` is outside `MIN..=MAX`.
    pub const fn new(value: u32) -> Option<Self> {
        if MIN <= value && value <= MAX { Some(Self(value)) } else { None }
    }

    /// A constant; the range is checked at compile time.
    pub const fn at<const VALUE: u32>() -> Self {
        const { assert!(MIN <= VALUE && VALUE <= MAX, "out of range") };
        Self(VALUE)
    }

    /// The integer.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Bounded<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(InRange::<MIN, MAX>)
    }
}

struct InRange<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> de::Visitor<'_> for InRange<MIN, MAX> {
    type Value = Bounded<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from {MIN} to {MAX}")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        in_range(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        in_range(value)
    }
}

fn in_range<const MIN: u32, const MAX: u32, V, E>(value: V) -> Result<Bounded<MIN, MAX>, E>
where
    V: TryInto<u32> + fmt::Display + Copy,
    E: de::Error,
{
    let bounded = value.try_into().ok().and_then(Bounded::new);
    bounded.ok_or_else(|| E::custom(format!("{value} is out of range: an integer from {MIN} to {MAX} is wanted")))
}
