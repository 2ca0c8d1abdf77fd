//! The rows about routing and what it saves.

use anyhow::Result;
use planner::{Aim, Batching, Class, Decision, Fleet, History, Need, Planned, Poisson, Simulation, seed001, simulate};

use crate::measure::{Table, beside};

/// Requests of a simulated day, as in the report.
const PER_DAY: usize = 1_000_000;
/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Bytes of a token: the report's models are not at hand, nor are their tokenizers.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Batches of the report: size, and waiting in s.
const BATCHES: (usize, f64) = (32, 0.05);

/// The report's requests, and what each needs.
fn needs(fleet: &Fleet) -> Result<Vec<Need>> {
    let count = |text: &str| Ok((text.len() as f64 / BYTES_PER_TOKEN).ceil() as u64);
    let need = |scenario: &seed001::Scenario| {
        let request = scenario.request();
        let lengths = request.lengths(&count, &History::default())?;
        Ok(request.need(lengths, fleet.classes()))
    };
    seed001::SCENARIOS.iter().map(need).collect()
}

/// A need of the report: its quality is the same for all.
fn of_report(need: &Need) -> Need {
    Need { quality: seed001::QUALITY, ..*need }
}

/// Measures the claims.
///
/// # Errors
/// If the report's table cannot be read.
pub(super) fn section() -> Result<String> {
    let fleet = seed001::fleet()?;
    let needs = needs(&fleet)?;
    Ok(format!("{}\n{}", decisions(&fleet, &needs), savings(&fleet, &needs)?))
}

fn decisions(fleet: &Fleet, needs: &[Need]) -> String {
    let titles = ["Request", "Class by words", "Class by tokens", "Report", "Its rule here", "By the class of tokens"];
    let mut table = Table::new(titles);
    let chosen = |need: &Need| {
        let decision = Decision::new(fleet, need, Aim::Cost);
        decision.chosen().map_or_else(
            || "none fits".to_owned(),
            |offer| format!("{} on {}, ${:.2}", offer.names().0, offer.names().1, offer.cost_per_million),
        )
    };
    for (scenario, need) in seed001::SCENARIOS.iter().zip(needs) {
        let words = scenario.request().class_by_words().map_or_else(String::new, |class| class.to_string());
        let printed = scenario.printed.map(|(model, hardware, cost)| format!("{model} on {hardware}, ${cost:.2}"));
        table.row([
            format!("{}, {} tokens at most", scenario.name, scenario.max_tokens),
            beside(&words, &scenario.class.to_string(), words != scenario.class.to_string()),
            Class::of(need.lengths).to_string(),
            printed.unwrap_or_else(|| "blank".to_owned()),
            chosen(&of_report(need)),
            chosen(need),
        ]);
    }
    let text = format!(
        "\
The report routes four requests among three models on five kinds of hardware, whose quality, latency, speed and price \
         it states; none of them was measured. Costs are dollars per million tokens. Its rule is a quality of at least \
         {} for every request and then the least cost: it gives the report's two rows, and the same model for the two \
         that the report leaves blank. The report computes a class of each request and does not use it. In the last \
         column, the class decides the quality that a request needs ({}): simple requests stay on the small model, \
         the largest request gets the large one. Tokens of a prompt are its bytes divided by {BYTES_PER_TOKEN}.",
        seed001::QUALITY,
        Class::ALL.map(|class| format!("{class} {}", fleet.classes().quality(class))).join(", "),
    );
    table.under("Routing", &text)
}

/// Who answers a need.
type Place<'a> = &'a dyn Fn(&Need) -> Option<usize>;

fn savings(fleet: &Fleet, needs: &[Need]) -> Result<String> {
    let alone = fleet.largest();
    let (year, saved) = seed001::savings();
    let best = |fleet: &Fleet, need: &Need| Decision::new(fleet, need, Aim::Cost).chosen().map(|offer| offer.index);
    let any = |need: &Need| best(&alone, &Need { quality: 0.0, ..*need });
    let largest = day(&alone, needs, &any)?;
    let mut table =
        Table::new(["Traffic", "Machines", "Busy", "p50", "p99", "$ a day", "$ a year", "Saved a year", "Saved"]);
    table.row(row("report: everything as now", None, year, None));
    table.row(row("report: with routing", None, year - saved, Some(year)));
    let all = largest.cost_per_day * 365.0;
    table.row(row("everything on Llama-2-70b", Some(&largest), all, None));
    let report = |need: &Need| best(fleet, &of_report(need));
    let class = |need: &Need| best(fleet, need);
    let places: [(&str, Place<'_>); 2] = [("routed by the report's rule", &report), ("routed by class", &class)];
    for (name, place) in places {
        let routed = day(fleet, needs, place)?;
        table.row(row(name, Some(&routed), routed.cost_per_day * 365.0, Some(all)));
    }
    let lengths = needs.iter().map(|need| need.lengths.total()).sum::<u64>() / needs.len() as u64;
    let text = format!(
        "\
The report multiplies: {PER_DAY} requests a day at $0.002 each, of which 30 % save 30 %, make $730,000 a year and a \
         saving of $65,700 ($5,475 a month), or 9 %. Here a day of {PER_DAY} requests is simulated with the report's \
         own speeds and prices: the four requests above, in equal shares ({lengths} tokens on average, each output as \
         long as it may be), arrive at random, wait, and run in batches of at most {}, which wait at most {} ms. A \
         variant has as many machines as would be busy 70 % of the time with full batches, and they are paid for the \
         whole day. On the largest model, a request costs ${:.4}; the cost depends on lengths and traffic, which the \
         report does not state. The simulated latencies are not those of the report: at its 50 tokens per second an \
         answer of 500 tokens takes ten seconds, and the latency that it states for the same model is 0.1 s.",
        BATCHES.0,
        BATCHES.1 * 1e3,
        largest.cost_per_day / PER_DAY as f64,
    );
    Ok(table.under("Savings of routing, simulated", &text))
}

/// A day with these decisions.
fn day(fleet: &Fleet, needs: &[Need], place: Place<'_>) -> Result<Simulation> {
    let planned: Vec<_> = needs.iter().map(|need| Planned { lengths: need.lengths, placement: place(need) }).collect();
    let arrivals: Vec<_> = Poisson::new(PER_DAY as f64 / DAY, needs.len(), 1)?.take(PER_DAY).collect();
    Ok(simulate(fleet, &planned, &arrivals, Batching::new(BATCHES.0, BATCHES.1)?)?)
}

fn row(name: &str, simulation: Option<&Simulation>, year: f64, before: Option<f64>) -> [String; 9] {
    let of = |show: &dyn Fn(&Simulation) -> String| simulation.map_or_else(|| "–".to_owned(), show);
    let machines = |day: &Simulation| day.sites.iter().map(|site| u64::from(site.servers)).sum::<u64>();
    let busy = |day: &Simulation| 100.0 * day.busy_cost_per_day / day.cost_per_day;
    let saved = |show: &dyn Fn(f64) -> String| before.map_or_else(|| "–".to_owned(), show);
    [
        name.to_owned(),
        of(&|day| machines(day).to_string()),
        of(&|day| format!("{:.1} %", busy(day))),
        of(&|day| format!("{:.2} s", day.latency.p50_s)),
        of(&|day| format!("{:.2} s", day.latency.p99_s)),
        format!("{:.0}", year / 365.0),
        format!("{year:.0}"),
        saved(&|before| format!("{:.0}", before - year)),
        saved(&|before| format!("{:.1} %", 100.0 * (1.0 - year / before))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_report_come_out() {
        let fleet = seed001::fleet().unwrap();
        let text = decisions(&fleet, &needs(&fleet).unwrap());
        for row in [
            "SIMPLE (claim SIMPLE) | SIMPLE | Llama-2-7b on T4, $2.78 | Llama-2-7b on T4, $2.78 | Llama-2-7b on T4, $2.78",
            "MODERATE (claim MODERATE) | MODERATE | Llama-2-7b on T4, $2.78 | Llama-2-7b on T4, $2.78 |",
            "COMPLEX (claim COMPLEX) | COMPLEX | blank | Llama-2-7b on T4, $2.78 | Llama-2-13b on A10G, $5.56",
            "EXTREME (claim EXTREME) | EXTREME | blank | Llama-2-7b on T4, $2.78 | Llama-2-70b on H100, $44.44",
        ] {
            assert!(text.contains(row), "{row}: {text}");
        }
    }
}
