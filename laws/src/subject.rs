//! What a law is checked on.

use std::path::PathBuf;
use std::sync::Arc;

use codec_api::{Codec, CodecEntry, CodecError, Dtype, EncodedTensor, Need, Needs, Registry};

use super::guard::catch;
use super::{Law, Sample, Violation, everything};

/// Block lengths of codecs that take only rows of whole blocks.
const BLOCKS: [usize; 5] = [16, 32, 64, 128, 256];

/// Stands for the name of a preset where the configuration is a probe.
const PROBE: &str = "(probe)";

/// One configuration of one registered codec: a preset or a probe.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The codec's entry.
    pub entry: CodecEntry,
    /// Name of the preset, or `(probe)`.
    pub preset: &'static str,
    /// The configured codec.
    pub codec: Arc<dyn Codec>,
    /// The registry that reads its headers.
    pub registry: Registry,
    /// Directory of the crate that registers it; the docs law reads its sources.
    pub manifest_dir: PathBuf,
}

impl Subject {
    /// The configurations that the laws check of the crate named `package`: the presets and probes of
    /// its codecs. Slow presets ([`CodecEntry::slow_presets`]) are among them only if the
    /// environment variable `NETWEIGHT_LAWS` is `full`.
    ///
    /// # Errors
    /// The message about a probe that is no spec of its codec.
    pub fn of_crate(registry: &Registry, package: &str, manifest_dir: impl Into<PathBuf>) -> Result<Vec<Self>, String> {
        let manifest_dir = manifest_dir.into();
        let subject = |entry: &CodecEntry, preset, codec| Self {
            entry: *entry,
            preset,
            codec,
            registry: registry.clone(),
            manifest_dir: manifest_dir.clone(),
        };
        let mut subjects = Vec::new();
        for entry in registry.entries().filter(|entry| entry.origin.0 == package) {
            if everything() || !entry.slow_presets {
                let presets = (entry.presets)().into_iter();
                subjects.extend(presets.map(|preset| subject(entry, preset.name, preset.codec.into())));
            }
            for spec in (entry.probes)() {
                let codec = registry.parse_spec(&spec).map_err(|e| format!("probe `{spec}` of `{}`: {e}", entry.id))?;
                if codec.typetag_name() != entry.id {
                    return Err(format!("probe `{spec}` is a spec of another codec than `{}`", entry.id));
                }
                subjects.push(subject(entry, PROBE, codec));
            }
        }
        Ok(subjects)
    }

    /// What to hand the codec beside the tensor: everything it uses, and also nothing that it can do without.
    pub(crate) fn offers(&self) -> Vec<Needs> {
        let full = self.codec.needs();
        let strict = |need: Need| if need == Need::Uses { Need::No } else { need };
        let least = Needs::default().base(strict(full.base)).calibration(strict(full.calibration));
        if least == full { vec![full] } else { vec![full, least] }
    }

    /// For a codec that refuses the sample, but takes it with longer rows, of whole blocks of one of [`BLOCKS`]: that sample.
    pub(crate) fn in_whole_blocks(&self, sample: &Sample) -> Option<Sample> {
        if self.codec.accepts(sample.spec()).is_ok() {
            return None;
        }
        let (_, columns) = sample.spec().matrix();
        let longer = BLOCKS.into_iter().filter_map(|block| sample.with_columns(columns.next_multiple_of(block)).ok());
        longer.into_iter().find(|sample| self.codec.accepts(sample.spec()).is_ok())
    }

    /// A sample of this dtype and shape that the codec encodes, if there is one: bell-shaped, in longer rows for a codec of whole
    /// blocks, of rank one for a codec that calls bell-shaped weights unsuitable. The bell-shaped one if it refuses all of them.
    pub(crate) fn taken(&self, dtype: Dtype, shape: &[usize]) -> Result<Sample, CodecError> {
        let fitting = |sample: Sample| self.in_whole_blocks(&sample).unwrap_or(sample);
        let bell = fitting(Sample::bell(dtype, shape)?);
        if self.refuses_values(&bell) {
            let simple = fitting(Sample::rank_one(dtype, shape)?);
            return Ok(if self.refuses_values(&simple) { bell } else { simple });
        }
        Ok(bell)
    }

    /// Whether the codec calls the values unsuitable. What else may be wrong is for the law that uses the sample.
    fn refuses_values(&self, sample: &Sample) -> bool {
        let encode =
            || EncodedTensor::encode(self.codec.clone(), sample.view()?, &sample.encode_cx(self.codec.needs())?);
        matches!(catch(encode), Ok(Err(CodecError::Unsuitable { .. })))
    }

    pub(crate) fn violation(
        &self,
        law: Law,
        subject: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Violation {
        Violation {
            law,
            codec: self.registry.spec_of(&*self.codec),
            preset: self.preset,
            subject: subject.into(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }
}
