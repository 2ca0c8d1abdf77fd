//! What a codec makes of a tensor.

use std::sync::Arc;

use codec_api::util::{narrowed, widen};
use codec_api::{Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, TensorSpec, TensorView, typetag};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::one;
use crate::operation::{Access, Block, Operation, rows_and_columns};

/// Encodes a tensor with a codec, decodes it and rounds it to the stored dtype.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantise {
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) seed: u64,
}

#[typetag::serde(name = "quantise")]
impl Operation for Quantise {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let operand = one(operands)?;
        self.codec.accepts(operand).map_err(|error| error.to_string())?;
        Ok(operand.clone())
    }

    fn access(&self, _: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        Access::Whole
    }

    /// All rows: scales may belong to the whole tensor.
    fn preferred_rows(&self) -> usize {
        usize::MAX
    }

    fn flops(&self, _: &[&TensorSpec], result: &TensorSpec) -> f64 {
        let cost = self.codec.cost(result);
        cost.encode_ops + cost.decode_ops
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let bytes = narrowed(block.spec.dtype(), block.operands[0].values)?;
        let tensor = TensorView::new(block.spec.clone(), &bytes)?;
        let encoded = EncodedTensor::encode(Arc::clone(&self.codec), tensor, &EncodeCx::new(self.seed))?;
        let decoded = encoded.decode_bytes(&DecodeCx::new().with_max_output(u64::MAX))?;
        let row = decoded.len() / rows_and_columns(block.spec).0.max(1);
        widen(block.spec.dtype(), &decoded[block.rows.start * row..block.rows.end * row], out)
    }
}

fn write<S: Serializer>(codec: &Arc<dyn Codec>, serializer: S) -> Result<S::Ok, S::Error> {
    codec.as_ref().serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<dyn Codec>, D::Error> {
    Ok(Box::<dyn Codec>::deserialize(deserializer)?.into())
}
