//! Which variant of a fleet answers a request.

use std::cmp::Ordering;

use serde::Serialize;

use crate::fleet::{Fleet, Hardware, Placement, Variant};
use crate::limit::{Limit, Miss};
use crate::profile::Lengths;
use crate::simulate::cost_per_million;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// Its predicted lengths.
    pub lengths: Lengths,
    /// The least quality.
    pub quality: f64,
    /// The most p99 in ms, for requests of these lengths; `None` is no limit.
    pub p99_ms: Option<f64>,
}

/// Objective to minimise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Dollars per million tokens.
    Cost,
    /// The p99 of the request.
    Latency,
}

/// A variant on a kind of hardware, for one request.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// The variant.
    pub variant: &'a Variant,
    /// The hardware.
    pub hardware: &'a Hardware,
    /// The place in [`Fleet::placements`].
    pub index: usize,
    /// Its quality.
    pub quality: f64,
    /// The p99 of requests of these lengths in ms; `None` if nobody measured it.
    pub p99_ms: Option<f64>,
    /// Dollars per million tokens of such requests.
    pub cost_per_million: f64,
    /// The limits that it misses.
    pub misses: Vec<Miss>,
}

impl<'a> Offer<'a> {
    fn new(fleet: &'a Fleet, index: usize, (variant, placement): (&'a Variant, &'a Placement), need: &Need) -> Self {
        let hardware = fleet.hardware(placement);
        let p99_ms = placement.speed.p99_ms(need.lengths);
        let memory = variant.memory(placement).zip(hardware.memory).map(|(needs, has)| (needs as f64, has as f64));
        let quality = variant.quality(placement);
        let misses = [
            Limit::Quality.miss(Some(need.quality), Some(quality)),
            Limit::P99.miss(need.p99_ms, p99_ms),
            memory.and_then(|(needs, has)| Limit::Memory.miss(Some(has), Some(needs))),
        ];
        Self {
            variant,
            hardware,
            index,
            quality,
            p99_ms,
            cost_per_million: cost_per_million(hardware.price_per_hour, placement.speed.tokens_per_s(need.lengths)),
            misses: misses.into_iter().flatten().collect(),
        }
    }

    /// Whether it keeps all limits.
    pub fn fits(&self) -> bool {
        self.misses.is_empty()
    }

    fn by(&self) -> f64 {
        self.misses.iter().map(Miss::by).sum()
    }

    fn p99(&self) -> f64 {
        self.p99_ms.unwrap_or(f64::INFINITY)
    }

    /// The order of offers that fit. Of equal ones, that on the cheaper machine comes first,
    /// because it costs less while it waits; then names decide.
    fn compare(&self, other: &Self, aim: Aim) -> Ordering {
        let (cost, latency) =
            (self.cost_per_million.total_cmp(&other.cost_per_million), self.p99().total_cmp(&other.p99()));
        let first = match aim {
            Aim::Cost => cost,
            Aim::Latency => latency.then(cost),
        };
        first
            .then_with(|| self.hardware.price_per_hour.total_cmp(&other.hardware.price_per_hour))
            .then_with(|| self.names().cmp(&other.names()))
    }

    /// Names of variant and hardware.
    pub fn names(&self) -> (&'a str, &'a str) {
        (&self.variant.name, &self.hardware.name)
    }
}

/// A limit that would have to be wider for an offer to fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remedy<'a> {
    /// The variant that would fit.
    pub variant: &'a str,
    /// Its hardware.
    pub hardware: &'a str,
    /// The limits, with the values that would do as `found`.
    pub misses: Vec<Miss>,
}

/// All offers for a request: those that fit, the best first, then the others, the nearest first.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    aim: Aim,
    offers: Vec<Offer<'a>>,
}

/// Most alternatives that [`Decision::alternatives`] gives.
const ALTERNATIVES: usize = 5;

impl<'a> Decision<'a> {
    /// Decides who answers a request.
    pub fn new(fleet: &'a Fleet, need: &Need, aim: Aim) -> Self {
        let mut offers: Vec<_> =
            fleet.placements().enumerate().map(|(index, on)| Offer::new(fleet, index, on, need)).collect();
        offers.sort_by(|a, b| {
            let order = if a.fits() && b.fits() { Ordering::Equal } else { a.by().total_cmp(&b.by()) };
            b.fits().cmp(&a.fits()).then(order).then_with(|| a.compare(b, aim))
        });
        Self { aim, offers }
    }

    /// All offers, in this order.
    pub fn offers(&self) -> &[Offer<'a>] {
        &self.offers
    }

    /// The offer that answers; `None` if none fits.
    pub fn chosen(&self) -> Option<&Offer<'a>> {
        self.offers.first().filter(|offer| offer.fits())
    }

    /// Up to five others, with the reason why each is not chosen.
    pub fn alternatives(&self) -> impl Iterator<Item = (&Offer<'a>, String)> {
        let chosen = self.chosen();
        let others = self.offers.iter().skip(usize::from(chosen.is_some())).take(ALTERNATIVES);
        others.map(move |offer| (offer, self.reason(offer, chosen)))
    }

    fn reason(&self, offer: &Offer<'a>, chosen: Option<&Offer<'a>>) -> String {
        let Some(chosen) = chosen.filter(|_| offer.fits()) else {
            return offer.misses.iter().map(Miss::to_string).collect::<Vec<_>>().join(", ");
        };
        let slower = self.aim == Aim::Latency && offer.p99() > chosen.p99();
        let price = |offer: &Offer<'_>| offer.hardware.price_per_hour;
        if slower {
            let (own, best) = (offer.p99_ms, chosen.p99());
            own.map_or_else(
                || "its p99 is unknown".to_owned(),
                |own| format!("slower: p99 {} in place of {}", Limit::P99.shown(own), Limit::P99.shown(best)),
            )
        } else if offer.cost_per_million > chosen.cost_per_million {
            format!("dearer: {:.2} times the cost", offer.cost_per_million / chosen.cost_per_million)
        } else if price(offer) > price(chosen) {
            format!("as good, on a dearer machine: ${} an hour in place of ${}", price(offer), price(chosen))
        } else {
            "as good, and behind it by name".to_owned()
        }
    }

    /// What would fit if none does: for every limit the least change of it alone that lets an offer
    /// fit; if no change of one limit does, the nearest offer with all its misses.
    pub fn remedies(&self) -> Vec<Remedy<'a>> {
        if self.chosen().is_some() {
            return Vec::new();
        }
        let remedy = |offer: &Offer<'a>| {
            let (variant, hardware) = offer.names();
            Remedy { variant, hardware, misses: offer.misses.clone() }
        };
        let of = |limit: Limit| {
            let single = move |offer: &&Offer<'a>| offer.misses.len() == 1 && offer.misses[0].limit == limit;
            self.offers.iter().find(single).map(remedy)
        };
        let single: Vec<_> = [Limit::Quality, Limit::P99, Limit::Memory].into_iter().filter_map(of).collect();
        if single.is_empty() { self.offers.first().map(remedy).into_iter().collect() } else { single }
    }
}
