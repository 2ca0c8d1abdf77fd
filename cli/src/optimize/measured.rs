//! The candidates, packed and measured.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Error, Result};
use checkpoint::Model;
use codec_api::Registry;
use planner::{Bench, Profile, Profiles, Round, Stage};
use profiler::{Depth, Requests, Subject};

use super::report;
use crate::bench::interrupt;
use crate::console;
use crate::profile::{Variant, place, profile};

/// Packs and measures candidates in a folder, and writes what is decided.
pub struct Measured<'a> {
    pub model: &'a Path,
    pub subject: &'a Subject,
    pub variants: &'a [Variant],
    /// Where packed candidates are.
    pub folder: &'a Path,
    pub profiles: Profiles,
    /// The requests of a first look, and those of the last stage.
    pub quick: Requests,
    pub requests: Requests,
    pub registry: &'a Registry,
    pub begin: Instant,
    pub out: &'a mut dyn std::io::Write,
    /// Seconds that packing and full measurements took, with their numbers.
    pub packing: Spent,
    pub full: Spent,
}

/// The time of some steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// How many there were.
    pub steps: u32,
    /// Their time in seconds.
    pub seconds: f64,
}

impl Spent {
    fn add(&mut self, since: Instant) {
        self.steps += 1;
        self.seconds += since.elapsed().as_secs_f64();
    }

    /// The mean time of a step, if there was one.
    pub fn mean(self) -> Option<f64> {
        (self.steps > 0).then(|| self.seconds / f64::from(self.steps))
    }
}

impl Measured<'_> {
    /// The directory of a candidate; `None` for the dense model.
    pub fn place(&self, candidate: usize) -> Option<PathBuf> {
        let variant = &self.variants[candidate];
        (!variant.is_dense()).then(|| place(self.folder, variant, self.subject.hash()))
    }

    fn try_measure(&mut self, candidate: usize, stage: Stage) -> Result<Profile> {
        interrupt::watch().check()?;
        let (variant, place) = (&self.variants[candidate], self.place(candidate));
        console::line(&format!(
            "optimize: {}, {}",
            variant.name,
            report::stage_in_words(stage, self.subject.windows())
        ));
        if let Some(place) = place.as_ref().filter(|place| !place.exists()) {
            let begin = Instant::now();
            let threads = self.subject.options().threads;
            interrupt::resumable(|| variant.write(self.model, place, threads, self.registry))?;
            self.packing.add(begin);
        }
        let depth = match stage {
            Stage::Estimate | Stage::Size => Depth { windows: Some(0), requests: None },
            Stage::Quick => Depth { windows: Some(0), requests: Some(self.quick.clone()) },
            Stage::Windows(windows) => Depth { windows: Some(windows), requests: None },
            Stage::Full => Depth { windows: None, requests: Some(self.requests.clone()) },
        };
        let recipe = variant.recipe();
        if stage == Stage::Size {
            let key = self.subject.key(&recipe, &depth)?;
            let model = Model::open(place.as_deref().unwrap_or(self.model), &[], self.registry)?;
            return Ok(self.subject.profile(key, &model, None, None)?);
        }
        let (begin, before) = (Instant::now(), self.profiles.all().len());
        let place = || Ok(place.unwrap_or_else(|| self.model.to_owned()));
        let found = profile(self.subject, &recipe, &depth, Some(&mut self.profiles), self.registry, place)?;
        if stage == Stage::Full && self.profiles.all().len() > before {
            self.full.add(begin);
        }
        Ok(found)
    }
}

impl Bench for Measured<'_> {
    type Error = Error;

    fn measure(&mut self, candidate: usize, stage: Stage) -> Result<Result<Profile, String>> {
        match self.try_measure(candidate, stage) {
            Ok(profile) => Ok(Ok(profile)),
            // Ctrl-C, and a file of profiles that cannot be written, end the search.
            Err(error) if interrupt::watch().check().is_err() || error.is::<planner::Error>() => Err(error),
            Err(error) => Ok(Err(format!("{error:#}"))),
        }
    }

    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    fn decided(&mut self, round: &Round) {
        // Without a reader of the output the search goes on.
        drop(report::round(round, self.variants, self.subject.windows(), self.out));
    }
}
