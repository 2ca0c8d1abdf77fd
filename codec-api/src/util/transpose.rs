//! Transposed matrices.

/// Transposes a row-major matrix of `(rows, columns)`. `from` and `to` have all its elements.
///
/// # Panics
/// If one of them has fewer.
pub fn transpose<T: Copy>((rows, columns): (usize, usize), from: &[T], to: &mut [T]) {
    transpose_to((rows, columns), from, to, rows);
}

/// As [`transpose`]; each row of `to` begins `stride` elements after the one before.
///
/// # Panics
/// If `from` or `to` has too few elements.
pub fn transpose_to<T: Copy>((rows, columns): (usize, usize), from: &[T], to: &mut [T], stride: usize) {
    // The cache lines of a tile fit in the first-level cache, for both matrices.
    const TILE: usize = 32;
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        let (bottom, right) = ((top + TILE).min(rows), (left + TILE).min(columns));
        let (whole_rows, whole_columns) = (top + (bottom - top) / BLOCK * BLOCK, left + (right - left) / BLOCK * BLOCK);
        for row in (top..whole_rows).step_by(BLOCK) {
            for column in (left..whole_columns).step_by(BLOCK) {
                transpose_block(&from[row * columns + column..], columns, &mut to[column * stride + row..], stride);
            }
        }
        for column in left..right {
            let first = if column < whole_columns { whole_rows } else { top };
            for row in first..bottom {
                to[column * stride + row] = from[row * columns + column];
            }
        }
    }
}

/// Rows and columns of a block, which fits into registers.
const BLOCK: usize = 8;

/// Transposes a block, with so many elements from one row to the next.
#[inline(always)]
fn transpose_block<T: Copy>(from: &[T], width: usize, to: &mut [T], stride: usize) {
    let mut block = [[from[0]; BLOCK]; BLOCK];
    for (i, values) in block.iter_mut().enumerate() {
        values.copy_from_slice(&from[i * width..][..BLOCK]);
    }
    for i in 0..BLOCK {
        let mut turned = block[0];
        for j in 0..BLOCK {
            turned[j] = block[j][i];
        }
        to[i * stride..][..BLOCK].copy_from_slice(&turned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        for (rows, columns) in [(0, 3), (1, 1), (2, 3), (31, 33), (70, 5), (64, 64)] {
            let from: Vec<usize> = (0..rows * columns).collect();
            let mut to = vec![usize::MAX; from.len()];
            transpose((rows, columns), &from, &mut to);
            for (i, value) in to.iter().enumerate() {
                assert_eq!(*value, i % rows * columns + i / rows);
            }
            let mut apart = vec![usize::MAX; columns * (rows + 2)];
            transpose_to((rows, columns), &from, &mut apart, rows + 2);
            for (i, row) in apart.chunks(rows + 2).enumerate() {
                assert_eq!(row[..rows], to[i * rows..][..rows]);
                assert_eq!(row[rows..], [usize::MAX; 2]);
            }
        }
    }
}
