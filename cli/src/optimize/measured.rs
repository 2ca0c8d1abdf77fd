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

    fn files(&self, candidate: usize) -> PathBuf {
        self.place(candidate).unwrap_or_else(|| self.model.to_owned())
    }

    /// Packs a candidate, unless it is, and measures it.
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
        self.measure_packed(candidate, stage)
    }

    fn measure_packed(&mut self, candidate: usize, stage: Stage) -> Result<Profile> {
        let requests = self.requests.clone();
        match stage {
            Stage::Estimate | Stage::Size => {
                let depth = Depth { windows: Some(0), requests: None };
                let key = self.subject.key(&self.variants[candidate].recipe(), &depth)?;
                let model = Model::open(self.files(candidate), &[], self.registry)?;
                Ok(self.subject.profile(key, &model, None, None)?)
            }
            Stage::Quick => self.profile(candidate, &Depth { windows: Some(0), requests: Some(self.quick.clone()) }),
            Stage::Windows(windows) => self.profile(candidate, &Depth { windows: Some(windows), requests: None }),
            Stage::Full => {
                let (begin, before) = (Instant::now(), self.profiles.all().len());
                let found = self.profile(candidate, &Depth { windows: None, requests: Some(requests) })?;
                if self.profiles.all().len() > before {
                    self.full.add(begin);
                }
                Ok(found)
            }
            Stage::Requests => {
                let full = self.measure_packed(candidate, Stage::Full)?;
                let runs = full.deciding_requests();
                if runs == full.key.settings.runs {
                    return Ok(full);
                }
                let more = Requests { runs, ..requests };
                let timed = self.profile(candidate, &Depth { windows: Some(0), requests: Some(more) })?;
                Ok(full.with_requests_of(&timed))
            }
        }
    }

    fn profile(&mut self, candidate: usize, depth: &Depth) -> Result<Profile> {
        let (recipe, files) = (self.variants[candidate].recipe(), self.files(candidate));
        profile(self.subject, &recipe, depth, Some(&mut self.profiles), self.registry, || Ok(files))
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
