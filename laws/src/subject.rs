//! The configuration that a law is checked on.

use std::path::PathBuf;
use std::sync::Arc;

use codec_api::{Codec, CodecEntry, CodecError, Dtype, EncodedTensor, Need, Needs, Registry};

use super::guard::catch;
use super::{Law, Sample, Violation, everything};

/// Block lengths of codecs that accept only rows of whole blocks.
const BLOCKS: [usize; 5] = [16, 32, 64, 128, 256];

/// Replaces the preset name of a probe.
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
    /// The registry that reads the codec's headers.
    pub registry: Registry,
    /// Directory of the crate that registers the codec; the docs law reads its sources.
    pub manifest_dir: PathBuf,
}

impl Subject {
    /// The configurations that the laws check for the crate named `package`: the presets and probes
    /// of its codecs. Slow presets ([`CodecEntry::slow_presets`]) are included only if the
    /// environment variable `NETWEIGHT_LAWS` is `full`.
    ///
    /// # Errors
    /// The message about a probe that is not a spec of its codec.
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
                let presets = registry.presets_of(entry.id).iter();
                subjects.extend(presets.map(|(name, codec)| subject(entry, name, Arc::clone(codec))));
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

    /// The inputs to offer the codec in addition to the tensor: first everything it uses, then only
    /// what it requires.
    pub(crate) fn offers(&self) -> Vec<Needs> {
        let full = self.codec.needs();
        let strict = |need: Need| if need == Need::Uses { Need::No } else { need };
        let least = Needs::default().base(strict(full.base)).calibration(strict(full.calibration));
        if least == full { vec![full] } else { vec![full, least] }
    }

    /// The sample with longer rows, of whole blocks of one of [`BLOCKS`], if the codec refuses the
    /// sample and accepts it with these rows.
    pub(crate) fn in_whole_blocks(&self, sample: &Sample) -> Option<Sample> {
        if self.codec.accepts(sample.spec()).is_ok() {
            return None;
        }
        let (_, columns) = sample.spec().matrix();
        let longer = BLOCKS.into_iter().filter_map(|block| sample.with_columns(columns.next_multiple_of(block)).ok());
        longer.into_iter().find(|sample| self.codec.accepts(sample.spec()).is_ok())
    }

    /// A sample of this dtype and shape that the codec encodes: bell-shaped, or of rank one if the
    /// codec calls bell-shaped weights unsuitable. The rows are longer if the codec requires whole
    /// blocks. If the codec refuses both samples, the bell-shaped one is returned.
    pub(crate) fn taken(&self, dtype: Dtype, shape: &[usize]) -> Result<Sample, CodecError> {
        let fitting = |sample: Sample| self.in_whole_blocks(&sample).unwrap_or(sample);
        let bell = fitting(Sample::bell(dtype, shape)?);
        if self.refuses_values(&bell) {
            let simple = fitting(Sample::rank_one(dtype, shape)?);
            return Ok(if self.refuses_values(&simple) { bell } else { simple });
        }
        Ok(bell)
    }

    /// Whether the codec calls the values unsuitable. Other errors are left to the law that uses
    /// the sample.
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
