use clap::{Parser, ValueEnum};
use codec_api::{
    Certificate, Codec, CodecEntry, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Payload, PayloadView, Preset,
    TensorSpec, TensorView, typetag,
};
use serde::{Deserialize, Serialize};

use super::*;
use crate::args::{Args, Command};

/// States that it measured no error, and decodes zeros.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Liar {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "test.liar")]
impl Codec for Liar {
    fn cost(&self, _: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(0)
    }

    fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> codec_api::Result<Payload> {
        let values = tensor.to_f32()?;
        Ok(Payload::new().with_measured(Certificate::measure(&values, &values)))
    }

    fn decode(&self, _: &TensorSpec, _: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> codec_api::Result<()> {
        out.fill(0.0);
        Ok(())
    }
}

fn bench(arguments: &[&str], registry: &Registry) -> (Result<Outcome>, String) {
    let arguments = ["netweight", "bench", "--suite", "gaussian:8x8", "--wide"].iter().chain(arguments);
    let Command::Bench(args) = Args::try_parse_from(arguments).unwrap().command else { panic!("not `bench`") };
    let mut out = Vec::new();
    let outcome = run(&args, registry, &mut out);
    (outcome, String::from_utf8(out).unwrap())
}

#[test]
fn a_failed_cell_is_named_and_is_the_outcome() {
    let origin = ("netweight-cli", "0.0.0");
    let presets = || vec![Preset::new("default", Liar::default())];
    let liar = CodecEntry::new("test.liar", "breaks its word", origin, presets);
    let (outcome, out) = bench(&[], &Registry::from_entries([liar]).unwrap());
    assert_eq!(outcome.unwrap(), Outcome::Found);
    assert!(out.contains("failed: gaussian, test.liar: "), "{out}");
    assert!(out.contains("0/0/1"), "{out}");
}

#[test]
fn a_clean_run_is_clean() {
    let (outcome, out) = bench(&["--codecs", "baseline.zeros"], &Registry::linked().unwrap());
    assert_eq!(outcome.unwrap(), Outcome::Clean);
    assert!(out.contains("1/0/0"), "{out}");
}

/// `--sort` offers exactly the columns of the summary.
#[test]
fn every_column_can_be_sorted_by() {
    let registry = Registry::linked().unwrap();
    let suite = Suite::parse("gaussian:4x4", &SuiteOptions::default()).unwrap();
    let columns = columns_for(&registry, &["baseline.zeros".to_owned()]).unwrap();
    let rows = matrix::run(&suite, &columns, &Options::new(&registry), &mut ());
    let summary = serde_json::to_value(&report::summarise(&rows)[0]).unwrap();
    let mut existing: Vec<_> = summary.as_object().unwrap().keys().cloned().collect();
    let mut offered: Vec<_> = SortColumn::value_variants().iter().map(|column| column.key()).collect();
    existing.sort();
    offered.sort();
    assert_eq!(offered, existing);
}
