//! Quality levels: each level after the first codes the error that the levels before it leave.

use std::ops::RangeInclusive;

use codec_api::{Progressive, QualityLevel, TensorSpec};

use crate::config::SeedLm;
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
}
