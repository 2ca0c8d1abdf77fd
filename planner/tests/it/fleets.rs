//! Fleet files: measured variants, and errors that name file and entry.

use std::fs;
use std::path::Path;

use planner::{
    Aim, Arrival, Batching, Decision, Fleet, Lengths, Need, Planned, Poisson, UTILISATION, seed001, simulate,
};

/// A line of a file of profiles, with a recipe and a CPU.
pub fn profile(recipe: &str, cpu: &str) -> String {
    r#"{"model": "my-model", "key": {"model_hash": "a1b2", "recipe": "RECIPE",
        "machine": {"cpu": "CPU", "simd": "avx2", "cores": 4},
        "settings": {"version": "0.1.0", "text_hash": null, "context": 512, "stride": 512, "windows": null, "threads": 2,
            "resident": "packed", "lengths": [{"prompt": 100, "output": 20}], "runs": 50}},
        "bytes_on_disk": 300000, "resident_bytes": 280000, "peak_rss_bytes": 9000000,
        "perplexity": {"value": 4, "low": 3.9, "high": 4.1}, "perplexity_change": null,
        "kl": null, "top1": {"value": 0.97, "low": 0.96, "high": 0.98},
        "prefill_tokens_per_s": 1000, "decode_tokens_per_s": 200,
        "latencies": [{"lengths": {"prompt": 100, "output": 20}, "p50_ms": 200, "p95_ms": 210, "p99_ms": 240}],
        "load_ms": null}"#
        .replace('\n', " ")
        .replace("RECIPE", recipe)
        .replace("CPU", cpu)
}

const MEASURED: &str = r#"
profiles = "profiles.jsonl"
[hardware.box]
price_per_hour = 0.36
memory_gb = 8
machine = { cpu = "Some CPU", simd = "avx2", cores = 4 }
[hardware.cloud]
price_per_hour = 4
[[variant]]
name = "mine"
model = "my-model"
recipe = "int8"
on.box = {}
[[variant]]
name = "theirs"
quality = 1
on.cloud = { latency_ms = 300, tokens_per_s = 4000 }
"#;

fn read(folder: &Path, text: &str) -> Result<Fleet, String> {
    let path = folder.join("fleet.toml");
    fs::write(&path, text).unwrap();
    Fleet::read(&path).map_err(|error| error.to_string())
}

#[test]
fn measured_variants_have_the_figures_of_their_profile() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [profile("int4", "Some CPU"), profile("int8", "Some CPU"), profile("int8", "Other CPU")].join("\n");
    fs::write(folder.path().join("profiles.jsonl"), lines + "\n").unwrap();
    let fleet = read(folder.path(), MEASURED).unwrap();
    let need = Need { lengths: Lengths { prompt: 100, output: 20 }, quality: 0.96, p99_ms: Some(240.0) };
    let decision = Decision::new(&fleet, &need, Aim::Cost);
    let mine = decision.chosen().unwrap();
    assert_eq!((mine.names(), mine.p99_ms), (("mine", "box"), Some(240.0)));
    // 120 tokens in 0.2 s, at a hundredth of a cent a second.
    assert!((mine.cost_per_million - 1e-4 * 1e6 / 600.0).abs() < 1e-9, "{}", mine.cost_per_million);
    // A longer request is beyond the limit, with its own p99: 10 more tokens of 5 ms, 1.2 times.
    let longer = Need { lengths: Lengths { prompt: 100, output: 30 }, ..need };
    let decision = Decision::new(&fleet, &longer, Aim::Cost);
    let (nearest, reason) = decision.alternatives().next().unwrap();
    assert_eq!((decision.chosen().is_none(), nearest.names().0), (true, "mine"));
    assert_eq!(reason, "p99 300 ms is above 240 ms");
    // Its quality is the lower end of the interval.
    let better = Need { quality: 0.961, p99_ms: None, ..need };
    assert_eq!(Decision::new(&fleet, &better, Aim::Cost).chosen().unwrap().names().0, "theirs");
}

/// A search stores profiles of a text alone behind whole ones.
#[test]
fn the_profile_with_times_quality_and_most_requests_counts() {
    let folder = tempfile::tempdir().unwrap();
    let whole = profile("int8", "Some CPU");
    let mut of_text: planner::Profile = serde_json::from_str(&whole).unwrap();
    of_text.latencies.clear();
    (of_text.prefill_tokens_per_s, of_text.decode_tokens_per_s) = (None, None);
    // A first look of a search: few requests, no text.
    let mut quick: planner::Profile = serde_json::from_str(&whole).unwrap();
    (quick.key.settings.runs, quick.top1, quick.decode_tokens_per_s) = (3, None, Some(1.0));
    let lines = [of_text, quick].map(|profile| serde_json::to_string(&profile).unwrap() + "\n").concat();
    fs::write(folder.path().join("profiles.jsonl"), format!("{whole}\n{lines}")).unwrap();
    let fleet = read(folder.path(), MEASURED).unwrap();
    let need = Need { lengths: Lengths { prompt: 100, output: 20 }, quality: 0.95, p99_ms: None };
    assert_eq!(Decision::new(&fleet, &need, Aim::Cost).chosen().unwrap().names(), ("mine", "box"));
}

#[test]
fn memory_is_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[hardware]\nsmall = { price_per_hour = 1, memory_gb = 8 }\nlarge = { price_per_hour = 2, memory_gb = 16 }\n\
        [[variant]]\nname = \"a\"\nquality = 1\nmemory_gb = 14\n\
        on.small = { latency_ms = 1, tokens_per_s = 1 }\non.large = { latency_ms = 1, tokens_per_s = 1 }\n";
    let fleet = read(folder.path(), text).unwrap();
    let need = Need { lengths: Lengths { prompt: 1, output: 1 }, quality: 0.5, p99_ms: None };
    let decision = Decision::new(&fleet, &need, Aim::Cost);
    assert_eq!(decision.chosen().unwrap().names(), ("a", "large"));
    assert_eq!(decision.alternatives().next().unwrap().1, "memory 14.00 GB is above 8.00 GB");
}

#[test]
fn errors_name_file_and_entry() {
    let folder = tempfile::tempdir().unwrap();
    let lines = profile("int8", "Some CPU") + "\n";
    fs::write(folder.path().join("profiles.jsonl"), &lines).unwrap();
    let bare = lines.replace(r#""top1": {"value": 0.97, "low": 0.96, "high": 0.98}"#, r#""top1": null"#);
    fs::write(folder.path().join("bare.jsonl"), bare).unwrap();
    fs::write(folder.path().join("wrong.jsonl"), lines.replace("1000", "-1000")).unwrap();
    let swap = |from: &str, to: &str| {
        assert!(MEASURED.contains(from), "{from}");
        MEASURED.replacen(from, to, 1)
    };
    let cases = [
        (String::new(), "`variant`: there is none"),
        ("[hardware.T4]\nprice_per_hour = 1\n".to_owned(), "`variant`: there is none"),
        (swap("on.cloud", "on.T5"), "variant `theirs`: unknown hardware `T5`; the fleet has `box`, `cloud`"),
        (swap("= 4\n", "= -4\n"), "hardware `cloud`: `price_per_hour` is -4"),
        (swap("= 4\n", "= nan\n"), "hardware `cloud`: `price_per_hour` is NaN"),
        (swap("= 4\n", "= inf\n"), "hardware `cloud`: `price_per_hour` is inf"),
        (swap("= 4\n", "= \"four\"\n"), "fleet.toml`, line 8: invalid type"),
        (swap("= 4\n", "= 4\nmemory = 5\n"), "unknown field `memory`"),
        (swap("memory_gb = 8", "memory_gb = 0"), "hardware `box`: `memory_gb` is 0"),
        (swap("quality = 1", "quality = nan"), "variant `theirs`: `quality` is NaN"),
        (swap("quality = 1\n", ""), "variant `theirs`: on `cloud`: its quality is not known"),
        (swap("latency_ms = 300", "latency_ms = nan"), "on `cloud`: `latency_ms` is NaN"),
        (swap("tokens_per_s = 4000", "tokens_per_s = 0"), "on `cloud`: `tokens_per_s` is 0"),
        (swap("latency_ms = 300, ", ""), "on `cloud`: `latency_ms` is missing"),
        (swap("300,", "300, p99_factor = 0.5,"), "on `cloud`: `p99_factor` is 0.5"),
        (swap("300,", "300, servers = 0,"), "on `cloud`: `servers` is 0"),
        (swap("\"theirs\"", "\"mine\""), "variant `mine`: there are two of this name"),
        (swap("on.box = {}", ""), "variant `mine`: it runs nowhere"),
        (
            swap("Some CPU", "New CPU"),
            "variant `mine`: on `box`: its profile is of another machine, `Some CPU, avx2, 4 cores`; this hardware is `New CPU, avx2, 4 cores`",
        ),
        (swap("machine = { cpu", "# machine = { cpu"), "`machine` of the hardware has to say so"),
        (swap("\"int8\"", "\"int7\""), "has no profile with times of `my-model` with recipe `int7`"),
        (swap("recipe = ", "# recipe = "), "on `box`: its speed is not known"),
        (swap("profiles = ", "# profiles = "), "the key `profiles`"),
        (swap("profiles.jsonl", "none.jsonl"), "none.jsonl`: "),
        (swap("profiles.jsonl", "wrong.jsonl"), "wrong.jsonl`, line 1: `prefill_tokens_per_s` is -1000"),
        (swap("profiles.jsonl", "bare.jsonl"), "on `box`: its quality is not known"),
        (swap("[hardware.box]", "[classes]\nsimple = 2\n[hardware.box]"), "`classes`: `simple` is 2"),
    ];
    for (text, says) in cases {
        let error = read(folder.path(), &text).unwrap_err();
        assert!(error.contains("fleet.toml") || error.contains(".jsonl"), "{error}");
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_fleet_under_traffic() {
    let fleet = seed001::fleet().unwrap();
    let place = |name: (&str, &str)| {
        fleet.placements().position(|(variant, on)| (variant.name.as_str(), on.hardware.as_str()) == name)
    };
    // 100 tokens at 50 tokens/s: 2 s of work each, 10 a second.
    let planned = [
        Planned { lengths: Lengths { prompt: 10, output: 90 }, placement: place(("Llama-2-7b", "T4")) },
        Planned { lengths: Lengths { prompt: 10, output: 90 }, placement: None },
    ];
    let arrivals: Vec<_> = Poisson::new(10.0, 2, 3).unwrap().take(100_000).collect();
    let found = simulate(&fleet, &planned, &arrivals, Batching::NONE).unwrap();
    assert_eq!(found.requests + found.refused, arrivals.len());
    let [site] = &found.sites[..] else { panic!("{found:?}") };
    assert_eq!((site.servers, site.requests), (15, found.requests));
    assert!((site.utilisation / UTILISATION - 1.0).abs() < 0.06, "{site:?}");
    assert_eq!(site.cost_per_day, 15.0 * 0.5 * 24.0);
    let day = 86_400.0 / found.duration_s;
    let busy = 2.0 * site.requests as f64 * day / 3600.0 * 0.5;
    assert!((site.busy_cost_per_day / busy - 1.0).abs() < 1e-9, "{site:?}");
    assert!(site.latency.p50_s >= 2.0 && site.latency.p50_s <= site.latency.p95_s && found.latency == site.latency);
    assert_eq!(found, simulate(&fleet, &planned, &arrivals, Batching::NONE).unwrap());

    let none = simulate(&fleet, &planned[1..], &[Arrival { at_s: 0.0, request: 0 }], Batching::NONE);
    assert!(none.unwrap_err().to_string().contains("nothing to simulate"));
    assert_eq!(fleet.largest().variants()[0].name, "Llama-2-70b");
}
