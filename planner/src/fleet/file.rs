//! Files of fleets: TOML.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Fleet, Hardware, Placement, Speed, Stated, Variant, unknown};
use crate::class::Classes;
use crate::error::{Error, Result, positive};
use crate::profile::{Lengths, Machine, Profile};
use crate::profiles::Profiles;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profiles: Option<PathBuf>,
    #[serde(default)]
    classes: Classes,
    #[serde(default)]
    hardware: BTreeMap<String, HardwareEntry>,
    #[serde(default)]
    variant: Vec<VariantEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HardwareEntry {
    price_per_hour: f64,
    memory_gb: Option<f64>,
    machine: Option<Machine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantEntry {
    name: String,
    quality: Option<f64>,
    memory_gb: Option<f64>,
    model: Option<String>,
    recipe: Option<String>,
    #[serde(default)]
    on: BTreeMap<String, On>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct On {
    latency_ms: Option<f64>,
    p99_factor: Option<f64>,
    tokens_per_s: Option<f64>,
    prefill_tokens_per_s: Option<f64>,
    decode_tokens_per_s: Option<f64>,
    servers: Option<u32>,
}

/// The p99 of a request as a multiple of its mean time, if nobody states it.
const P99_FACTOR: f64 = 1.5;

impl Fleet {
    /// Reads a fleet, and the file of profiles that it names, relative to its own folder.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Line`] for a file that cannot be read, and as [`Fleet::new`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        Self::from_toml(&path.display().to_string(), &text, path.parent())
    }

    /// A fleet from the text of a file; `folder` is where its profiles are.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_toml(name: &str, text: &str, folder: Option<&Path>) -> Result<Self> {
        let file: File = toml_edit::de::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let (path, reason) = (PathBuf::from(name), error.message().to_owned());
            match line {
                Some(line) => Error::Line { path, line, reason },
                None => Error::File { path, reason },
            }
        })?;
        let profiles = file.profiles.as_ref().map(|path| {
            let path = folder.map_or_else(|| path.clone(), |folder| folder.join(path));
            Profiles::open_existing(&path)
        });
        let profiles = profiles.transpose()?;
        let mut hardware = Vec::new();
        for (entry, HardwareEntry { price_per_hour, memory_gb, machine }) in file.hardware {
            let fail = |reason| Error::entry(name, format!("hardware `{entry}`"), reason);
            let memory = bytes(memory_gb).map_err(fail)?;
            hardware.push(Hardware { name: entry, price_per_hour, memory, machine });
        }
        let mut variants = Vec::new();
        for entry in file.variant {
            let fail = |reason| Error::entry(name, format!("variant `{}`", entry.name), reason);
            variants.push(entry.variant(&hardware, profiles.as_ref()).map_err(fail)?);
        }
        Self::new(name, file.classes, hardware, variants)
    }
}

/// Bytes of a number of gigabytes (10⁹).
fn bytes(gigabytes: Option<f64>) -> Result<Option<u64>, String> {
    gigabytes.map_or(Ok(()), |gigabytes| positive("memory_gb", gigabytes))?;
    Ok(gigabytes.map(|gigabytes| (gigabytes * 1e9).round() as u64))
}

impl VariantEntry {
    fn variant(&self, hardware: &[Hardware], profiles: Option<&Profiles>) -> Result<Variant, String> {
        let placements = self.on.iter().map(|(place, on)| {
            let found = hardware.iter().find(|hardware| hardware.name == *place);
            let names = || hardware.iter().map(|hardware| hardware.name.clone()).collect::<Vec<_>>();
            let hardware = found.ok_or_else(|| unknown(place, &names()))?;
            let speed = on.stated().transpose().unwrap_or_else(|| self.measured(hardware, profiles));
            let speed = speed.map_err(|reason| format!("on `{place}`: {reason}"))?;
            Ok(Placement { servers: on.servers, ..Placement::new(place, speed) })
        });
        Ok(Variant {
            name: self.name.clone(),
            quality: self.quality,
            memory: bytes(self.memory_gb)?,
            placements: placements.collect::<Result<_, String>>()?,
        })
    }

    /// The profile of this model and recipe on this machine: one that has times, if possible also
    /// the quality on a text, and the most requests; the last of equals.
    fn measured(&self, hardware: &Hardware, profiles: Option<&Profiles>) -> Result<Speed, String> {
        let (Some(model), Some(recipe)) = (&self.model, &self.recipe) else {
            let wanted = "`latency_ms` and `tokens_per_s`, or `model` and `recipe` of the variant to find its profile";
            return Err(format!("its speed is not known; it needs {wanted}"));
        };
        let profiles = profiles.ok_or("the key `profiles` of the fleet has to name the file of profiles")?;
        let file = profiles.path().display();
        // A search for a compression also stores profiles of a text alone, and of a few requests.
        let is_timed = |profile: &&Profile| profile.mean_ms(Lengths { prompt: 1, output: 1 }).is_some();
        let of_variant = |Profile { model: name, key, .. }: &&Profile| {
            key.recipe == *recipe && (key.model_hash == *model || name == model)
        };
        let mut found = profiles.all().iter().rev().filter(of_variant).filter(is_timed).peekable();
        let Some(last) = found.peek().copied() else {
            return Err(format!("`{file}` has no profile with times of `{model}` with recipe `{recipe}`"));
        };
        let Some(machine) = &hardware.machine else {
            return Err(format!(
                "its profile was measured on `{}`; `machine` of the hardware has to say so",
                last.key.machine
            ));
        };
        let here = found.filter(|profile| profile.key.machine == *machine);
        // The latest comes first, and the first of equals stays.
        let profile = here.min_by_key(|profile| (profile.top1.is_none(), Reverse(profile.key.settings.runs)));
        let profile = profile.ok_or_else(|| {
            format!("its profile is of another machine, `{}`; this hardware is `{machine}`", last.key.machine)
        })?;
        Ok(Speed::Measured(Box::new(profile.clone())))
    }
}

impl On {
    /// What is stated; `None` if nothing is.
    fn stated(&self) -> Result<Option<Speed>, String> {
        let Self { latency_ms, p99_factor, tokens_per_s, prefill_tokens_per_s, decode_tokens_per_s, .. } = *self;
        if [latency_ms, p99_factor, tokens_per_s, prefill_tokens_per_s, decode_tokens_per_s].iter().all(Option::is_none)
        {
            return Ok(None);
        }
        Ok(Some(Speed::Stated(Stated {
            latency_ms: latency_ms.ok_or("`latency_ms` is missing")?,
            p99_factor: p99_factor.unwrap_or(P99_FACTOR),
            tokens_per_s: tokens_per_s.ok_or("`tokens_per_s` is missing")?,
            prefill_tokens_per_s,
            decode_tokens_per_s,
        })))
    }
}
