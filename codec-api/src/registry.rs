//! Which codecs this program has. `inventory` discovers them; everything else takes a [`Registry`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::Codec;
use crate::tensor::Dtype;

/// A named configuration that `list` shows and every matrix and law covers.
#[derive(Debug)]
pub struct Preset {
    /// Unique within the codec.
    pub name: &'static str,
    /// The configuration.
    pub codec: Box<dyn Codec>,
}

impl Preset {
    /// Names a configuration.
    pub fn new(name: &'static str, codec: impl Codec + 'static) -> Self {
        Self { name, codec: Box::new(codec) }
    }

    /// Names the configuration of this JSON header, for combinators whose children live in crates that theirs does not know. `None`
    /// if a codec in it is not linked into this program, or the header is wrong: tests of the crate count its presets.
    pub fn from_header(name: &'static str, json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().map(|codec| Self { name, codec })
    }
}

/// What a codec crate registers, once per codec: plain data and `fn` pointers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CodecEntry {
    /// The codec's id, its typetag name: `family.method`.
    pub id: &'static str,
    /// One line for `netweight list`.
    pub summary: &'static str,
    /// Name and version of the crate that registers it.
    pub origin: (&'static str, &'static str),
    /// Whether the format may still change and the codec may certify no bound.
    pub experimental: bool,
    /// Whether the certified bound follows from the format, not from decoding what was encoded. The laws allow it to be up
    /// to four times the real error, instead of 1.01 times.
    pub analytic_bound: bool,
    /// The dtypes of an exact codec whose format is made for these alone; empty if it takes every dtype, as the laws else want.
    pub only: &'static [Dtype],
    /// Configuration fields that hold child codecs, in the order of the spec grammar's parentheses.
    pub children: &'static [&'static str],
    /// Specs of the children when the parentheses are left out; empty if they must be there.
    pub default_children: &'static [&'static str],
    /// The configurations to show, test and measure; at least one, unless all have children that are not linked.
    pub presets: fn() -> Vec<Preset>,
    /// Specs of the configurations that the laws check, if they are not the presets: extremes of
    /// every key, one for each way through a kernel. The laws check the presets too when they are
    /// asked for everything. Children must be linked into the tests of the crate.
    pub probes: Option<fn() -> Vec<String>>,
}

impl CodecEntry {
    /// An entry without children that is not experimental and measures its bound. [`crate::register_codec!`] fills in the origin.
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
            analytic_bound: false,
            only: &[],
            children: &[],
            default_children: &[],
            presets,
            probes: None,
        }
    }

    /// Leaves the format open, and lets the codec certify no bound.
    #[must_use]
    pub const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }

    /// States that the certified bound follows from the format, not from decoding, and may so be less tight.
    #[must_use]
    pub const fn analytic_bound(mut self) -> Self {
        self.analytic_bound = true;
        self
    }

    /// States that an exact codec's format is made for these dtypes alone; it refuses all others as unsupported.
    #[must_use]
    pub const fn only(mut self, dtypes: &'static [Dtype]) -> Self {
        self.only = dtypes;
        self
    }

    /// Names the configurations that the laws check instead of the presets, as specs.
    #[must_use]
    pub const fn probes(mut self, specs: fn() -> Vec<String>) -> Self {
        self.probes = Some(specs);
        self
    }

    /// Names the configuration fields that hold child codecs.
    #[must_use]
    pub const fn children(mut self, fields: &'static [&'static str]) -> Self {
        self.children = fields;
        self
    }

    /// Gives the specs of the children when the parentheses are left out, one for each of [`Self::children`].
    #[must_use]
    pub const fn default_children(mut self, specs: &'static [&'static str]) -> Self {
        self.default_children = specs;
        self
    }
}

inventory::collect!(CodecEntry);

/// Registers a codec with every program that links this crate:
/// `register_codec!("quant.int", "uniform integer quantisation", presets)`, then options as method calls:
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
    /// Two entries have one id.
    #[error("codec id `{id}` is registered twice: by {} {} and by {} {}", .first.0, .first.1, .second.0, .second.1)]
    DuplicateId {
        /// The id.
        id: &'static str,
        /// Crate name and version of one entry.
        first: (&'static str, &'static str),
        /// Crate name and version of the other.
        second: (&'static str, &'static str),
    },
    /// A preset's typetag name is not the entry's id.
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
    /// A codec has no preset, or two of one name.
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

/// The codecs to work with, by id.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: BTreeMap<&'static str, CodecEntry>,
}

impl Registry {
    /// All codecs linked into this program.
    ///
    /// # Errors
    /// [`RegistryError`], also when there is none.
    pub fn linked() -> Result<Self, RegistryError> {
        Self::from_entries(inventory::iter::<CodecEntry>.into_iter().copied())
    }

    /// A registry of these entries.
    ///
    /// # Errors
    /// [`RegistryError`], also when there is none.
    pub fn from_entries(all: impl IntoIterator<Item = CodecEntry>) -> Result<Self, RegistryError> {
        let mut entries: BTreeMap<&'static str, CodecEntry> = BTreeMap::new();
        for entry in all {
            if let Some(first) = entries.insert(entry.id, entry) {
                // In a fixed order: discovery has none.
                let (first, second) = (first.origin.min(entry.origin), first.origin.max(entry.origin));
                return Err(RegistryError::DuplicateId { id: entry.id, first, second });
            }
            check_presets(&entry)?;
        }
        if entries.is_empty() {
            return Err(RegistryError::Empty);
        }
        Ok(Self { entries })
    }

    /// The entry of this id.
    pub fn get(&self, id: &str) -> Option<&CodecEntry> {
        self.entries.get(id)
    }

    /// All entries, sorted by id.
    pub fn entries(&self) -> impl Iterator<Item = &CodecEntry> {
        self.entries.values()
    }

    /// All presets of all codecs, sorted by id, presets in their crate's order.
    pub fn presets(&self) -> impl Iterator<Item = (&CodecEntry, &'static str, Arc<dyn Codec>)> {
        self.entries().flat_map(|entry| (entry.presets)().into_iter().map(move |p| (entry, p.name, Arc::from(p.codec))))
    }

    /// All ids, for messages.
    pub(crate) fn ids(&self) -> String {
        self.entries.keys().copied().collect::<Vec<_>>().join(", ")
    }
}

fn check_presets(entry: &CodecEntry) -> Result<(), RegistryError> {
    let wrong = |reason: String| RegistryError::Presets { id: entry.id, origin: entry.origin, reason };
    let presets = (entry.presets)();
    if presets.is_empty() && entry.children.is_empty() {
        return Err(wrong("it has no preset, so nothing would test or show it".to_owned()));
    }
    for (i, preset) in presets.iter().enumerate() {
        let tag = preset.codec.typetag_name();
        if tag != entry.id {
            return Err(RegistryError::WrongTag { id: entry.id, origin: entry.origin, preset: preset.name, tag });
        }
        if presets[..i].iter().any(|other| other.name == preset.name) {
            return Err(wrong(format!("two presets are named `{}`", preset.name)));
        }
    }
    Ok(())
}
