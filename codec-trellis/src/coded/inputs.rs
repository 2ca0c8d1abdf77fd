//! Finer quantisation of the weights of important inputs.

use codec_api::{CodecError, EncodeCx, Importance, Payload, PayloadView, Result, Section, TensorSpec};
use entropy::plane::{self, Known};

/// Factors per octave.
const PER_OCTAVE: f64 = 8.0;

/// A factor for each input; weights are multiplied by it before quantisation.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    /// Whether the inputs belong to rows.
    rows: bool,
    /// A code `c` means the factor `2^(−c/8)`.
    codes: Vec<u8>,
    /// The codes as in a payload; empty if they were read from one.
    plane: Vec<u8>,
}

/// Fewest weights per input for which its factor gains more than it costs.
const WORTH: usize = 64;

impl Inputs {
    /// From the mean squares of calibration: the factor is the square root of the input's
    /// importance. `None` without calibration, or if inputs have few weights.
    pub(super) fn of(cx: &EncodeCx<'_>, spec: &TensorSpec) -> Result<Option<Self>> {
        let Some(importance) = Importance::new(spec, cx)? else { return Ok(None) };
        let inputs = importance.inputs();
        if spec.elements() < WORTH * inputs.len() {
            return Ok(None);
        }
        let code = |h: &f32| libm::round(-0.5 * PER_OCTAVE * libm::log2(f64::from(*h))) as u8;
        let codes: Vec<u8> = inputs.iter().map(code).collect();
        let plane = plane::encode(&codes, Known::default()).map_err(CodecError::codec)?;
        Ok(Some(Self { rows: importance.axis() == 0, codes, plane }))
    }

    pub(super) fn write(&self, payload: Payload) -> Result<Payload> {
        Ok(payload.with(if self.rows { ROWS } else { COLUMNS }, Section::from_bytes(self.plane.clone())?))
    }

    pub(super) fn read(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Option<Self>> {
        let rows = payload.has(ROWS);
        if !rows && !payload.has(COLUMNS) {
            return Ok(None);
        }
        let (name, len) = if rows { (ROWS, spec.matrix().0) } else { (COLUMNS, spec.matrix().1) };
        let plane = payload.byte_section(name)?;
        let codes = plane::decoded(plane, Known::default(), len).map_err(|e| payload.corrupt(name, e.to_string()))?;
        Ok(Some(Self { rows, codes, plane: Vec::new() }))
    }

    /// Multiplies weights by their factors, or by the inverse. The weights begin at the flat index
    /// `first` of a matrix with `columns` columns.
    pub(super) fn multiply(&self, first: usize, columns: usize, inverse: bool, weights: &mut [f32]) {
        let sign = if inverse { 1.0 } else { -1.0 };
        let factors: [f32; 256] = std::array::from_fn(|code| libm::exp2(sign * code as f64 / PER_OCTAVE) as f32);
        let factor = |code: u8| factors[usize::from(code)];
        let mut column = first % columns;
        let mut rest = weights;
        for row in first / columns.. {
            let (now, after) = rest.split_at_mut((columns - column).min(rest.len()));
            if now.is_empty() {
                break;
            }
            if self.rows {
                let f = factor(self.codes[row]);
                for w in now {
                    *w *= f;
                }
            } else {
                now.iter_mut().zip(&self.codes[column..]).for_each(|(w, code)| *w *= factor(*code));
            }
            (rest, column) = (after, 0);
        }
    }

    /// Bytes of the section.
    pub(super) fn bytes(&self) -> usize {
        self.plane.len()
    }
}

const ROWS: &str = "input_rows";
const COLUMNS: &str = "input_columns";
