//! Transposed matrices.

/// Transposes a row-major matrix of `(rows, columns)`. `from` and `to` have all its elements.
///
/// # Panics
/// If one of them has fewer.
pub fn transpose<T: Copy>((rows, columns): (usize, usize), from: &[T], to: &mut [T]) {
    // The cache lines of a tile fit in the first-level cache, for both matrices.
    const TILE: usize = 32;
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        let bottom = (top + TILE).min(rows);
        for column in left..(left + TILE).min(columns) {
            let out = &mut to[column * rows + top..column * rows + bottom];
            for (row, out) in (top..bottom).zip(out) {
                *out = from[row * columns + column];
            }
        }
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
