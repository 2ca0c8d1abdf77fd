//! Decoding: the whole tensor, or an opened matrix for rows and products.

use codec_api::util::{Checksum, widen, zeros};
use codec_api::{
    Cancel, CodecError, DecodeCx, LinearOp, PayloadView, Result, RowReader, TensorSpec, open_linear, open_rows,
};

use super::{Coder, DENSE, VALUES};
use crate::form::{Batches, Positions};
use crate::grid::Grid;
use crate::matrix::{Matrix, checksum};
use crate::scatter::{expand, scatter};

impl Coder<'_> {
    /// The positions in a payload, and the spec of its values. `None` if the payload holds the
    /// whole tensor in the inner codec's form.
    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Option<(Box<dyn Positions>, TensorSpec)>> {
        let Some(form) = self.forms.iter().find(|form| form.is_in(payload)) else { return Ok(None) };
        let positions = form.read(grid, payload)?;
        let values = self.values_spec(grid, &**form, positions.count())?;
        Ok(Some((positions, values)))
    }

    /// Decodes to f32 with a lossy inner codec.
    pub(crate) fn decode(
        &self,
        spec: &TensorSpec,
        payload: &PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        spec.check_output(out.len())?;
        spec.require_float()?;
        let grid = Grid::new(spec);
        let Some((positions, values_spec)) = self.read(&grid, payload)? else {
            return self.inner.decode(spec, payload.scoped(DENSE), &cx.for_child(), out);
        };
        let values =
            |values: &mut [f32]| self.inner.decode(&values_spec, payload.scoped(VALUES), &cx.for_child(), values);
        let decoded =
            Decoded { payload, positions: &*positions, rows: grid.rows, len: positions.count(), values: &values };
        decoded.place::<{ size_of::<f32>() }>(out, cx.cancel, |_| ())
    }

    /// Decodes to the stored bytes with an exact inner codec.
    pub(crate) fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: &PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let inner = self.inner.require_lossless()?;
        spec.check_output_bytes(out.len())?;
        let grid = Grid::new(spec);
        let Some((positions, values_spec)) = self.read(&grid, payload)? else {
            return inner.decode_bytes(spec, payload.scoped(DENSE), &cx.for_child(), out);
        };
        let values =
            |values: &mut [u8]| inner.decode_bytes(&values_spec, payload.scoped(VALUES), &cx.for_child(), values);
        let decoded =
            Decoded { payload, positions: &*positions, rows: grid.rows, len: values_spec.byte_len(), values: &values };
        let mut checksum = Checksum::default();
        match grid.width {
            1 => decoded.place::<1>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            2 => decoded.place::<2>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            4 => decoded.place::<4>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            _ => decoded.place::<8>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
        }
        payload.verify(&checksum)
    }

    /// The matrix of a payload. `None` if the payload holds it in the inner codec's form.
    fn matrix(&self, spec: &TensorSpec, payload: &PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Option<Matrix>> {
        spec.require_float()?;
        let grid = Grid::new(spec);
        let Some((positions, values_spec)) = self.read(&grid, payload)? else { return Ok(None) };
        let (scope, cx) = (payload.scoped(VALUES), cx.for_child());
        let bytes = payload.total_bytes();
        let mut values = cx.zeros(values_spec.elements(), bytes)?;
        if let Some(inner) = self.inner.as_lossless() {
            let mut stored = cx.zeros(values_spec.byte_len(), bytes)?;
            inner.decode_bytes(&values_spec, scope, &cx, &mut stored)?;
            let checksum = checksum(&grid, &*positions, &stored).map_err(|e| in_scope(payload, e))?;
            payload.verify(&checksum)?;
            widen(spec.dtype(), &stored, &mut values)?;
        } else {
            let checked = positions.visit(0..grid.rows, &mut Batches::new(0..grid.units(), &mut |_| Ok(())));
            checked.map_err(|e| in_scope(payload, e))?;
            self.inner.decode(&values_spec, scope, &cx, &mut values)?;
        }
        Ok(Some(Matrix::new(grid, positions, values)))
    }

    pub(crate) fn open(
        &self,
        spec: &TensorSpec,
        payload: &PayloadView<'_>,
        cx: &DecodeCx<'_>,
    ) -> Result<Box<dyn RowReader>> {
        match self.matrix(spec, payload, cx)? {
            Some(matrix) => Ok(Box::new(matrix)),
            None => open_rows(self.inner, spec, payload.scoped(DENSE), &cx.for_child()),
        }
    }

    pub(crate) fn prepare(
        &self,
        spec: &TensorSpec,
        payload: &PayloadView<'_>,
        cx: &DecodeCx<'_>,
    ) -> Result<Box<dyn LinearOp>> {
        match self.matrix(spec, payload, cx)? {
            Some(matrix) => Ok(Box::new(matrix)),
            None => open_linear(self.inner, spec, payload.scoped(DENSE), &cx.for_child()),
        }
    }
}

/// Positions, and a function that decodes the values: to f32 or to stored bytes.
struct Decoded<'a, T> {
    payload: &'a PayloadView<'a>,
    positions: &'a dyn Positions,
    rows: usize,
    /// Number of `T` values.
    len: usize,
    values: &'a dyn Fn(&mut [T]) -> Result<()>,
}

impl<T: bytemuck::Pod> Decoded<'_, T> {
    /// Scatters units of `WIDTH` bytes to their positions; passes finished pieces to `finished`.
    fn place<const WIDTH: usize>(
        &self,
        out: &mut [T],
        cancel: &Cancel,
        finished: impl FnMut(&[[u8; WIDTH]]),
    ) -> Result<()> {
        if let Some(flags) = self.positions.flags() {
            let first = out.len().saturating_sub(self.len);
            (self.values)(&mut out[first..])?;
            return expand(flags, self.positions.count(), as_units(out), cancel, finished);
        }
        let mut values = zeros(self.len)?;
        (self.values)(&mut values)?;
        scatter(self.positions, (0..self.rows, 0), as_units(&mut values), as_units(out), cancel, finished)
            .map_err(|e| in_scope(self.payload, e))
    }
}

/// Casts values to units.
fn as_units<T: bytemuck::Pod, const WIDTH: usize>(values: &mut [T]) -> &mut [[u8; WIDTH]] {
    bytemuck::cast_slice_mut::<T, u8>(values).as_chunks_mut().0
}

/// Completes the section name of an error with the payload's scope.
fn in_scope(payload: &PayloadView<'_>, error: CodecError) -> CodecError {
    match error {
        CodecError::Corrupt { section, reason } => payload.corrupt(&section, reason),
        other => other,
    }
}
