//! Traffic through a fleet, beside all of it on the largest model.

use std::io::Write;

use anyhow::{Context, Result};
use planner::{
    Aim, Arrival, Batching, Fleet, Lengths, Need, Planned, Poisson, Quantiles, Simulation, Site, simulate, trace,
};
use serde::Serialize;

use super::{Routed, placed};
use crate::Outcome;
use crate::text::{self, Align, count, printable, table, width, write_json};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The requests of a simulation, and when they arrive.
#[derive(Debug)]
pub(super) struct Traffic<'a> {
    routed: &'a [Routed],
    arrivals: Vec<Arrival>,
    batching: Batching,
    /// How they arrive, for people.
    shown: String,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    routed: &'a Simulation,
    largest: Option<&'a Simulation>,
    /// The share of the largest model's cost per day.
    saved: Option<f64>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(args: &super::Traffic, routed: &'a [Routed], batching: Batching) -> Result<Self> {
        let size = format!("batches of at most {}, which wait at most {} ms", args.max_batch, args.max_wait);
        let (arrivals, how) = if let Some(per_day) = args.simulate {
            let process = Poisson::new(per_day as f64 / DAY, routed.len(), args.seed)?;
            (process.take(per_day as usize).collect(), "random arrivals")
        } else {
            let file = args.trace.as_deref().map(text::path).unwrap_or_default();
            let arrivals = trace(routed.iter().map(|routed| &routed.request));
            (arrivals.with_context(|| format!("`{file}` is no trace"))?, "arrivals of the trace")
        };
        Ok(Self { routed, arrivals, batching, shown: format!("{how}, {size}") })
    }

    /// Simulates, and prints.
    pub(super) fn run(&self, fleet: &Fleet, aim: Aim, json: bool, out: &mut dyn Write) -> Result<Outcome> {
        let routed = self.simulate(fleet, |need| placed(fleet, need, aim))?;
        let alone = fleet.largest();
        // Whatever it needs, the largest model answers it.
        let any = |need: &Need| Need { quality: 0.0, p99_ms: None, ..*need };
        let largest = self.simulate(&alone, |need| placed(&alone, &any(need), aim)).ok();
        let saved = largest.as_ref().map(|largest| 1.0 - routed.cost_per_day / largest.cost_per_day);
        let saved = saved.filter(|_| routed.refused == 0);
        if json {
            write_json(out, &Report { routed: &routed, largest: largest.as_ref(), saved })?;
        } else {
            self.print(&routed, largest.as_ref(), saved, out)?;
        }
        Ok(if routed.refused == 0 { Outcome::Clean } else { Outcome::Found })
    }

    fn simulate(&self, fleet: &Fleet, place: impl Fn(&Need) -> Option<usize>) -> planner::Result<Simulation> {
        let plan = |Routed { request, lengths, need }: &Routed| {
            let output = request.output_tokens.unwrap_or(lengths.output);
            Planned { lengths: Lengths { output, ..*lengths }, placement: place(need) }
        };
        let planned: Vec<_> = self.routed.iter().map(plan).collect();
        simulate(fleet, &planned, &self.arrivals, self.batching)
    }

    fn print(
        &self,
        routed: &Simulation,
        largest: Option<&Simulation>,
        saved: Option<f64>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let all = count(self.arrivals.len(), "request");
        writeln!(out, "{all} in {:.0} s: {}", routed.duration_s, self.shown)?;
        let mut rows = rows("routed", routed);
        rows.extend(largest.into_iter().flat_map(|largest| self::rows("largest model alone", largest)));
        writeln!(out, "\n{}", table(&COLUMNS, rows, width()))?;
        if let Some(saved) = saved {
            writeln!(out, "\nrouting saves {:.1} % of the cost of the largest model alone", 100.0 * saved)?;
        }
        if routed.refused > 0 {
            writeln!(out, "\n{} that nothing answers", count(routed.refused, "request"))?;
        }
        Ok(())
    }
}

const COLUMNS: [(&str, Align); 11] = [
    ("variant", Align::Left),
    ("hardware", Align::Left),
    ("machines", Align::Right),
    ("requests", Align::Right),
    ("a batch", Align::Right),
    ("busy", Align::Right),
    ("p50", Align::Right),
    ("p95", Align::Right),
    ("p99", Align::Right),
    ("$/day", Align::Right),
    ("$/day busy", Align::Right),
];

fn rows(title: &str, simulation: &Simulation) -> Vec<Vec<String>> {
    let site = |site: &Site| {
        let start =
            [printable(&site.variant), printable(&site.hardware), site.servers.to_string(), site.requests.to_string()];
        let batch = format!("{:.2}", site.requests as f64 / site.batches as f64);
        let middle = [batch, format!("{:.1} %", 100.0 * site.utilisation)];
        [start.to_vec(), middle.to_vec(), latency(&site.latency), cost(site.cost_per_day, site.busy_cost_per_day)]
            .concat()
    };
    let mut rows: Vec<_> = simulation.sites.iter().map(site).collect();
    let machines: u64 = simulation.sites.iter().map(|site| u64::from(site.servers)).sum();
    let start = [title.to_owned(), "all".to_owned(), machines.to_string(), simulation.requests.to_string()];
    let middle = [String::new(), String::new()];
    let end = [latency(&simulation.latency), cost(simulation.cost_per_day, simulation.busy_cost_per_day)];
    rows.push([start.to_vec(), middle.to_vec(), end.concat()].concat());
    rows
}

fn latency(quantiles: &Quantiles) -> Vec<String> {
    let Quantiles { p50_s, p95_s, p99_s } = *quantiles;
    [p50_s, p95_s, p99_s].map(|time| format!("{time:.3} s")).to_vec()
}

fn cost(all: f64, busy: f64) -> Vec<String> {
    [all, busy].map(|dollars| format!("{dollars:.2}")).to_vec()
}
