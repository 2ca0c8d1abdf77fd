//! The codecs that are linked into the program. `inventory` only discovers them; every other
//! function gets a [`Registry`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::Codec;
use crate::error::SpecError;
use crate::tensor::Dtype;
use crate::version::{Upgrade, VERSION};

/// A named configuration of a codec. The command `list` shows it; every matrix and every law covers
/// it.
#[derive(Debug)]
pub struct Preset {
    name: &'static str,
    config: Config,
}

#[derive(Debug)]
enum Config {
    Codec(Box<dyn Codec>),
    Spec(&'static str),
}

impl Preset {
    /// A preset of this name and configuration.
    pub fn new(name: &'static str, codec: impl Codec + 'static) -> Self {
        Self { name, config: Config::Codec(Box::new(codec)) }
    }

    /// A preset from a spec text, for combinators whose children live in crates that the
    /// combinator's crate does not depend on. A program that does not link all of these crates does
    /// not have the preset.
    pub fn from_spec(name: &'static str, spec: &'static str) -> Self {
        Self { name, config: Config::Spec(spec) }
    }
}

/// The registration of one codec: plain data and `fn` pointers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CodecEntry {
    /// The id of the codec: its typetag name, `family.method`.
    pub id: &'static str,
    /// One line of description for `netweight list`.
    pub summary: &'static str,
    /// Name and version of the crate that registers the codec.
    pub origin: (&'static str, &'static str),
    /// Whether the format may still change.
    pub experimental: bool,
    /// The only dtypes that an exact codec accepts; empty if it accepts every dtype, as exact
    /// codecs otherwise must. Example: `lossless.bf16x12` is a form of BF16; a silent fallback for
    /// other dtypes would promise a fixed length and independent rows without having them. Law 1
    /// requires that all other dtypes are refused.
    pub only: &'static [Dtype],
    /// Configuration fields that hold child codecs, in the order of the parentheses in a spec text.
    pub children: &'static [&'static str],
    /// Spec texts of the children if a spec has no parentheses; empty if the parentheses are
    /// required.
    pub default_children: &'static [&'static str],
    /// How headers of older versions are read: the first entry makes version 2 of a header of
    /// version 1, and so on. The codec itself knows only its newest version, which is one more than
    /// the number of entries. See [`Self::upgrades`].
    pub upgrades: &'static [Upgrade],
    /// The presets to show, test and measure: at least one, unless each has a child that is not
    /// linked. [`Registry::presets_of`] makes them.
    pub presets: fn() -> Vec<Preset>,
    /// Specs of configurations that the laws check beside the presets: the extremes of every key,
    /// and one for each way through a kernel. Their children must be linked into the crate's tests.
    pub probes: fn() -> Vec<String>,
    /// Whether the laws check the presets only when they are asked for everything, since the
    /// presets are slow and the probes stand for them.
    pub slow_presets: bool,
}

impl CodecEntry {
    /// An entry of a codec in its first version, without children, not experimental.
    /// [`crate::register_codec!`] fills in the origin.
    pub const fn new(
        id: &'static str,
        summary: &'static str,
        origin: (&'static str, &'static str),
        presets: fn() -> Vec<Preset>,
    ) -> Self {
        Self {
            id,
            summary,
            origin,
            experimental: false,
            only: &[],
            children: &[],
            default_children: &[],
            upgrades: &[],
            presets,
            probes: Vec::new,
            slow_presets: false,
        }
    }

    /// Marks the format as open to change.
    #[must_use]
    pub const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }

    /// States that an exact codec is made for these dtypes only; it refuses all others as
    /// unsupported.
    #[must_use]
    pub const fn only(mut self, dtypes: &'static [Dtype]) -> Self {
        self.only = dtypes;
        self
    }

    /// Lets the codec read headers of older versions, with one step per version. The payload of an
    /// older version stays as it was written, so an upgrade must add a key that states the layout
    /// of its sections.
    #[must_use]
    pub const fn upgrades(mut self, upgrades: &'static [Upgrade]) -> Self {
        self.upgrades = upgrades;
        self
    }

    /// Sets the configurations that the laws check beside the presets, as specs.
    #[must_use]
    pub const fn probes(mut self, specs: fn() -> Vec<String>) -> Self {
        self.probes = specs;
        self
    }

    /// Leaves the presets to the long run of the laws.
    #[must_use]
    pub const fn slow_presets(mut self) -> Self {
        self.slow_presets = true;
        self
    }

    /// Names the configuration fields that hold child codecs.
    #[must_use]
    pub const fn children(mut self, fields: &'static [&'static str]) -> Self {
        self.children = fields;
        self
    }

    /// Sets the spec texts of the children if a spec has no parentheses, one for each of
    /// [`Self::children`].
    #[must_use]
    pub const fn default_children(mut self, specs: &'static [&'static str]) -> Self {
        self.default_children = specs;
        self
    }
}

inventory::collect!(CodecEntry);

/// Registers a codec with every program that links this crate: `register_codec!("quant.int",
/// "uniform integer quantisation", presets)`. Options of [`CodecEntry`] follow as method calls:
/// `register_codec!("x.y", "…", presets, .experimental())`.
#[macro_export]
macro_rules! register_codec {
    ($id:literal, $summary:literal, $presets:expr $(, $($option:tt)+)?) => {
        $crate::inventory::submit! {
            $crate::CodecEntry::new($id, $summary, (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")), $presets) $($($option)+)?
        }
    };
}

/// Why the registered codecs cannot be used together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No codec is linked.
    #[error(
        "no codec is linked into this program; rustc drops a crate that nothing names, so name it: `use codecs as _;` (or `use codec_quant as _;` …) in the program's main file"
    )]
    Empty,
    /// Two entries have the same id.
    #[error("codec id `{id}` is registered twice: by {} {} and by {} {}", .first.0, .first.1, .second.0, .second.1)]
    DuplicateId {
        /// The id.
        id: &'static str,
        /// Crate name and version of one entry.
        first: (&'static str, &'static str),
        /// Crate name and version of the other.
        second: (&'static str, &'static str),
    },
    /// The typetag name of a preset differs from the id of its entry.
    #[error("codec `{id}` of {}: preset `{preset}` serialises as `{tag}`; `#[typetag::serde(name = …)]` and `register_codec!` must name the same id", .origin.0)]
    WrongTag {
        /// The entry's id.
        id: &'static str,
        /// Crate name and version.
        origin: (&'static str, &'static str),
        /// The preset.
        preset: &'static str,
        /// Its typetag name.
        tag: &'static str,
    },
    /// A codec has no preset, or two presets of the same name.
    #[error("codec `{id}` of {}: {reason}", .origin.0)]
    Presets {
        /// The entry's id.
        id: &'static str,
        /// Crate name and version.
        origin: (&'static str, &'static str),
        /// What is wrong.
        reason: String,
    },
}

/// A preset's name and codec.
type NamedCodec = (&'static str, Arc<dyn Codec>);

/// A set of codecs with unique ids, never empty.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: BTreeMap<&'static str, CodecEntry>,
    presets: BTreeMap<&'static str, Vec<NamedCodec>>,
}

impl Registry {
    /// All codecs linked into this program.
    ///
    /// # Errors
    /// [`RegistryError`] if there is no codec, two have the same id, or the presets of one are
    /// invalid.
    pub fn linked() -> Result<Self, RegistryError> {
        Self::from_entries(inventory::iter::<CodecEntry>.into_iter().copied())
    }

    /// A registry of these entries.
    ///
    /// # Errors
    /// [`RegistryError`] if there is no codec, two have the same id, or the presets of one are
    /// invalid.
    pub fn from_entries(all: impl IntoIterator<Item = CodecEntry>) -> Result<Self, RegistryError> {
        let mut entries: BTreeMap<&'static str, CodecEntry> = BTreeMap::new();
        for entry in all {
            if let Some(first) = entries.insert(entry.id, entry) {
                // Sorted, because `inventory` discovers entries in any order.
                let (first, second) = (first.origin.min(entry.origin), first.origin.max(entry.origin));
                return Err(RegistryError::DuplicateId { id: entry.id, first, second });
            }
        }
        if entries.is_empty() {
            return Err(RegistryError::Empty);
        }
        let mut registry = Self { entries, presets: BTreeMap::new() };
        let presets = registry.entries().map(|entry| Ok((entry.id, registry.make_presets(entry)?)));
        registry.presets = presets.collect::<Result<_, RegistryError>>()?;
        Ok(registry)
    }

    /// The entry of this id.
    pub fn get(&self, id: &str) -> Option<&CodecEntry> {
        self.entries.get(id)
    }

    /// All entries, sorted by id.
    pub fn entries(&self) -> impl Iterator<Item = &CodecEntry> {
        self.entries.values()
    }

    /// The presets of the codec of this id, in the order of its crate.
    pub fn presets_of(&self, id: &str) -> &[(&'static str, Arc<dyn Codec>)] {
        self.presets.get(id).map_or(&[], Vec::as_slice)
    }

    /// All presets of all codecs, sorted by codec id; within a codec in the order of its crate.
    pub fn presets(&self) -> impl Iterator<Item = (&CodecEntry, &'static str, Arc<dyn Codec>)> {
        let of = |entry: &CodecEntry| self.presets_of(entry.id).iter();
        self.entries().flat_map(move |entry| of(entry).map(move |(name, codec)| (entry, *name, Arc::clone(codec))))
    }

    /// All ids as one text, for error messages.
    pub(crate) fn ids(&self) -> String {
        self.entries.keys().copied().collect::<Vec<_>>().join(", ")
    }

    /// The presets of an entry, without those whose child codecs are not in this registry.
    fn make_presets(&self, entry: &CodecEntry) -> Result<Vec<NamedCodec>, RegistryError> {
        let wrong = |reason: String| RegistryError::Presets { id: entry.id, origin: entry.origin, reason };
        let mut presets: Vec<NamedCodec> = Vec::new();
        for Preset { name, config } in (entry.presets)() {
            let codec = match config {
                Config::Codec(codec) => codec.into(),
                Config::Spec(spec) => match self.parse_spec(spec) {
                    Ok(codec) => codec,
                    Err(SpecError::UnknownCodec { .. }) => continue,
                    Err(e) => return Err(wrong(format!("preset `{name}`: {e}"))),
                },
            };
            check_preset(entry, name, &*codec)?;
            if presets.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!("two presets are named `{name}`")));
            }
            presets.push((name, codec));
        }
        if presets.is_empty() && entry.children.is_empty() {
            return Err(wrong("it has no preset, so nothing would test or show it".to_owned()));
        }
        Ok(presets)
    }
}

/// Checks that a preset has the id and the version of its entry.
fn check_preset(entry: &CodecEntry, preset: &'static str, codec: &dyn Codec) -> Result<(), RegistryError> {
    let tag = codec.typetag_name();
    if tag != entry.id {
        return Err(RegistryError::WrongTag { id: entry.id, origin: entry.origin, preset, tag });
    }
    let newest = entry.upgrades.len() + 1;
    let version = serde_json::to_value(codec).map(|header| header[VERSION].clone()).unwrap_or_default();
    if version == newest {
        return Ok(());
    }
    let reason = format!(
        "preset `{preset}` has version {version}, but the codec registers {} upgrades: its `version` must be a `FormatVersion<{newest}>`",
        entry.upgrades.len()
    );
    Err(RegistryError::Presets { id: entry.id, origin: entry.origin, reason })
}
