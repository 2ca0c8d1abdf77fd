//! Suites of a model: its name, and the part of it that is measured.

use codec_api::Dtype;
use harness::suite::{Suite, SuiteOptions};
use tempfile::TempDir;

use super::suite::{assets, checkpoint, suite};

#[test]
fn include_filters_before_anything_is_read() {
    let directory = TempDir::new().unwrap();
    let tensors: [(&str, Dtype, &[usize]); 3] =
        [("a.1", Dtype::F32, &[2]), ("b.1", Dtype::I64, &[1]), ("a.2", Dtype::F64, &[2])];
    let model = checkpoint(&directory, "m.safetensors", &tensors);
    let parse = |pattern: &str| {
        let include = Some(regex::Regex::new(pattern).unwrap());
        let options = SuiteOptions { include, cast: Some(Dtype::F32), base: Some(model.clone()), ..Default::default() };
        Suite::parse(&format!("model:{}", model.display()), &options)
    };
    let suite = parse("^a").unwrap();
    let find = |name| suite.items.iter().find(|item| item.name == name).unwrap();
    assert_eq!((suite.items.len(), find("a.1").spec.shape()), (2, &[2][..]));
    // Tensors that are left out have no note.
    assert_eq!(suite.notes, ["1 F64 tensor rounded to F32; errors do not include the rounding"]);
    assert_eq!(suite.prepared(find("a.2")).unwrap().spec.dtype(), Dtype::F32);
    let error = parse("x").unwrap_err().to_string();
    assert!(error.starts_with("`x` matches none of the suite's 3 tensors: "), "{error}");
    assert!(["a.1", "a.2", "b.1"].iter().all(|name| error.contains(name)), "{error}");
}

#[test]
fn one_model_has_one_name() {
    let path = assets().join("./");
    let spelt = suite(&format!("model:{}", path.display()));
    assert_eq!(spelt.name, suite(&format!("model:{}", assets().display())).name);
    assert!(spelt.files.iter().any(|file| file.ends_with("model.safetensors")), "{:?}", spelt.files);
}
