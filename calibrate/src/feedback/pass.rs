//! The order of an encode: halves of halves, with a matrix product from each half to the next one.

use std::ops::Range;

use codec_api::{Cancel, PanelCut, PanelEncoder};

use super::Fed;
use super::tile::Tile;
use super::work::Work;
use crate::blocks::Blocks;
use crate::error::Result;
use crate::padded::Padded;

/// Rows and columns of a tile, if blocks are not larger.
pub(super) const TILE: usize = 32;

/// An encode with feedback.
pub(super) struct Pass<'a> {
    encoder: Box<dyn PanelEncoder + 'a>,
    cut: PanelCut,
    of_columns: Option<&'a Padded>,
    /// Transposed.
    of_rows: Option<&'a Padded>,
    work: Work,
    tile: Tile,
    cancel: &'a Cancel,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        encoder: Box<dyn PanelEncoder + 'a>,
        cut: PanelCut,
        of_columns: &'a Blocks,
        of_rows: &'a Blocks,
        work: Work,
        cancel: &'a Cancel,
    ) -> Self {
        let (of_columns, of_rows) = (of_columns.unit.as_ref(), of_rows.unit.as_ref());
        Self { encoder, cut, of_columns, of_rows, work, tile: Tile::default(), cancel }
    }

    /// Encodes all.
    pub(super) fn run(mut self) -> Result<Fed> {
        if self.work.columns > 0 {
            self.panels(0..self.work.columns)?;
        }
        Ok(Fed { payload: self.encoder.finish()?, decoded: self.work.decoded() })
    }

    /// Encodes some panels, whose targets have the feedback of all earlier ones.
    fn panels(&mut self, columns: Range<usize>) -> Result<()> {
        let Some((first, second)) = halves(&columns, self.cut.panel.get()) else {
            self.encoder.start(&self.work.targets(&columns))?;
            return self.part(0..self.work.rows, columns);
        };
        let rows = 0..self.work.rows;
        self.panels(first.clone())?;
        if let Some(unit) = self.of_columns {
            self.work.feed_columns(unit, &rows, &first, &second);
        }
        self.panels(second)
    }

    /// Encodes a part of a panel, whose targets have the feedback of all weights to its left and
    /// above it.
    fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<()> {
        let by_rows = halves(&rows, tiles_of(self.cut.rows.get()));
        let by_columns = halves(&columns, tiles_of(self.cut.columns.get()));
        match (by_rows, by_columns) {
            (Some((first, second)), by_columns) if rows.len() >= columns.len() || by_columns.is_none() => {
                self.part(first.clone(), columns.clone())?;
                if let Some(turned) = self.of_rows {
                    self.work.feed_rows(turned, &first, &second, &columns);
                }
                self.part(second, columns)
            }
            (_, Some((first, second))) => {
                self.part(rows.clone(), first.clone())?;
                if let Some(unit) = self.of_columns {
                    self.work.feed_columns(unit, &rows, &first, &second);
                }
                self.part(rows, second)
            }
            _ => {
                self.cancel.check()?;
                self.work.load(&rows, &columns, &mut self.tile.matrices);
                let (by_rows, by_columns) = ((&rows, self.of_rows), (&columns, self.of_columns));
                self.tile.encode(&mut *self.encoder, self.cut, by_rows, by_columns)?;
                self.work.store(&rows, &columns, &self.tile.matrices);
                Ok(())
            }
        }
    }
}

/// Length of a tile of blocks of this length.
fn tiles_of(block: usize) -> usize {
    block * (TILE / block).max(1)
}

/// `range` in two, the first part of which is a power of two times `unit` and at least as long as
/// the second one; `None` if it is no longer than `unit`.
fn halves(range: &Range<usize>, unit: usize) -> Option<(Range<usize>, Range<usize>)> {
    let units = range.len().div_ceil(unit);
    let middle = range.start + unit * (units.next_power_of_two() / 2);
    (units > 1).then_some((range.start..middle, middle..range.end))
}
