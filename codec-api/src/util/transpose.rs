//! Transposed matrices.

/// Transposes a row-major matrix of `(rows, columns)`. `from` and `to` have all its elements.
///
/// # Panics
/// If one of them has fewer.
pub fn transpose<T: Copy>((rows, columns): (usize, usize), from: &[T], to: &mut [T]) {
    // The cache lines of a tile fit in the first-level cache, for both matrices.
    const TILE: usize = 32;
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        let (bottom, right) = ((top + TILE).min(rows), (left + TILE).min(columns));
        let (whole_rows, whole_columns) = (top + (bottom - top) / BLOCK * BLOCK, left + (right - left) / BLOCK * BLOCK);
        for row in (top..whole_rows).step_by(BLOCK) {
            for column in (left..whole_columns).step_by(BLOCK) {
                transpose_block((rows, columns), (row, column), from, to);
            }
        }
        for column in left..right {
            let first = if column < whole_columns { whole_rows } else { top };
            for row in first..bottom {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
}

/// Rows and columns of a block, which fits into registers.
const BLOCK: usize = 8;

#[inline(always)]
fn transpose_block<T: Copy>((rows, columns): (usize, usize), (row, column): (usize, usize), from: &[T], to: &mut [T]) {
    let mut block = [[from[row * columns + column]; BLOCK]; BLOCK];
    for (i, values) in block.iter_mut().enumerate() {
        values.copy_from_slice(&from[(row + i) * columns + column..][..BLOCK]);
    }
    for i in 0..BLOCK {
        let mut turned = block[0];
        for j in 0..BLOCK {
            turned[j] = block[j][i];
        }
        to[(column + i) * rows + row..][..BLOCK].copy_from_slice(&turned);
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
        }
    }
}
