//! The rows about presets and routing, with measured profiles.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use planner::{Aim, Decision, Fleet, History, Profile, Profiles, Request, seed001};

use crate::claims::language::{MODEL, STORIES};
use crate::lab::Lab;
use crate::measure::{Table, beside, ratio_beside};
use crate::process::run;

/// Preset of the report, its ratio, and its change of the perplexity in percent.
const PRESETS: [(&str, f64, f64); 8] = [
    ("fp16", 1.0, 0.0),
    ("gptq_quality", 7.5, 1.0),
    ("gptq_balanced", 7.8, 1.5),
    ("gptq_size", 8.0, 2.5),
    ("awq_quality", 7.5, 0.8),
    ("awq_balanced", 7.8, 1.2),
    ("bnb_int8", 2.0, 0.3),
    ("bnb_nf4", 7.5, 1.0),
];
/// Price of this machine in dollars per hour, for the routing: an assumption.
const PRICE: f64 = 0.10;
/// Prompt and output of the timed requests.
const REQUEST: &str = "128+32";

/// Measures the presets with `netweight optimize --exhaustive`, and routes the report's requests
/// among them.
///
/// # Errors
/// If the program fails.
pub(super) fn section(lab: &Lab) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a directory for packed models")?;
    let file = folder.path().join("profiles.jsonl");
    let names = PRESETS.map(|(name, ..)| name).join(",");
    let mut command = Command::new(std::env::current_exe()?.with_file_name("netweight"));
    command.args(["optimize", "--exhaustive", "--candidates", &format!("dense,{names}"), "--request", REQUEST]);
    command.arg(lab.root.join(MODEL)).arg("--text").arg(lab.root.join(STORIES));
    run(command.arg("--profiles").arg(&file).arg("-o").arg(folder.path().join("smallest")))?;
    let profiles = Profiles::open_existing(&file)?;
    Ok(format!("{}\n{}", presets(profiles.all())?, routing(folder.path(), profiles.all())?))
}

/// The name of a profile's variant: its recipe also names the statistics.
fn name(profile: &Profile) -> &str {
    profile.key.recipe.split(',').next().unwrap_or_default()
}

fn presets(profiles: &[Profile]) -> Result<String> {
    let of = |wanted: &str| profiles.iter().find(|profile| name(profile) == wanted);
    let dense = of("dense").context("the dense model was measured")?;
    let mut table = Table::new(["Preset", "Ratio", "Change of perplexity", "KL", "Top-1", "Output, tokens/s", "p99"]);
    let speed = |profile: &Profile| profile.decode_tokens_per_s.map_or_else(String::new, |speed| format!("{speed:.0}"));
    let p99 = |profile: &Profile| {
        profile.latencies.first().map_or_else(String::new, |latency| format!("{:.1} ms", latency.p99_ms))
    };
    table.row(["none".to_owned(), "1.00x".to_owned(), "–".into(), "0".into(), "1".into(), speed(dense), p99(dense)]);
    for (preset, claimed, percent) in PRESETS {
        let Some(profile) = of(preset) else {
            table.row([preset, "cannot be packed", "", "", "", "", ""].map(str::to_owned));
            continue;
        };
        let measures = profile.perplexity_change.zip(profile.kl).zip(profile.top1);
        let ((change, kl), top1) = measures.context("its quality was measured")?;
        let half = 50.0 * (change.high - change.low);
        let shown = format!("{:+.2} % ± {half:.2} %", 100.0 * change.value);
        table.row([
            preset.to_owned(),
            ratio_beside(dense.bytes_on_disk as f64 / profile.bytes_on_disk as f64, claimed),
            beside(&shown, &format!("{percent} %"), 100.0 * change.low > percent),
            format!("{:.2e}", kl.value),
            format!("{:.3}", top1.value),
            speed(profile),
            p99(profile),
        ]);
    }
    let text = format!(
        "\
The report's search for a compression compares constants: these ratios and changes of the perplexity, and 3.64x for \
         every file. Here `netweight optimize --exhaustive` packs `{MODEL}` by the same presets, with the first \
         quarter of the stories for calibration, runs the rest of them beside the dense model, and times requests of \
         {REQUEST} tokens in a process of their own. A ratio is that of all bytes of the files, with their headers, \
         which are a tenth of these small files; rows of 64 weights make groups of 64 at most. ± is half of the \
         confidence interval of 95 % over the stories.",
    );
    Ok(table.under("Presets, measured", &text))
}

fn routing(folder: &Path, profiles: &[Profile]) -> Result<String> {
    let machine = &profiles.first().context("a profile")?.key.machine;
    let mut fleet = format!(
        "profiles = \"profiles.jsonl\"\n[hardware.box]\nprice_per_hour = {PRICE}\n\
         machine = {{ cpu = {:?}, simd = {:?}, cores = {} }}\n",
        machine.cpu, machine.simd, machine.cores
    );
    for profile in profiles {
        let (model, recipe) = (&profile.key.model_hash, &profile.key.recipe);
        let name = name(profile);
        writeln!(fleet, "[[variant]]\nname = {name:?}\nmodel = {model:?}\nrecipe = {recipe:?}\n[variant.on.box]")?;
    }
    let file = folder.join("fleet.toml");
    std::fs::write(&file, fleet).with_context(|| format!("cannot write `{}`", file.display()))?;
    let fleet = Fleet::read(&file)?;
    let tokenizer = runtime::Tokenizer::open(&folder.join("smallest"))?;
    let count = |text: &str| tokenizer.encode(text).map(|ids| ids.len() as u64).map_err(|error| error.to_string());
    let mut table = Table::new(["Request", "Tokens", "Needs", "Answered by", "Agreement", "p99", "$ per 10⁶ tokens"]);
    for scenario in &seed001::SCENARIOS {
        let request: Request = scenario.request();
        let lengths = request.lengths(&count, &History::default())?;
        let need = request.need(lengths, fleet.classes());
        let decision = Decision::new(&fleet, &need, Aim::Cost);
        let mut row = [
            scenario.name.to_owned(),
            format!("{} + {}", lengths.prompt, lengths.output),
            format!("{:.2}", need.quality),
        ]
        .to_vec();
        row.extend(match decision.chosen() {
            Some(offer) => [
                offer.names().0.to_owned(),
                format!("{:.3}", offer.quality),
                offer.p99_ms.map_or_else(|| "–".to_owned(), |p99| format!("{p99:.1} ms")),
                format!("{:.4}", offer.cost_per_million),
            ],
            None => ["none".to_owned(), "–".to_owned(), "–".to_owned(), "–".to_owned()],
        });
        table.row(row);
    }
    let text = format!(
        "\
The report's requests among the variants above, on this machine at ${PRICE:.2} an hour, which is an assumption. The \
         quality that a class needs is compared with the lower end of the interval of the top-1 agreement with the \
         dense model; the times are those of each request's lengths, from the measured speeds.",
    );
    Ok(table.under("Routing, with measured profiles", &text))
}
