//! Guesses what happened to a tensor with wrong values.

use std::sync::Arc;

use bytes::Bytes;
use codec_api::{TensorSpec, TensorView};

use super::values::{TILE, certificate};
use crate::model::Model;
use crate::packed::Piece;
use crate::plan::{Plan, PlannedTensor};

/// The error up to which values count as equal, relative to that of the certificate.
const SLACK: f64 = 4.0;

pub(super) struct Hints<'a> {
    pub(super) plan: &'a Plan,
    /// The files of the source.
    pub(super) models: &'a [Arc<Model>],
}

impl Hints<'_> {
    /// Whether a decoded piece has the values of another tensor, a multiple, or the transpose.
    pub(super) fn of(&self, planned: &PlannedTensor, piece: &Piece<'_>, decoded: &[u8]) -> Option<String> {
        let bytes = self.rows(planned, piece)?;
        let source = TensorView::new(planned.spec.with_rows(piece.rows().len()).ok()?, &bytes).ok()?;
        let decoded = TensorView::new(source.spec().clone(), decoded).ok()?;
        let nmse = piece.certificate().nmse() * SLACK;
        let near = |source: &TensorView<'_>| is_near(source, &decoded, nmse);
        let others = self.plan.tensors.iter().filter(|other| other.spec == planned.spec && other.name != planned.name);
        for other in others {
            let rows = self.rows(other, piece);
            if rows.and_then(|bytes| Some(near(&TensorView::new(source.spec().clone(), &bytes).ok()?))) == Some(true) {
                return Some(format!("; it has the values of `{}` in the source", other.name));
            }
        }
        if let Some(transposed) = transposed(&source)
            && near(&TensorView::new(source.spec().clone(), &transposed).ok()?)
        {
            return Some("; it is transposed".to_owned());
        }
        scale(&source, &decoded, nmse).map(|scale| format!("; it is about {scale:.2} times the source"))
    }

    /// The rows of the piece in a tensor of the source. Those of other tensors are read too, so a
    /// computed model has no hints.
    fn rows(&self, tensor: &PlannedTensor, piece: &Piece<'_>) -> Option<Bytes> {
        match &*self.models[tensor.file] {
            Model::Computed(_) => None,
            model => model.rows(&tensor.name, &piece.rows()).ok(),
        }
    }
}

/// Whether values are equal within this error; exactly if it is 0.
fn is_near(source: &TensorView<'_>, decoded: &TensorView<'_>, nmse: f64) -> bool {
    if nmse == 0.0 || !source.spec().is_float() {
        return source.bytes() == decoded.bytes();
    }
    let near = |source: &TensorView<'_>, decoded: &[u8]| {
        certificate(source, decoded).is_ok_and(|found| found.is_valid() && found.nmse() <= nmse)
    };
    // Most tensors differ in the first values already.
    let rows = (TILE / source.spec().matrix().1.max(1)).max(1).min(source.spec().matrix().0);
    let first = source.rows(0, rows).ok().zip(decoded.rows(0, rows).ok());
    first.is_some_and(|(source, decoded)| {
        certificate(&source, decoded.bytes()).is_ok_and(|found| found.nmse() <= SLACK * nmse)
    }) && near(source, decoded.bytes())
}

/// The bytes of a square matrix, transposed. Such a matrix has no other sign of it.
fn transposed(source: &TensorView<'_>) -> Option<Vec<u8>> {
    let spec: &TensorSpec = source.spec();
    let ([rows, columns], bits) = (spec.shape(), spec.dtype().bitsize()) else { return None };
    if rows != columns || !bits.is_multiple_of(8) {
        return None;
    }
    let (width, n, bytes) = (bits / 8, *rows, source.bytes());
    let place = |i: usize| (i % n * n + i / n) * width;
    Some((0..n * n).flat_map(|i| &bytes[place(i)..place(i) + width]).copied().collect())
}

/// The factor between source and decoded values, if there is one.
fn scale(source: &TensorView<'_>, decoded: &TensorView<'_>, nmse: f64) -> Option<f64> {
    let (source, decoded) = (source.to_f32().ok()?, decoded.to_f32().ok()?);
    let sum = |pair: fn(f64, f64) -> f64| -> f64 {
        source.iter().zip(decoded.iter()).map(|(s, d)| pair(f64::from(*s), f64::from(*d))).sum()
    };
    let (both, squares, own) = (sum(|s, d| s * d), sum(|s, _| s * s), sum(|_, d| d * d));
    let scale = both / squares;
    // ‖d − c s‖² = ‖d‖² − c ⟨s, d⟩ for the best c.
    let rest = own - scale * both;
    (scale.is_finite() && (scale - 1.0).abs() > 1e-2 && rest <= nmse.max(1e-6) * own).then_some(scale)
}
