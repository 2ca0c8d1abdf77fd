//! One of some codecs for each matrix, which together meet a size.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use calibrate::{Calibrated, Fit, Fitted, Offer, allocate, damping};
use checkpoint::{Plan, Rule};
use codec_api::Codec;

use super::{Goal, Job, Ready, fixed, pattern, payloads};
use crate::bench::specs::split;
use crate::console;

/// Most times that the model is packed until the choice suits the size.
const ROUNDS: usize = 4;

/// Packs the model with the codecs of a list, of which each matrix has the one that suits it.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, goal: Goal, list: &str, out: &mut dyn Write) -> Result<()> {
    let allocation = Allocation::new(job, fit, goal, list)?;
    let (mut others, mut damping) = (job.others(fit)?, job.args.calibration.damping);
    let mut chosen = allocation.choose(others)?;
    for round in 1.. {
        let (plan, fitted, size) = allocation.pack(&chosen, damping)?;
        let known = size as f64 - fitted.compressed.bytes() as f64;
        // The manifest of one choice may be longer than that of another one.
        others = if round == 1 { known } else { f64::max(others, known) };
        let next = allocation.choose(others)?;
        let fits = size as f64 <= allocation.wanted;
        if fits && (next == chosen || round == ROUNDS) {
            if !job.args.work.quiet {
                let loss: f64 = chosen.iter().map(|offer| offer.loss).sum();
                console::line(&format!("the choice is expected to raise the loss by {loss:.3e} nats per token"));
            }
            return job.summary(&plan, Some(&fitted), size, out);
        }
        if round == ROUNDS {
            bail!("the file has {size} bytes instead of {:.0}; give a smaller target", allocation.wanted);
        }
        (chosen, damping) = (next, Some(fitted.damping));
    }
    Ok(())
}

/// Codecs, and what each of them would take and cost for each tensor.
struct Allocation<'a> {
    job: &'a Job<'a>,
    fit: &'a Fit<'a>,
    specs: Vec<String>,
    codecs: Vec<Arc<dyn Codec>>,
    offers: Vec<Vec<Offer>>,
    /// Bytes of the file.
    wanted: f64,
}

impl<'a> Allocation<'a> {
    fn new(job: &'a Job<'a>, fit: &'a Fit<'a>, goal: Goal, list: &str) -> Result<Self> {
        let specs = split(list);
        let parse = |spec: &String| job.registry.parse_spec(spec).with_context(|| format!("--candidates {spec}"));
        let codecs = specs.iter().map(parse).collect::<Result<Vec<_>>>()?;
        let weights = job.model.weights() as f64;
        let wanted = match goal {
            Goal::Bits(bits) => bits * weights / 8.0,
            Goal::Bytes(bytes) => bytes,
            Goal::Divergence(_) => bail!("--candidates needs --target-bpw or --target-size"),
        };
        let plan = job.pool.install(|| job.plan(&job.recipe_of(Vec::new())?))?;
        job.check_target(&plan)?;
        let damping = job.args.calibration.damping.unwrap_or_else(|| damping(8.0 * wanted / weights));
        let offers = job.pool.install(|| fit.offers(&Calibrated::new(&job.statistics, damping)?, &codecs))?;
        Ok(Self { job, fit, specs, codecs, offers, wanted })
    }

    /// The best offers if everything but the payloads takes so many bytes.
    fn choose(&self, others: f64) -> Result<Vec<Offer>> {
        allocate(&self.offers, payloads(self.wanted, others)? as u64).with_context(|| {
            let smallest = self.offers.iter().filter_map(|offers| offers.iter().map(|offer| offer.bytes).min());
            let least = others + smallest.sum::<u64>() as f64;
            format!("{:.0} bytes are too few: the smallest of the candidates make a file of {least:.0}", self.wanted)
        })
    }

    /// Packs the model with the chosen codecs.
    fn pack(&self, chosen: &[Offer], damping: Option<f64>) -> Result<(Plan, Fitted, u64)> {
        let Self { job, fit, specs, codecs, .. } = self;
        let mut names: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (name, offer) in fit.names.iter().zip(chosen) {
            names.entry(offer.codec).or_default().push(name);
        }
        let rule =
            |(codec, names): (&usize, &Vec<&str>)| Ok(Rule::of_names(&pattern(names, &job.model)?, &specs[*codec]));
        let mut recipe = job.recipe_of(names.iter().map(rule).collect::<Result<_>>()?)?;
        let of_names = fit.names.iter().zip(chosen).map(|(name, offer)| (*name, Arc::clone(&codecs[offer.codec])));
        let fitted = fixed::fit(job, fit, &of_names.collect(), damping)?;
        recipe.calibration = Some(job.identity(Some(&fitted)));
        let plan = job.pool.install(|| job.plan(&recipe))?;
        let size = job.pack(&plan, &Ready(&fitted.compressed))?;
        Ok((plan, fitted, size))
    }
}
