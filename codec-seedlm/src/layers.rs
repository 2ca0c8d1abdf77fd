//! Quality levels: a base layer, and layers that each code what those before it left.

use codec_api::{Progressive, QualityLevel, TensorSpec};

use crate::config::SeedLm;

/// Names of the sections of a level: codes and bias.
pub(crate) fn names(level: usize) -> [String; 2] {
    let name = |what| if level == 0 { String::from(what) } else { format!("{what}_{level}") };
    [name("codes"), name("bias")]
}

impl SeedLm {
    /// Bytes of the sections of one level.
    pub(crate) fn level_bytes(&self, spec: &TensorSpec) -> u64 {
        (self.shape().bytes(spec.elements()) + size_of::<i16>()) as u64
    }
}

impl Progressive for SeedLm {
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let bytes = self.level_bytes(spec);
        (0..self.layers.get() as usize).map(|level| QualityLevel::new(names(level).into(), bytes..=bytes)).collect()
    }
}
