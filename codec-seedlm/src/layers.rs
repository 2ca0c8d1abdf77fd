//! Quality levels: each level after the first codes the error that the levels before it leave.

use std::ops::RangeInclusive;

use codec_api::{CodecError, DecodeCx, PayloadView, Progressive, QualityLevel, Result, RowReader, Rows, TensorSpec};

use crate::config::SeedLm;
use crate::decode::Levels;
use crate::planes;
use crate::sections::{BIAS, CODES, name};

impl SeedLm {
    /// Bytes of the sections of one level.
    pub(crate) fn level_bytes(&self, spec: &TensorSpec) -> RangeInclusive<u64> {
        let (shape, bias) = (self.shape(), size_of::<i16>() as u64);
        let codes = shape.bytes(spec.elements()) as u64;
        let (least, most) = if self.coded { planes::bytes(shape, spec.elements()) } else { (codes, codes) };
        least + bias..=most + bias
    }
}

impl Progressive for SeedLm {
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let bytes = self.level_bytes(spec);
        let codes: &[&str] = if self.coded { &planes::NAMES } else { &[CODES] };
        let names = |level| codes.iter().chain(&[BIAS]).map(|what| name(what, level)).collect();
        (0..self.layers.get() as usize).map(|level| QualityLevel::new(names(level), bytes.clone())).collect()
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
        if level >= self.layers.get() as usize {
            return Err(CodecError::Usage(format!("level {level}: the levels are 0 to {}", self.layers.get() - 1)));
        }
        Levels::open(self, level + 1, spec, &payload, cx)?.read(0..spec.matrix().0, out)
    }
}

impl Rows for SeedLm {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Levels::open(self, self.layers.get() as usize, spec, &payload, cx)?))
    }
}
