//! Quality levels, and the statistics that chunks share.

use codec_api::util::zeros;
use codec_api::{
    CodecError, DecodeCx, EncodeCx, Pass, PayloadView, Progressive, QualityLevel, Result, Statistics, Surveyed,
    TensorSpec, TensorView,
};

use super::{FIRST, Residual, SECOND, rest_spec};

impl Progressive for Residual {
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let first = self.first.levels(spec).into_iter().map(|level| level.scoped(FIRST));
        let second = rest_spec(spec).map(|rest| self.second.levels(&rest)).unwrap_or_default();
        first.chain(second.into_iter().map(|level| level.scoped(SECOND))).collect()
    }

    fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        spec.check_output(out.len())?;
        let (first, rest) = (self.first.levels(spec).len(), rest_spec(spec)?);
        let count = first + self.second.levels(&rest).len();
        if level >= count {
            return Err(CodecError::Usage(format!("level {level}: there are {count}")));
        }
        let last = level.min(first.saturating_sub(1));
        self.first.decode_level(last, spec, payload.scoped(FIRST), cx, out)?;
        let Some(level) = level.checked_sub(first) else { return Ok(()) };
        let mut decoded = zeros(out.len())?;
        self.second.decode_level(level, &rest, payload.scoped(SECOND), &cx.for_child(), &mut decoded)?;
        for (w, rest) in out.iter_mut().zip(decoded) {
            *w = (*w + rest).clamp(f32::MIN, f32::MAX);
        }
        Ok(())
    }
}

/// The statistics of `first`; none if only `second` has some.
impl Surveyed for Residual {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        let Some(first) = self.first.as_surveyed() else { return Ok(Statistics::default()) };
        let mut child_cx = cx.for_child(FIRST);
        (child_cx.base, child_cx.calibration, child_cx.shared) = (cx.base.clone(), cx.calibration, cx.shared);
        first.observe(chunk, &child_cx)
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        match self.first.as_surveyed() {
            Some(first) => first.combine(pass, chunks),
            None => Ok(Pass::Last(Statistics::default())),
        }
    }

    fn chunks_equal_whole(&self) -> bool {
        self.second.as_surveyed().is_none() && self.first.as_surveyed().is_none_or(Surveyed::chunks_equal_whole)
    }
}
