//! Multiplying with the codes.

use codec_api::{
    DecodeCx, IntegerLayout, IntegerMatrix, LinearKernel, LinearOp, PayloadView, Result, Rows, RowsLinear, TensorSpec,
};

use super::decode::Sections;
use super::scale::power_of_two;
use super::{Group, IntQuant};
use crate::packing::unpack_all;

impl IntQuant {
    /// Whether [`IntegerMatrix`] has a layout for the codes and groups.
    pub(super) fn multiplies(&self) -> bool {
        self.integer_layout((0, 0)).is_some()
    }

    fn integer_layout(&self, shape: (usize, usize)) -> Option<IntegerLayout> {
        let group = if let Group::Size(size) = self.group { Some(size as usize) } else { None };
        let bits = (self.bits.get() as usize).next_multiple_of(2);
        IntegerLayout::new(shape, bits, group, self.symmetric.then(|| self.middle()))
    }
}

impl LinearKernel for IntQuant {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        let Sections { layout, codes, scales, exponent, zeros } = Sections::open(self, spec, &payload)?;
        if let Some(integers) = self.integer_layout((layout.rows, layout.columns)) {
            let integers = integers.times(power_of_two(exponent.into()));
            let matrix = IntegerMatrix::pack(integers, cx.product, |row, out| {
                cx.cancel.check()?;
                let packed = &codes[row * layout.row_len()..][..layout.row_len()];
                out.codes.copy_from_slice(&unpack_all(layout.bits, packed, layout.columns));
                out.scales.copy_from_slice(layout.of_row(&scales, row));
                if let Some(zeros) = &zeros {
                    out.zeros.copy_from_slice(layout.of_row(zeros, row));
                }
                Ok(())
            })?;
            if let Some(matrix) = matrix {
                return Ok(Box::new(matrix));
            }
        }
        Ok(Box::new(RowsLinear::new(self.open(spec, payload, cx)?)))
    }
}
