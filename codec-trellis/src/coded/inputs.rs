//! Finer quantisation of the weights of important inputs.

use codec_api::util::relative_importance;
use codec_api::{CodecError, EncodeCx, InputAxis, Payload, PayloadView, Result, Section, TensorSpec};
use entropy::plane::{self, Known};

use super::survey::Whole;

/// Factors per octave.
const PER_OCTAVE: f64 = 8.0;

/// A factor for each input: that of its weights before quantisation, or, if it was read from a
/// payload, the inverse. A code `c` means `2^(−c/8)`.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    axis: InputAxis,
    factors: Vec<f32>,
    /// The codes as in a payload; empty if they were read from one.
    plane: Vec<u8>,
}

/// Fewest weights per input for which its factor gains more than it costs.
const WORTH: usize = 64;

impl Inputs {
    /// From the mean squares of calibration: the factor is the square root of the input's
    /// importance in the whole tensor. `None` without calibration, or if inputs have few weights
    /// there.
    pub(super) fn of(cx: &EncodeCx<'_>, spec: &TensorSpec, whole: &Whole) -> Result<Option<Self>> {
        let Some(calibration) = cx.calibration_of(spec)? else { return Ok(None) };
        let axis = calibration.axis;
        if WORTH > if axis == InputAxis::Rows { whole.columns } else { whole.rows } {
            return Ok(None);
        }
        // The importance is relative to the largest one, which other rows may have.
        let mut inputs = [calibration.mean_squares, &[whole.importance]].concat();
        relative_importance(&mut inputs);
        inputs.pop();
        let codes: Vec<u8> = inputs.iter().copied().map(code).collect();
        Ok(Some(Self { axis, factors: factors(&codes, -1.0), plane: plane_of(&codes)? }))
    }

    /// The code of a row before quantisation; 0 if columns are inputs.
    pub(super) fn code_of_row(&self, row: usize) -> u8 {
        if self.axis == InputAxis::Rows { code(self.factors[row].powi(2)) } else { 0 }
    }

    /// Bytes of the section if columns are inputs.
    pub(super) fn bytes_of_columns(&self) -> usize {
        if self.axis == InputAxis::Columns { self.plane.len() } else { 0 }
    }

    pub(super) fn write(&self, payload: Payload) -> Result<Payload> {
        let name = if self.axis == InputAxis::Rows { ROWS } else { COLUMNS };
        payload.with(name, Section::from_bytes(self.plane.clone())?)
    }

    pub(super) fn read(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Option<Self>> {
        let (rows, columns) = spec.matrix();
        let (axis, name, len) = if payload.has(ROWS) {
            (InputAxis::Rows, ROWS, rows)
        } else if payload.has(COLUMNS) {
            (InputAxis::Columns, COLUMNS, columns)
        } else {
            return Ok(None);
        };
        let plane = payload.byte_section(name)?;
        let codes = plane::decoded(plane, Known::default(), len).map_err(|e| payload.corrupt(name, e.to_string()))?;
        Ok(Some(Self { axis, factors: factors(&codes, 1.0), plane: Vec::new() }))
    }

    /// Multiplies weights by their factors. The weights begin at the flat index `first` of a matrix
    /// with `columns` columns.
    pub(super) fn multiply(&self, first: usize, columns: usize, weights: &mut [f32]) {
        let mut column = first % columns;
        let mut rest = weights;
        for row in first / columns.. {
            let (now, after) = rest.split_at_mut((columns - column).min(rest.len()));
            if now.is_empty() {
                break;
            }
            match self.axis {
                InputAxis::Rows => now.iter_mut().for_each(|w| *w *= self.factors[row]),
                InputAxis::Columns => now.iter_mut().zip(&self.factors[column..]).for_each(|(w, f)| *w *= f),
            }
            (rest, column) = (after, 0);
        }
    }

    /// Bytes of the section.
    pub(super) fn bytes(&self) -> usize {
        self.plane.len()
    }

    /// Heap bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        size_of_val(&*self.factors) + self.plane.len()
    }
}

/// The code of an importance.
fn code(importance: f32) -> u8 {
    libm::round(-0.5 * PER_OCTAVE * libm::log2(f64::from(importance))) as u8
}

/// The section of these codes.
pub(super) fn plane_of(codes: &[u8]) -> Result<Vec<u8>> {
    plane::encode(codes, Known::default()).map_err(CodecError::codec)
}

/// The factors of codes; `sign` is 1 for the inverse.
fn factors(codes: &[u8], sign: f64) -> Vec<f32> {
    let factors: [f32; 256] = std::array::from_fn(|code| libm::exp2(sign * code as f64 / PER_OCTAVE) as f32);
    codes.iter().map(|code| factors[usize::from(*code)]).collect()
}

const ROWS: &str = "input_rows";
const COLUMNS: &str = "input_columns";
