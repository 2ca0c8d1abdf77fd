//! The candidates of a search.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use checkpoint::Checkpoint;
use codec_api::Registry;
use planner::Candidate;

use crate::bench::specs::split;
use crate::profile::{Statistics, Variant};

/// Codecs with fast products, of which each matrix has one.
const MIXED: &str = "quant.int:bits=2:group=64:symmetric=false,quant.int:bits=3:group=128:symmetric=false,\
    quant.int:bits=4:group=128:symmetric=false,quant.int:bits=6:group=128,quant.int:preset=int8";

/// A usual candidate.
struct Usual {
    name: &'static str,
    /// Options of `compress`.
    options: &'static [&'static str],
    /// Whether they need statistics.
    calibrated: bool,
    /// Its family and its rate in bits of the file for each weight, which is one of the options.
    family: Option<(usize, f64)>,
}

/// The candidates. The first eight have the names that an earlier system gave its presets;
/// `bnb_int8` and `bnb_nf4` are our recipes `int8` and `nf4`. A damping is given, because a search
/// for the best one takes ten times as long as what it is to make.
const USUAL: [Usual; 22] = [
    plain("fp16", &["--codec", "quant.cast:to=f16"]),
    calibrated("gptq_quality", &["--recipe", "gptq_quality", "--damping", "0.02"]),
    calibrated("gptq_balanced", &["--recipe", "gptq_balanced", "--damping", "0.02"]),
    calibrated("gptq_size", &["--recipe", "gptq_size", "--damping", "0.02"]),
    calibrated("awq_quality", &["--recipe", "awq_quality"]),
    calibrated("awq_balanced", &["--recipe", "awq_balanced"]),
    plain("bnb_int8", &["--recipe", "int8"]),
    plain("bnb_nf4", &["--recipe", "nf4"]),
    plain("dense", &[]),
    plain("lossless", &["--recipe", "lossless"]),
    calibrated("imatrix:q6_k", &["--recipe", "imatrix:q6_k"]),
    calibrated("imatrix:q4_k", &["--recipe", "imatrix:q4_k"]),
    calibrated("imatrix:q3_k", &["--recipe", "imatrix:q3_k"]),
    at_rate("mixed 6 bits", (0, 6.0), &["--candidates", MIXED, "--target-bpw", "6", "--damping", "0.02"]),
    at_rate("mixed 5 bits", (0, 5.0), &["--candidates", MIXED, "--target-bpw", "5", "--damping", "0.02"]),
    at_rate("mixed 4 bits", (0, 4.0), &["--candidates", MIXED, "--target-bpw", "4", "--damping", "0.02"]),
    at_rate("trellis 5 bits", (1, 5.0), &["--target-bpw", "5", "--damping", "0.01"]),
    at_rate("trellis 4 bits", (1, 4.0), &["--target-bpw", "4", "--damping", "0.02"]),
    at_rate("trellis 3.5 bits", (1, 3.5), &["--target-bpw", "3.5", "--damping", "0.02"]),
    at_rate("trellis 3 bits", (1, 3.0), &["--target-bpw", "3", "--damping", "0.05"]),
    at_rate("trellis 2.5 bits", (1, 2.5), &["--target-bpw", "2.5", "--damping", "0.05"]),
    at_rate("trellis 2 bits", (1, 2.0), &["--target-bpw", "2", "--damping", "0.1"]),
];

const fn plain(name: &'static str, options: &'static [&'static str]) -> Usual {
    Usual { name, options, calibrated: false, family: None }
}

const fn calibrated(name: &'static str, options: &'static [&'static str]) -> Usual {
    Usual { name, options, calibrated: true, family: None }
}

const fn at_rate(name: &'static str, family: (usize, f64), options: &'static [&'static str]) -> Usual {
    Usual { name, options, calibrated: true, family: Some(family) }
}

fn usual(name: &str) -> Option<&'static Usual> {
    USUAL.iter().find(|usual| usual.name == name)
}

/// Whether any of the candidates needs statistics.
pub fn need_statistics(list: Option<&str>) -> bool {
    let needs = |name: &String| {
        let method = || checkpoint::Recipe::built_in(name).is_some_and(|recipe| recipe.method.is_some());
        usual(name).map_or_else(method, |usual| usual.calibrated)
    };
    list.is_none_or(|list| split(list).iter().any(needs))
}

/// The candidates of a list, or the usual ones. Without statistics, the usual ones have none that
/// need them.
///
/// # Errors
/// For names that are no candidates, recipes or specs, for equal ones, and for those of a list that
/// need statistics when there are none.
pub fn all(list: Option<&str>, statistics: Option<&Statistics>, registry: &Registry) -> Result<Vec<Variant>> {
    let known = |Usual { name, options, calibrated, .. }: &Usual| {
        let statistics = statistics.filter(|_| *calibrated);
        if *name == profiler::DENSE { Variant::dense() } else { Variant::new(name, options, statistics) }
    };
    let Some(list) = list else {
        return Ok(USUAL.iter().filter(|usual| statistics.is_some() || !usual.calibrated).map(known).collect());
    };
    let of_name = |name: &String| match usual(name) {
        Some(usual) if usual.calibrated && statistics.is_none() => bail!("candidate `{name}` needs --calibration"),
        Some(usual) => Ok(known(usual)),
        None => Variant::parse(name, statistics, registry),
    };
    let variants = split(list).iter().map(of_name).collect::<Result<Vec<_>>>()?;
    ensure!(!variants.is_empty(), "--candidates is empty");
    for (index, variant) in variants.iter().enumerate() {
        let before = variants.iter().take(index).any(|other| other.name == variant.name);
        ensure!(!before, "--candidates names `{}` twice", variant.name);
    }
    Ok(variants)
}

/// What is known of a candidate before it is packed.
///
/// # Errors
/// If the model cannot be read, or the recipe does not fit it.
pub fn candidate(variant: &Variant, model: &Checkpoint, path: &Path, registry: &Registry) -> Result<Candidate> {
    let family = usual(&variant.name).and_then(|usual| usual.family);
    let bytes = match family {
        Some((_, rate)) => {
            let most = rate * model.weights() as f64 / 8.0;
            // A target is met from below, with what small matrices leave of it.
            Some((0.9 * most) as u64..=most as u64)
        }
        None => variant.bytes(path, registry)?,
    };
    Ok(Candidate { name: variant.name.clone(), bytes, family })
}

#[cfg(test)]
mod tests {
    use codecs as _;

    use super::*;

    #[test]
    fn the_presets_of_the_earlier_system_are_candidates() {
        let registry = Registry::linked().unwrap();
        let names = |list| all(list, None, &registry).unwrap().into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(None), ["fp16", "bnb_int8", "bnb_nf4", "dense", "lossless"]);
        assert_eq!(names(Some("dense,quant.q4_0, bnb_nf4")), ["dense", "quant.q4_0", "bnb_nf4"]);
        let presets: Vec<_> = USUAL.iter().take(8).map(|usual| usual.name).collect();
        let asked = "fp16 gptq_quality gptq_balanced gptq_size awq_quality awq_balanced bnb_int8 bnb_nf4";
        assert_eq!(presets.join(" "), asked);
        assert!(need_statistics(None) && need_statistics(Some("q4,awq_quality")) && !need_statistics(Some("q4,dense")));
        for (list, says) in [
            ("gptq_quality", "needs --calibration"),
            ("trellis 3 bits", "needs --calibration"),
            ("q4,q4", "names `q4` twice"),
            ("q5", "no built-in recipe"),
            ("", "empty"),
        ] {
            let error = all(Some(list), None, &registry).unwrap_err().to_string();
            assert!(error.contains(says), "{list}: {error}");
        }
    }
}
