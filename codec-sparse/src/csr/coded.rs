//! Compressed sparse rows with entropy-coded gaps.

use codec_api::{CodecError, Payload, PayloadView, Result, Section};
use entropy::plane::{self, Known};

use super::gap::{COUNTS, Counts, Gap, Rows, lay_out};
use crate::form::{Form, Positions};
use crate::grid::Grid;
use crate::mask::Mask;

const CODED_GAPS: &str = "coded_gaps";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Coded;

impl Form for Coded {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        Gap.least_bytes(grid)
    }

    /// An upper bound: without a model that saves bytes, one flag byte precedes the raw gaps. Only
    /// coding would show the saving.
    fn bytes(&self, grid: &Grid, stored: &Mask) -> u64 {
        Gap.bytes(grid, stored) + 1
    }

    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let (payload, gaps) = lay_out(grid, stored, payload)?;
        let coded = plane::encode(&gaps, Known::default()).map_err(CodecError::codec)?;
        payload.with(CODED_GAPS, Section::from_bytes(coded)?)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(CODED_GAPS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let counts = Counts::read(grid, payload)?;
        // Checked before memory is allocated: each gap covers at least one unit.
        if counts.total > grid.units() as u64 {
            let reason = format!("they add up to {}, and there are {} elements", counts.total, grid.units());
            return Err(payload.corrupt(COUNTS, reason));
        }
        let coded = payload.byte_section(CODED_GAPS)?;
        let gaps = plane::decoded(coded, Known::default(), counts.total as usize);
        let gaps = gaps.map_err(|e| payload.corrupt(CODED_GAPS, e.to_string()))?;
        Ok(Box::new(Rows::new(grid, counts, gaps.into())))
    }
}
