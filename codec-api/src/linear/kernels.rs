//! Products of a tile of decoded rows with one vector.

use simd::kernel;

/// Rows that are added together: they share the loads and stores of the output.
const TOGETHER: usize = 4;

/// `y[r] = Σ rows[r][i]·x[i]` for each row of `x.len()` weights.
pub(crate) fn dots(rows: &[f32], x: &[f32], y: &mut [f32]) {
    for (row, y) in rows.chunks(x.len().max(1)).zip(y) {
        *y = simd::dot(row, x);
    }
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
