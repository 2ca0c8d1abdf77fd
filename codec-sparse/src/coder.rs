//! The common coder of all sparse codecs: positions in one of several forms, values through the
//! inner codec.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use codec_api::{
    Bound, Cancel, Checksum, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, LinearOp, Payload, PayloadView,
    Result, TensorSpec, TensorView, first_non_finite,
};

use crate::form::{Form, Positions};
use crate::grid::Grid;
use crate::linear::SparseLinear;
use crate::mask::Mask;
use crate::scatter::{check, expand, scatter};

/// Scope of the inner codec's sections for the values.
const VALUES: &str = "values";
/// Scope of the inner codec's sections for the whole tensor, when no form is smaller.
const DENSE: &str = "dense";

/// An inner codec and the forms to choose from; among equally small ones the first wins.
pub(crate) struct Coder<'a> {
    inner: &'a dyn Codec,
    forms: Vec<Box<dyn Form>>,
}

/// The smallest form for a tensor.
struct Chosen<'a> {
    form: &'a dyn Form,
    stored: Cow<'a, Mask>,
    values: TensorSpec,
    /// Upper bound of the payload size.
    bytes: u64,
}

/// A tensor of values, and the inner codec's cost for it.
struct ValueCost {
    spec: TensorSpec,
    bytes: RangeInclusive<u64>,
}

/// Caches the last cost of the values. Most forms have the same values, and nested codecs would
/// otherwise ask each other exponentially often.
#[derive(Default)]
struct ValueCosts(Option<ValueCost>);

impl ValueCosts {
    /// Cost of `count` values in a form; `None` if the inner codec refuses them.
    fn of(&mut self, coder: &Coder<'_>, grid: &Grid, form: &dyn Form, count: usize) -> Option<&ValueCost> {
        let spec = coder.values_spec(grid, form, count).ok()?;
        if self.0.as_ref().is_none_or(|last| last.spec != spec) {
            let bytes = coder.inner.cost(&spec).bytes;
            self.0 = Some(ValueCost { spec, bytes });
        }
        self.0.as_ref()
    }
}

impl<'a> Coder<'a> {
    pub(crate) fn new(inner: &'a dyn Codec, forms: Vec<Box<dyn Form>>) -> Self {
        Self { inner, forms }
    }

    fn is_exact(&self) -> bool {
        self.inner.as_lossless().is_some()
    }

    /// Bytes besides positions and values.
    fn checksum_bytes(&self) -> u64 {
        if self.is_exact() { Payload::CHECKSUM_BYTES } else { 0 }
    }

    pub(crate) fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        if !self.is_exact() {
            spec.require_float()?;
        }
        self.inner.needs().require_nothing()?;
        self.inner.accepts(spec)
    }

    pub(crate) fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (grid, dense) = (Grid::new(spec), self.inner.cost(spec));
        let mut costs = ValueCosts::default();
        let all_zero = self.forms.iter().filter_map(|form| {
            let values = costs.of(self, &grid, &**form, 0)?;
            let positions = form.least_bytes(&grid) + self.checksum_bytes();
            Some(positions.saturating_add(*values.bytes.start()))
        });
        let least = all_zero.fold(*dense.bytes.start(), u64::min);
        let n = grid.units() as f64;
        // The mask, and the values before and after the inner codec.
        let scratch = (grid.units() / 8 + 2 * spec.byte_len()) as u64;
        let estimate = CostEstimate::between(least, *dense.bytes.end())
            .ops(dense.encode_ops + 2.0 * n, dense.decode_ops + n)
            .scratch(dense.scratch_bytes.saturating_add(scratch));
        dense.expected_rel_rmse.map_or(estimate.clone(), |error| estimate.rel_rmse(error))
    }

    pub(crate) fn encode(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let grid = Grid::new(tensor.spec());
        let mask = Mask::scan(tensor.bytes(), grid.width);
        cx.cancel.check()?;
        let dense = *self.inner.cost(tensor.spec()).bytes.end();
        let chosen = self.choose(&grid, &mask).filter(|chosen| chosen.bytes < dense);
        let sparse = chosen.map(|chosen| self.encode_sparse(&grid, &chosen, tensor, cx));
        let payload = match sparse {
            // The inner codec may accept the whole tensor although it refuses the values alone.
            Some(Err(e)) if e.is_refusal() => self.encode_dense(tensor, cx)?,
            Some(payload) => payload?,
            None => self.encode_dense(tensor, cx)?,
        };
        cx.progress.tick(tensor.spec().elements() as u64);
        Ok(payload)
    }

    /// The smallest form that can hold these units; `None` if no form can.
    fn choose<'m>(&'m self, grid: &Grid, mask: &'m Mask) -> Option<Chosen<'m>> {
        let (mut smallest, mut costs): (Option<Chosen<'m>>, _) = (None, ValueCosts::default());
        for form in &self.forms {
            let Some(stored) = form.stored(grid, mask) else { continue };
            let Some(ValueCost { spec, bytes }) = costs.of(self, grid, &**form, stored.ones()) else { continue };
            let (values, positions) = (spec.clone(), form.bytes(grid, &stored) + self.checksum_bytes());
            let bytes = positions.saturating_add(*bytes.end());
            if smallest.as_ref().is_none_or(|smallest| bytes < smallest.bytes) {
                smallest = Some(Chosen { form: &**form, stored, values, bytes });
            }
        }
        smallest
    }

    /// Spec of the values as a tensor; an error if the inner codec refuses it.
    fn values_spec(&self, grid: &Grid, form: &dyn Form, count: usize) -> Result<TensorSpec> {
        let spec = grid.values(form.values_shape(grid, count))?;
        self.inner.accepts(&spec)?;
        Ok(spec)
    }

    fn encode_sparse(
        &self,
        grid: &Grid,
        chosen: &Chosen<'_>,
        tensor: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Result<Payload> {
        let values = chosen.stored.gather(tensor.bytes(), grid.width);
        let values = TensorView::new(chosen.values.clone(), &values)?;
        if !self.is_exact() && first_non_finite(&values.to_f32()?).is_some() {
            // Reports the index in the whole tensor instead of the index among the values.
            tensor.to_finite_f32()?;
        }
        cx.cancel.check()?;
        let child = self.inner.encode(values.clone(), &cx.for_child(VALUES))?;
        let bound = self.bound(&values, &child, cx)?;
        cx.cancel.check()?;
        let payload = Payload::new(bound).with_scope(VALUES, child);
        let payload = chosen.form.write(grid, &chosen.stored, payload)?;
        if self.is_exact() { payload.with_checksum(tensor.bytes()) } else { Ok(payload) }
    }

    fn encode_dense(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let child = self.inner.encode(tensor.clone(), &cx.for_child(DENSE))?;
        let bound = self.bound(tensor, &child, cx)?;
        Ok(Payload::new(bound).with_scope(DENSE, child))
    }

    /// Bound of the inner codec's payload against its source.
    fn bound(&self, source: &TensorView<'_>, child: &Payload, cx: &EncodeCx<'_>) -> Result<Bound> {
        if self.is_exact() {
            return Ok(Bound::Exact);
        }
        let mut decoded = vec![0.0; source.spec().elements()];
        self.inner.decode(source.spec(), child.view(), &cx.decoding().for_child(), &mut decoded)?;
        Ok(Bound::measure(&source.to_f32()?, &decoded))
    }

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
        let Some((positions, values_spec)) = self.read(&Grid::new(spec), payload)? else {
            return self.inner.decode(spec, payload.scoped(DENSE), &cx.for_child(), out);
        };
        let values =
            |values: &mut [f32]| self.inner.decode(&values_spec, payload.scoped(VALUES), &cx.for_child(), values);
        let decoded = Decoded { payload, positions: &*positions, len: positions.count(), values: &values };
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
        let decoded = Decoded { payload, positions: &*positions, len: values_spec.byte_len(), values: &values };
        let mut checksum = Checksum::default();
        match grid.width {
            1 => decoded.place::<1>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            2 => decoded.place::<2>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            4 => decoded.place::<4>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
            _ => decoded.place::<8>(out, cx.cancel, |units| checksum.update(units.as_flattened()))?,
        }
        payload.verify(&checksum)
    }

    pub(crate) fn prepare(&self, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        spec.require_float()?;
        let kernel = self.inner.require_linear()?;
        let grid = Grid::new(spec);
        let Some((positions, values_spec)) = self.read(&grid, payload)? else {
            return kernel.prepare(spec, payload.scoped(DENSE));
        };
        check(&*positions, grid.units()).map_err(|e| in_scope(payload, e))?;
        let mut values = vec![0.0; positions.count()];
        self.inner.decode(&values_spec, payload.scoped(VALUES), &DecodeCx::new(), &mut values)?;
        Ok(Box::new(SparseLinear::new(grid, positions, values)))
    }
}

/// Positions, and a function that decodes the values: to f32 or to stored bytes.
struct Decoded<'a, T> {
    payload: &'a PayloadView<'a>,
    positions: &'a dyn Positions,
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
        let mut values = vec![T::zeroed(); self.len];
        (self.values)(&mut values)?;
        scatter(self.positions, as_units(&mut values), as_units(out), cancel, finished)
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

/// Implements the codec traits for a configuration with a field `inner` and a method `coder`.
macro_rules! sparse_codec {
    (#[$typetag:meta] $name:ident) => {
        #[$typetag]
        impl codec_api::Codec for $name {
            fn accepts(&self, spec: &codec_api::TensorSpec) -> codec_api::Result<()> {
                self.coder().accepts(spec)
            }

            fn chunking(&self, spec: &codec_api::TensorSpec) -> codec_api::Chunking {
                match self.inner.chunking(spec) {
                    codec_api::Chunking::Whole => codec_api::Chunking::Whole,
                    _ => codec_api::Chunking::Rows(std::num::NonZeroUsize::MIN),
                }
            }

            fn cost(&self, spec: &codec_api::TensorSpec) -> codec_api::CostEstimate {
                self.coder().cost(spec)
            }

            fn encode(
                &self,
                tensor: codec_api::TensorView<'_>,
                cx: &codec_api::EncodeCx<'_>,
            ) -> codec_api::Result<codec_api::Payload> {
                self.coder().encode(&tensor, cx)
            }

            fn decode(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
                cx: &codec_api::DecodeCx<'_>,
                out: &mut [f32],
            ) -> codec_api::Result<()> {
                if self.inner.as_lossless().is_some() {
                    return codec_api::decode_exact(self, spec, payload, cx, out);
                }
                self.coder().decode(spec, &payload, cx, out)
            }

            fn as_lossless(&self) -> Option<&dyn codec_api::Lossless> {
                self.inner.as_lossless().map(|_| self as &dyn codec_api::Lossless)
            }

            fn as_linear(&self) -> Option<&dyn codec_api::LinearKernel> {
                self.inner.as_linear().map(|_| self as &dyn codec_api::LinearKernel)
            }
        }

        impl codec_api::Lossless for $name {
            fn decode_bytes(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
                cx: &codec_api::DecodeCx<'_>,
                out: &mut [u8],
            ) -> codec_api::Result<()> {
                self.coder().decode_bytes(spec, &payload, cx, out)
            }
        }

        impl codec_api::LinearKernel for $name {
            fn prepare(
                &self,
                spec: &codec_api::TensorSpec,
                payload: codec_api::PayloadView<'_>,
            ) -> codec_api::Result<Box<dyn codec_api::LinearOp>> {
                self.coder().prepare(spec, &payload)
            }
        }
    };
}
pub(crate) use sparse_codec;
