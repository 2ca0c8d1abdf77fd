//! Products of a tile of decoded rows with one vector.

use simd::{LANES, Simd, kernel, lanes, load, sum};

/// Rows that are added together: they share the loads and stores of the output.
const TOGETHER: usize = 4;

kernel! {
    /// `y[r] = Σ rows[r][i]·x[i]` for each row of `x.len()` weights.
    pub(crate) fn dots<'a>(simd, rows: &'a [f32], x: &'a [f32], y: &'a mut [f32]) {
        for (row, y) in rows.chunks(x.len().max(1)).zip(y) {
            *y = dot(simd, row, x);
        }
    }
}

/// A product with four times sixteen partial sums, so that an addition need not wait for the one
/// before.
#[inline(always)]
fn dot<S: Simd>(simd: S, row: &[f32], x: &[f32]) -> f32 {
    let add = |sums: &[f32; LANES], a: &[f32; LANES], b: &[f32; LANES]| simd.add(sums, &lanes!(i => a[i] * b[i]));
    let ((row, last_row), (x, last_x)) = (row[..x.len()].as_chunks(), x.as_chunks());
    let ((row, rest_row), (x, rest_x)) = (row.as_chunks(), x.as_chunks());
    let (mut a, mut b, mut c, mut d) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ([row0, row1, row2, row3], [x0, x1, x2, x3]) in row.iter().zip(x) {
        a = add(&a, row0, x0);
        b = add(&b, row1, x1);
        c = add(&c, row2, x2);
        d = add(&d, row3, x3);
    }
    for (row, x) in rest_row.iter().zip(rest_x) {
        a = add(&a, row, x);
    }
    a = add(&a, &load(last_row), &load(last_x));
    sum(simd.add(&simd.add(&a, &b), &simd.add(&c, &d)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_plain_sums() {
        for (rows, columns) in [(1, 1), (3, 5), (4, 16), (9, 37)] {
            let w: Vec<f32> = (0..rows * columns).map(|i| (i % 7) as f32 - 3.0).collect();
            let x: Vec<f32> = (0..rows.max(columns)).map(|i| (i % 5) as f32 - 2.0).collect();
            let (mut y, mut z) = (vec![0.0; rows], vec![1.0; columns]);
            dots(&w, &x[..columns], &mut y);
            add_rows(&w, &x[..rows], &mut z);
            for (r, y) in y.iter().enumerate() {
                assert_eq!(*y, (0..columns).map(|c| w[r * columns + c] * x[c]).sum::<f32>());
            }
            for (c, z) in z.iter().enumerate() {
                assert_eq!(*z, (0..rows).map(|r| w[r * columns + c] * x[r]).sum::<f32>() + 1.0);
            }
        }
    }
}
