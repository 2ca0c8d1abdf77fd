//! The common coder of all sparse codecs: positions in one of several forms, values through the
//! inner codec.

mod decode;

use std::borrow::Cow;
use std::ops::RangeInclusive;

use codec_api::util::first_non_finite;
use codec_api::{Codec, CostEstimate, EncodeCx, Payload, Result, TensorSpec, TensorView};

use crate::form::Form;
use crate::grid::Grid;
use crate::mask::Mask;

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
        // The mask and the mask with fillers, or 16 bytes for each 64 units (where rows start); and
        // the values as stored bytes or as f32.
        let values = spec.byte_len().max(if spec.is_float() { 4 * spec.elements() } else { 0 });
        let scratch = (grid.units() / 4 + values) as u64;
        let mut estimate = CostEstimate::between(least, *dense.bytes.end())
            .ops(dense.encode_ops + 2.0 * n, dense.decode_ops + n)
            .scratch(dense.scratch_bytes.saturating_add(scratch));
        estimate.expected_rel_rmse = dense.expected_rel_rmse;
        estimate
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
        let child = self.inner.encode(values, &cx.for_child(VALUES))?;
        cx.cancel.check()?;
        let payload = Payload::new().with_scope(VALUES, child)?;
        let payload = chosen.form.write(grid, &chosen.stored, payload)?;
        if self.is_exact() { payload.with_checksum(tensor.bytes()) } else { Ok(payload) }
    }

    fn encode_dense(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        Payload::new().with_scope(DENSE, self.inner.encode(tensor.clone(), &cx.for_child(DENSE))?)
    }
}

/// Implements the codec traits for a configuration with a field `inner` and a method `coder`.
macro_rules! sparse_codec {
    (#[$typetag:meta] $name:ident) => {
        const _: () = {
            use std::num::NonZeroUsize;

            use codec_api::{
                Chunking, CostEstimate, DecodeCx, EncodeCx, LinearKernel, LinearOp, Lossless, PayloadView, RowReader,
                Rows, TensorSpec, TensorView,
            };

            #[$typetag]
            impl Codec for $name {
                fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
                    vec![("inner", &*self.inner)]
                }

                fn accepts(&self, spec: &TensorSpec) -> Result<()> {
                    self.coder().accepts(spec)
                }

                fn chunking(&self, spec: &TensorSpec) -> Chunking {
                    match self.inner.chunking(spec) {
                        // Chunks would not share the statistics of the values.
                        Chunking::Rows(_) if self.inner.as_surveyed().is_none() => Chunking::Rows(NonZeroUsize::MIN),
                        _ => Chunking::Whole,
                    }
                }

                fn cost(&self, spec: &TensorSpec) -> CostEstimate {
                    self.coder().cost(spec)
                }

                fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
                    self.coder().encode(&tensor, cx)
                }

                fn decode(
                    &self,
                    spec: &TensorSpec,
                    payload: PayloadView<'_>,
                    cx: &DecodeCx<'_>,
                    out: &mut [f32],
                ) -> Result<()> {
                    if self.inner.as_lossless().is_some() {
                        return codec_api::util::decode_exact(self, spec, payload, cx, out);
                    }
                    self.coder().decode(spec, &payload, cx, out)
                }

                fn as_lossless(&self) -> Option<&dyn Lossless> {
                    self.inner.as_lossless().map(|_| self as &dyn Lossless)
                }

                fn as_rows(&self) -> Option<&dyn Rows> {
                    Some(self)
                }

                fn as_linear(&self) -> Option<&dyn LinearKernel> {
                    let multiplies = self.inner.as_linear().is_some() || self.inner.as_rows().is_some();
                    multiplies.then_some(self)
                }
            }

            impl Lossless for $name {
                fn decode_bytes(
                    &self,
                    spec: &TensorSpec,
                    payload: PayloadView<'_>,
                    cx: &DecodeCx<'_>,
                    out: &mut [u8],
                ) -> Result<()> {
                    self.coder().decode_bytes(spec, &payload, cx, out)
                }
            }

            impl Rows for $name {
                fn open(
                    &self,
                    spec: &TensorSpec,
                    payload: PayloadView<'_>,
                    cx: &DecodeCx<'_>,
                ) -> Result<Box<dyn RowReader>> {
                    self.coder().open(spec, &payload, cx)
                }
            }

            impl LinearKernel for $name {
                fn prepare(
                    &self,
                    spec: &TensorSpec,
                    payload: PayloadView<'_>,
                    cx: &DecodeCx<'_>,
                ) -> Result<Box<dyn LinearOp>> {
                    self.coder().prepare(spec, &payload, cx)
                }
            }
        };
    };
}
pub(crate) use sparse_codec;
