//! Products of a tile of decoded rows with one vector.

use simd::{LANES, kernel, load, sum};

/// Number of rows multiplied together. Each row has its own chain of additions, and all rows share
/// the loads of the vector.
const TOGETHER: usize = 4;

kernel! {
    /// `y[r] = Σ rows[r][i]·x[i]` for each row of `x.len()` weights.
    pub(crate) fn dots<'a>(_simd, rows: &'a [f32], x: &'a [f32], y: &'a mut [f32]) {
        let columns = x.len();
        let (groups, rest) = y.as_chunks_mut::<TOGETHER>();
        let (full, last) = rows.split_at(groups.len() * TOGETHER * columns);
        for (rows, y) in full.chunks(TOGETHER * columns).zip(groups) {
            *y = dots_of(rows, x);
        }
        for (row, y) in last.chunks(columns).zip(rest) {
            [*y] = dots_of(row, x);
        }
    }
}

#[inline(always)]
fn dots_of<const ROWS: usize>(rows: &[f32], x: &[f32]) -> [f32; ROWS] {
    let mut sums = [[0.0; LANES]; ROWS];
    let mut places = [rows; ROWS];
    for (r, place) in places.iter_mut().enumerate() {
        *place = &rows[r * x.len()..][..x.len()];
    }
    let (blocks, rest) = x.as_chunks::<LANES>();
    for (i, x) in blocks.iter().enumerate() {
        for r in 0..ROWS {
            let w: [f32; LANES] = load(&places[r][i * LANES..]);
            for lane in 0..LANES {
                sums[r][lane] += w[lane] * x[lane];
            }
        }
    }
    if !rest.is_empty() {
        let x: [f32; LANES] = load(rest);
        for r in 0..ROWS {
            let w: [f32; LANES] = load(&places[r][blocks.len() * LANES..]);
            for lane in 0..LANES {
                sums[r][lane] += w[lane] * x[lane];
            }
        }
    }
    let mut results = [0.0; ROWS];
    for r in 0..ROWS {
        results[r] = sum(sums[r]);
    }
    results
}

kernel! {
    /// `y[i] += Σ rows[r][i]·x[r]` for rows of `y.len()` weights.
    pub(crate) fn add_rows<'a>(_simd, rows: &'a [f32], x: &'a [f32], y: &'a mut [f32]) {
        let columns = y.len();
        let (groups, rest) = x.as_chunks::<TOGETHER>();
        let (full, last) = rows.split_at(groups.len() * TOGETHER * columns);
        for (rows, x) in full.chunks(TOGETHER * columns).zip(groups) {
            add(rows, *x, y);
        }
        for (row, x) in last.chunks(columns).zip(rest) {
            add(row, [*x], y);
        }
    }
}

#[inline(always)]
fn add<const ROWS: usize>(rows: &[f32], x: [f32; ROWS], y: &mut [f32]) {
    let columns = y.len();
    let mut places = [rows; ROWS];
    for (r, place) in places.iter_mut().enumerate() {
        *place = &rows[r * columns..][..columns];
    }
    for (i, y) in y.iter_mut().enumerate() {
        let mut sum = *y;
        for r in 0..ROWS {
            sum += places[r][i] * x[r];
        }
        *y = sum;
    }
}
