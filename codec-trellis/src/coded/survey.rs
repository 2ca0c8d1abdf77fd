//! One step for all chunks of a tensor.
//!
//! The first pass finds what scales the weights, the second the energy of each row. The third
//! collects the weights of a sample of rows, in which the step is searched as in a tensor.

use codec_api::{
    Cancel, CodecError, Dtype, EncodeCx, Pass, Payload, Result, Shared, Statistics, Surveyed, TensorSpec, TensorView,
};

use super::config::{Target, Trellis};
use super::encode::{Coding, Contexts};
use super::exponent::Exponent;
use super::inputs::{Inputs, plane_of};
use super::metric::RateDistortion;
use super::quantise::{Plan, Rooms, Source, run};
use super::search::{Search, budget};
use super::segments::Segments;

/// Weights of the sample, if the tensor has as many.
const SAMPLE: usize = 1 << 21;

/// Fewest rows of the sample, even if they are so long that it has more weights.
const LEAST_ROWS: usize = 32;

/// What the encode of a chunk uses of the whole tensor, besides its step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whole {
    /// Rows and columns of the matrix view.
    pub rows: usize,
    pub columns: usize,
    /// The largest magnitude.
    pub largest: f32,
    /// The largest mean square of an input; 0 without calibration.
    pub importance: f32,
}

impl Whole {
    /// Of a tensor or a chunk alone.
    pub(super) fn of(values: &[f32], spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Self> {
        let (rows, columns) = spec.matrix();
        let squares = cx.calibration_of(spec)?.map_or(&[][..], |calibration| calibration.mean_squares);
        let importance = squares.iter().copied().filter(|h| h.is_finite()).fold(0.0, f32::max);
        Ok(Self { rows, columns, largest: simd::max_abs(values), importance })
    }

    pub(super) fn weights(&self) -> usize {
        self.rows * self.columns
    }

    fn joined(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            columns: self.columns.max(other.columns),
            largest: self.largest.max(other.largest),
            importance: self.importance.max(other.importance),
        }
    }

    fn scalars(self) -> Vec<f64> {
        vec![self.rows as f64, self.columns as f64, self.largest.into(), self.importance.into()]
    }

    /// Reads [`Self::scalars`]. Also returns the scalars after them.
    fn read(scalars: &[f64]) -> Result<(Self, &[f64])> {
        let (&[rows, columns, largest, importance], rest) = scalars.split_first_chunk().ok_or_else(foreign)?;
        let (rows, columns) = (rows as usize, columns as usize);
        Ok((Self { rows, columns, largest: largest as f32, importance: importance as f32 }, rest))
    }
}

#[cold]
fn foreign() -> CodecError {
    CodecError::Usage("the shared statistics are not those of `trellis`".to_owned())
}

impl Surveyed for Trellis {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        cx.cancel.check()?;
        let (values, spec) = (chunk.to_finite_f32()?, chunk.spec());
        let Some(shared) = cx.shared_of(spec)? else {
            return Ok(Statistics::new(Whole::of(&values, spec, cx)?.scalars(), Vec::new()));
        };
        let (whole, power) = Whole::read(shared.scalars)?;
        let source = Source::new(&values, spec, &whole, cx)?;
        let row = |row: usize| source.scaled(row * source.columns..(row + 1) * source.columns);
        let mut scalars = shared.scalars.to_vec();
        if power.is_empty() {
            let energy = |i| row(i).iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
            return Ok(Statistics::new(scalars, (0..spec.matrix().0).map(energy).collect()));
        }
        let inputs = source.inputs.as_ref();
        scalars.push(inputs.map_or(0, Inputs::bytes_of_columns) as f64);
        for (i, _) in shared.rows.iter().enumerate().filter(|(_, taken)| **taken > 0.0) {
            scalars.push(inputs.map_or(0, |inputs| inputs.code_of_row(i)).into());
            scalars.extend(row(i).iter().map(|w| f64::from(*w)));
        }
        Ok(Statistics::new(scalars, Vec::new()))
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let Some(first) = chunks.first() else { return Ok(Pass::Last(Statistics::default())) };
        match pass {
            0 => {
                let wholes = chunks.iter().map(|chunk| Ok(Whole::read(&chunk.scalars)?.0));
                let whole = wholes.reduce(|a, b| Ok(a?.joined(b?))).transpose()?.unwrap_or_default();
                Ok(Pass::Next(Statistics::new(whole.scalars(), Vec::new())))
            }
            1 => {
                let (mut scalars, whole) = (first.scalars.clone(), Whole::read(&first.scalars)?.0);
                let energies = chunks.iter().flat_map(|chunk| chunk.rows.iter().copied()).collect::<Vec<_>>();
                scalars.push(energies.iter().sum::<f64>() / whole.weights().max(1) as f64);
                Ok(Pass::Next(Statistics::new(scalars, sample_of(&energies, whole.columns))))
            }
            _ => {
                let (whole, rest) = Whole::read(&first.scalars)?;
                let (&[power, inputs], rest) = rest.split_first_chunk().ok_or_else(foreign)?;
                let before = first.scalars.len() - rest.len();
                let (mut sample, mut codes) = (Vec::new(), Vec::new());
                let rows = chunks.iter().flat_map(|chunk| chunk.scalars[before..].chunks_exact(1 + whole.columns));
                for row in rows {
                    codes.push(row[0] as u8);
                    sample.extend(row[1..].iter().map(|w| *w as f32));
                }
                let plan = self.plan_of(sample, &whole, power, inputs + bytes_of_rows(&codes, whole.rows)?)?;
                Ok(Pass::Last(Statistics::new([whole.scalars(), plan_scalars(plan)].concat(), Vec::new())))
            }
        }
    }

    fn chunks_equal_whole(&self) -> bool {
        false
    }
}

/// Marks the rows of the sample with 1 and the others with 0. The sample has the middles of equal
/// parts of all rows in the order of their energies.
fn sample_of(energies: &[f64], columns: usize) -> Vec<f64> {
    let rows = energies.len();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|a, b| energies[*a].total_cmp(&energies[*b]));
    let picks = SAMPLE.div_ceil(columns.max(1)).max(LEAST_ROWS).min(rows);
    let mut taken = vec![0.0; rows];
    for pick in 0..picks {
        taken[order[(2 * pick + 1) * rows / (2 * picks)]] = 1.0;
    }
    taken
}

/// Bytes of the factors of all rows if rows are inputs, from the codes of some.
fn bytes_of_rows(codes: &[u8], rows: usize) -> Result<f64> {
    let used = codes.iter().any(|code| *code > 0);
    Ok(if used { (plane_of(codes)?.len() * rows) as f64 / codes.len() as f64 } else { 0.0 })
}

/// The step and the costs of multiples, if it has them; a step of 0 for no plan.
fn plan_scalars(plan: Option<Plan>) -> Vec<f64> {
    let step = plan.map_or(0.0, |plan| plan.step);
    let costs = plan.and_then(|plan| plan.metric).map(|metric| metric.numbers().map(f64::from).collect::<Vec<_>>());
    [vec![f64::from(step)], costs.unwrap_or_default()].concat()
}

impl Trellis {
    /// Reads [`plan_scalars`].
    fn read_plan(&self, scalars: &[f64]) -> Result<Option<Plan>> {
        let (&step, costs) = scalars.split_first().ok_or_else(foreign)?;
        if step == 0.0 {
            return Ok(None);
        }
        let costs: Vec<f32> = costs.iter().map(|n| *n as f32).collect();
        let metric =
            if costs.is_empty() { None } else { Some(RateDistortion::of_numbers(&costs).ok_or_else(foreign)?) };
        Ok(Some(Plan { states: self.states.get(), step: step as f32, metric }))
    }

    /// The plan for a tensor, from whole rows of it. The factors of inputs take `inputs` bytes.
    fn plan_of(&self, sample: Vec<f32>, whole: &Whole, power: f64, inputs: f64) -> Result<Option<Plan>> {
        if sample.is_empty() {
            return Ok(None);
        }
        let spec = TensorSpec::new(Dtype::F32, [sample.len() / whole.columns, whole.columns])?;
        let share = sample.len() as f64 / whole.weights() as f64;
        let most = if let Target::Bits(bits) = self.target { budget(bits, whole.weights()) as f64 } else { f64::MAX };
        let source = Source {
            weights: sample.into(),
            columns: whole.columns,
            segments: Segments::of(&spec),
            exponent: Exponent::of(whole.largest),
            inputs: None,
        };
        let contexts = Contexts::of(&source.squares(&Cancel::new())?)?;
        let cx = EncodeCx::new(0);
        let mut search = Search::new(self, &source, contexts.as_ref(), whole, power, &cx);
        Ok(search.run((most - inputs) * share)?.map(|tried| tried.found.plan))
    }

    /// The payload of a chunk with the step of its tensor. `None` as [`Self::encode_values`].
    pub(super) fn encode_chunk(
        &self,
        values: &[f32],
        spec: &TensorSpec,
        shared: Shared<'_>,
        cx: &EncodeCx<'_>,
    ) -> Result<Option<Payload>> {
        let (whole, plan) = Whole::read(shared.scalars)?;
        let Some(plan) = self.read_plan(plan)? else { return Ok(None) };
        let source = Source::new(values, spec, &whole, cx)?;
        let contexts = Contexts::of(&source.squares(cx.cancel)?)?;
        let found = run(&source, plan, 1, &mut Rooms::default(), cx.cancel)?;
        let coding = Coding::best(&found, source.segments, contexts.as_ref());
        coding.map(|coding| coding.payload(&source, &found, cx)).transpose()
    }
}
