//! Codecs with a faulty configuration; their payloads are correct.

use codec_api::{
    Bounded, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, Upgrade, typetag,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Implements `Codec` for a configuration: every weight becomes the mean of its group.
macro_rules! means {
    ($codec:ident, $id:literal, $presets:ident, |$self:ident| $group:expr) => {
        impl $codec {
            fn group(&$self) -> usize {
                $group
            }
        }

        #[typetag::serde(name = $id)]
        impl Codec for $codec {
            fn accepts(&self, spec: &TensorSpec) -> Result<()> {
                spec.require_float()
            }

            fn cost(&self, spec: &TensorSpec) -> CostEstimate {
                CostEstimate::fixed(4 * spec.elements().div_ceil(self.group()) as u64).scratch(12 * spec.elements() as u64)
            }

            fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
                cx.cancel.check()?;
                let values = tensor.to_finite_f32()?;
                let mean = |group: &[f32]| (group.iter().map(|v| f64::from(*v)).sum::<f64>() / group.len() as f64) as f32;
                let means: Vec<f32> = values.chunks(self.group()).map(mean).collect();
                cx.progress.tick(values.len() as u64);
                Payload::new().with("means", Section::from_values(Dtype::F32, [means.len()], means)?)
            }

            fn decode(&self, _: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
                let groups = out.len().div_ceil(self.group());
                let means = payload.values::<f32>("means", Dtype::F32, &[groups])?;
                out.iter_mut().enumerate().for_each(|(i, w)| *w = means[i / self.group()]);
                Ok(())
            }
        }

        pub fn $presets() -> Vec<Preset> {
            vec![Preset::new("default", $codec::default())]
        }
    };
}

/// Accepts unknown fields.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TakesUnknown {
    version: FormatVersion<1>,
}
means!(TakesUnknown, "broken.unknown", takes_unknown, |self| 4);

/// Accepts every version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TakesVersions {
    version: u32,
}
impl Default for TakesVersions {
    fn default() -> Self {
        Self { version: 1 }
    }
}
means!(TakesVersions, "broken.versions", takes_versions, |self| 4);

/// Silently clamps the group to its own range.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clamps {
    version: FormatVersion<1>,
    #[serde(deserialize_with = "clamped")]
    group: usize,
}
impl Default for Clamps {
    fn default() -> Self {
        Self { version: FormatVersion, group: 4 }
    }
}
fn clamped<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<usize, D::Error> {
    Ok(usize::deserialize(deserializer)?.clamp(1, 64))
}
means!(Clamps, "broken.clamps", clamps, |self| self.group);

/// Accepts a group of 0 and then divides by it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Divides {
    version: FormatVersion<1>,
    group: usize,
}
impl Default for Divides {
    fn default() -> Self {
        Self { version: FormatVersion, group: 4 }
    }
}
means!(Divides, "broken.divides", divides, |self| self.group);

/// Does not serialise one of its fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forgets {
    version: FormatVersion<1>,
    #[serde(skip_serializing_if = "is_eight")]
    group: usize,
}
impl Default for Forgets {
    fn default() -> Self {
        Self { version: FormatVersion, group: 4 }
    }
}
impl Forgets {
    pub fn eight() -> Self {
        Self { group: 8, ..Self::default() }
    }
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_eight(group: &usize) -> bool {
    *group == 8
}
means!(Forgets, "broken.forgets", forgets, |self| self.group);

/// Serialises a different group: every round trip adds one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drifts {
    version: FormatVersion<1>,
    #[serde(serialize_with = "one_more")]
    group: usize,
}
impl Default for Drifts {
    fn default() -> Self {
        Self { version: FormatVersion, group: 4 }
    }
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn one_more<S: Serializer>(group: &usize, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(*group as u64 + 1)
}
means!(Drifts, "broken.drifts", drifts, |self| self.group);

/// Refuses an invalid combination of group and size without naming the fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Mumbles {
    version: FormatVersion<1>,
    group: usize,
    size: usize,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    version: FormatVersion<1>,
    group: serde_json::Value,
    size: serde_json::Value,
}
impl TryFrom<Unchecked> for Mumbles {
    type Error = &'static str;

    fn try_from(read: Unchecked) -> std::result::Result<Self, Self::Error> {
        let right = read.group == 4 && read.size == 4;
        if right { Ok(Self { version: read.version, ..Self::default() }) } else { Err("it does not fit") }
    }
}
impl Default for Mumbles {
    fn default() -> Self {
        Self { version: FormatVersion, group: 4, size: 4 }
    }
}
means!(Mumbles, "broken.mumbles", mumbles, |self| self.group);

/// Has a second version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Second {
    version: FormatVersion<2>,
    group: Bounded<1, 64>,
}
impl Default for Second {
    fn default() -> Self {
        Self { version: FormatVersion, group: Bounded::at::<4>() }
    }
}
means!(Second, "broken.second", second, |self| self.group.get() as usize);

/// An upgrade that adds the key of version 2.
pub const SOUND: Upgrade = Upgrade::new(r#"{"codec":"broken.second","version":1}"#, |header| {
    header.insert("group".to_owned(), 4.into());
    Ok(())
});
/// One that forgets it, so that a header of version 1 gets whatever the default is.
pub const FORGETS_KEY: Upgrade = Upgrade::new(SOUND.example, |_| Ok(()));
/// One whose example is of another version.
pub const NO_EXAMPLE: Upgrade = Upgrade::new(r#"{"codec":"broken.second","version":2,"group":4}"#, SOUND.apply);
