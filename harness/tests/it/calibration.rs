//! Calibration from a file beside the model.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use codec_api::{Dtype, InputAxis};
use harness::suite::{Suite, SuiteError, SuiteOptions};
use safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

use crate::suite::{checkpoint, suite};

/// Writes the calibration of a model: one vector.
fn calibrate(directory: &TempDir, name: &str, dtype: Dtype, bytes: &[u8], axis: Option<&str>) {
    let vector = TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes).unwrap();
    let metadata = axis.map(|axis| HashMap::from([("axis".to_owned(), axis.to_owned())]));
    fs::write(directory.path().join("calibration.safetensors"), serialize([(name, vector)], metadata).unwrap())
        .unwrap();
}

#[test]
fn calibration_is_read_from_beside_the_model() {
    let directory = TempDir::new().unwrap();
    let tensors: [(&str, Dtype, &[usize]); 2] = [("w", Dtype::BF16, &[3, 2]), ("bias", Dtype::F32, &[3])];
    let file = checkpoint(&directory, "weights.safetensors", &tensors);
    let squares = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let of_w = |path: &Path| {
        let suite = suite(&format!("model:{}", path.display()));
        assert!(suite.items.iter().all(|item| item.calibration.is_none() || item.name == "w"));
        let w = suite.items.into_iter().find(|item| item.name == "w").unwrap();
        (w.calibration.map(|calibration| (calibration.axis, calibration.squares)), suite.notes)
    };
    assert_eq!(of_w(&file), (None, vec![]));
    for axis in [None, Some("columns")] {
        calibrate(&directory, "w", Dtype::F32, &squares(&[1.0, 2.0]), axis);
        // The directory has one model, since the calibration is none.
        for path in [&file, directory.path()] {
            assert_eq!(of_w(path), (Some((InputAxis::Columns, vec![1.0, 2.0])), vec![]));
        }
    }
    calibrate(&directory, "w", Dtype::F32, &squares(&[1.0, 2.0, 0.0]), Some("rows"));
    assert_eq!(of_w(&file).0, Some((InputAxis::Rows, vec![1.0, 2.0, 0.0])));
    calibrate(&directory, "v", Dtype::F32, &squares(&[1.0]), None);
    assert_eq!(of_w(&file), (None, vec!["v: only the calibration has it".to_owned()]));
}

/// It may belong to another model in the directory.
#[test]
fn a_vector_that_does_not_fit_is_noted() {
    let directory = TempDir::new().unwrap();
    let file = checkpoint(&directory, "model.safetensors", &[("w", Dtype::F32, &[3, 2])]);
    let noted = |dtype, bytes: &[u8], axis, reason: &str| {
        calibrate(&directory, "w", dtype, bytes, axis);
        let suite = suite(&format!("model:{}", file.display()));
        assert!(suite.items[0].calibration.is_none());
        let path = directory.path().join("calibration.safetensors");
        assert_eq!(suite.notes, [format!("w: `{}` has {reason}; it gets no calibration", path.display())]);
    };
    noted(Dtype::F32, &[0; 12], None, "F32 [3], but F32 [2] fits the columns of F32 [3, 2]");
    noted(Dtype::F32, &[0; 8], Some("rows"), "F32 [2], but F32 [3] fits the rows of F32 [3, 2]");
    noted(Dtype::BF16, &[0; 4], None, "BF16 [2], but F32 [2] fits the columns of F32 [3, 2]");
}

#[test]
fn a_calibration_without_mean_squares_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = checkpoint(&directory, "model.safetensors", &[("w", Dtype::F32, &[3, 2])]);
    let refused = |dtype, bytes: &[u8], axis, reason: &str| {
        calibrate(&directory, "w", dtype, bytes, axis);
        let error = Suite::parse(&format!("model:{}", file.display()), &SuiteOptions::default()).unwrap_err();
        assert!(matches!(error, SuiteError::Calibration { .. }), "{error}");
        let message = error.to_string();
        for part in [reason, "calibration.safetensors", "write it again, or remove it"] {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
    };
    refused(Dtype::F32, &[0; 8], Some("1"), "its `axis` is `1`, not `columns` or `rows`");
    for odd in [-1.0, f32::NAN, f32::INFINITY] {
        refused(Dtype::F32, &[odd.to_le_bytes(), [0; 4]].concat(), None, "`w`");
    }
}
