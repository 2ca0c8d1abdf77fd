//! Variants of models, the hardware they run on, and its prices.

mod file;
mod speed;

use std::collections::BTreeSet;

pub use speed::{Speed, Stated};

use crate::class::Classes;
use crate::error::{Error, Result, positive, share};
use crate::profile::Machine;

/// A kind of hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    /// Its name.
    pub name: String,
    /// Dollars per hour.
    pub price_per_hour: f64,
    /// Bytes of memory; without it, every variant fits.
    pub memory: Option<u64>,
    /// The machine as profiles name it; without it, no profile was measured here.
    pub machine: Option<Machine>,
}

/// A variant of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Stated quality, between 0 and 1; without it, that of the profile.
    pub quality: Option<f64>,
    /// Stated bytes of memory that it needs; without it, those of the profile.
    pub memory: Option<u64>,
    /// Where it runs.
    pub placements: Vec<Placement>,
}

/// A variant on a kind of hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The hardware's name.
    pub hardware: String,
    /// How fast it is there.
    pub speed: Speed,
    /// How many machines a simulation has; without it, as many as the traffic needs.
    pub servers: Option<u32>,
    /// The hardware's place in the fleet.
    at: usize,
}

impl Placement {
    /// A variant on the hardware of this name.
    pub fn new(hardware: impl Into<String>, speed: Speed) -> Self {
        Self { hardware: hardware.into(), speed, servers: None, at: 0 }
    }
}

impl Variant {
    /// Its quality between 0 and 1: as stated, or the lower end of the confidence interval of the
    /// top-1 agreement with the dense model. Without both it is 0; [`Fleet::new`] refuses that.
    pub fn quality(&self, placement: &Placement) -> f64 {
        self.quality.or_else(|| placement.speed.profile()?.top1.map(|top1| top1.low.max(0.0))).unwrap_or(0.0)
    }

    /// The bytes of memory that it needs, if they are known.
    pub fn memory(&self, placement: &Placement) -> Option<u64> {
        self.memory.or_else(|| placement.speed.profile()?.memory())
    }
}

/// Variants and hardware, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    name: String,
    classes: Classes,
    hardware: Vec<Hardware>,
    variants: Vec<Variant>,
}

impl Fleet {
    /// A fleet; `name` is for errors.
    ///
    /// # Errors
    /// [`Error::Entry`] for a fleet without variants, unknown hardware, equal names, and values
    /// that cannot be right; it names the entry.
    pub fn new(name: &str, classes: Classes, hardware: Vec<Hardware>, variants: Vec<Variant>) -> Result<Self> {
        let mut fleet = Self { name: name.to_owned(), classes, hardware, variants };
        classes.check().map_err(|reason| Error::entry(name, "`classes`", reason))?;
        fleet.check_names()?;
        for hardware in &fleet.hardware {
            // A machine for nothing has no cost, whatever its speed.
            positive("price_per_hour", hardware.price_per_hour)
                .map_err(|reason| Error::entry(name, format!("hardware `{}`", hardware.name), reason))?;
        }
        let places: Vec<_> = fleet.hardware.iter().map(|hardware| hardware.name.clone()).collect();
        for variant in &mut fleet.variants {
            let entry = format!("variant `{}`", variant.name);
            resolve(variant, &places).map_err(|reason| Error::entry(name, entry, reason))?;
        }
        Ok(fleet)
    }

    fn check_names(&self) -> Result<()> {
        let fail = |entry: &str, reason: &str| Err(Error::entry(&self.name, entry, reason));
        if self.variants.is_empty() {
            return fail("`variant`", "there is none; a fleet needs at least one `[[variant]]`");
        }
        let variants: Vec<_> = self.variants.iter().map(|variant| &variant.name).collect();
        let hardware: Vec<_> = self.hardware.iter().map(|hardware| &hardware.name).collect();
        for (kind, names) in [("variant", variants), ("hardware", hardware)] {
            let mut seen = BTreeSet::new();
            for name in names {
                if name.is_empty() {
                    return fail(&format!("`{kind}`"), "a name is empty");
                }
                if !seen.insert(name) {
                    return fail(&format!("{kind} `{name}`"), "there are two of this name");
                }
            }
        }
        Ok(())
    }

    /// Its name, or its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quality that classes need.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// All variants.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// Every variant on every kind of hardware that it runs on.
    pub fn placements(&self) -> impl Iterator<Item = (&Variant, &Placement)> {
        self.variants.iter().flat_map(|variant| variant.placements.iter().map(move |placement| (variant, placement)))
    }

    /// The hardware of a placement of this fleet.
    pub(crate) fn hardware(&self, placement: &Placement) -> &Hardware {
        &self.hardware[placement.at]
    }

    /// The fleet with only its best variant: what answers everything if nobody chooses. Of equal
    /// ones, the last by name.
    #[must_use]
    pub fn largest(&self) -> Self {
        let quality = |variant: &Variant| {
            let all = variant.placements.iter().map(|placement| variant.quality(placement));
            all.fold(0.0, f64::max)
        };
        let order = |a: &&Variant, b: &&Variant| quality(a).total_cmp(&quality(b)).then_with(|| a.name.cmp(&b.name));
        let variants = self.variants.iter().max_by(order).cloned().into_iter().collect();
        Self { name: self.name.clone(), classes: self.classes, hardware: self.hardware.clone(), variants }
    }
}

/// Checks a variant, and finds its hardware.
fn resolve(variant: &mut Variant, hardware: &[String]) -> Result<(), String> {
    variant.quality.map_or(Ok(()), |quality| share("quality", quality))?;
    if variant.placements.is_empty() {
        return Err("it runs nowhere; `[variant.on.HARDWARE]` says where".to_owned());
    }
    let mut seen = BTreeSet::new();
    for placement in &mut variant.placements {
        let name = &placement.hardware;
        placement.at = hardware.iter().position(|known| known == name).ok_or_else(|| unknown(name, hardware))?;
        if !seen.insert(placement.at) {
            return Err(format!("it is on `{name}` twice"));
        }
        if placement.servers == Some(0) {
            return Err(format!("on `{name}`: `servers` is 0; it has to be at least 1"));
        }
        placement.speed.check().map_err(|reason| format!("on `{name}`: {reason}"))?;
        if variant.quality.is_none() && placement.speed.profile().is_none_or(|profile| profile.top1.is_none()) {
            return Err(format!("on `{name}`: its quality is not known; `quality` states it, between 0 and 1"));
        }
    }
    Ok(())
}

fn unknown(name: &str, hardware: &[String]) -> String {
    let known: Vec<_> = hardware.iter().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "no hardware".to_owned() } else { known.join(", ") };
    format!("unknown hardware `{name}`; the fleet has {known}")
}
