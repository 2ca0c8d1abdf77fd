//! `delta.sign` against theory.

use codec_api::{CodecError, Section};

use crate::support::{decoded, delta_error, encoded, fine_tuned, relative_error, round_trip, with};

/// √(1 − 2/π): relative error of signs with the best scale on a normally distributed difference.
const GAUSSIAN: f64 = 0.602_81;

/// A difference from a base of zeros; its magnitudes have rank one and its signs are irregular.
fn rank_one(rows: usize, columns: usize) -> Vec<f32> {
    let scale = |i: usize, n: usize| 0.01 + (i * 37 % n) as f32 / n as f32;
    let signs = fine_tuned(rows * columns, 1.0).1;
    let magnitudes = (0..rows * columns).map(|i| scale(i / columns, rows) * scale(i % columns, columns));
    magnitudes.zip(signs).map(|(m, s)| m.copysign(s)).collect()
}

#[test]
fn magnitudes_of_rank_one_come_back() {
    for (rows, columns) in [(64, 100), (16, 32), (300, 33)] {
        let (values, base) = (rank_one(rows, columns), vec![0.0; rows * columns]);
        let (_, decoded) = round_trip("delta.sign", &[rows, columns], &values, &base);
        let error = delta_error(&values, &decoded, &base);
        // Column scales are rounded to 8 bits: the error is at most 2^-9, and less on average.
        assert!(error < 1.0 / 512.0, "{rows} x {columns}: {error}");
    }
}

#[test]
fn one_kind_of_scale_is_enough_for_one_kind_of_change() {
    // Too few rows for column scales, or too few columns for row scales.
    for (rows, columns, along) in [(15, 200, 200), (200, 31, 1)] {
        let signs = fine_tuned(rows * columns, 1.0).1;
        let scale = |i: usize| 0.5 + if along == 1 { (i % columns % 5) as f32 } else { (i / columns % 5) as f32 };
        let values: Vec<f32> = signs.iter().enumerate().map(|(i, s)| scale(i).copysign(*s)).collect();
        let base = vec![0.0; values.len()];
        let (encoded, decoded) = round_trip("delta.sign", &[rows, columns], &values, &base);
        assert!(delta_error(&values, &decoded, &base) < 1.0 / 512.0, "{rows} x {columns}");
        assert_eq!(encoded.payload.sections().contains_key("columns"), along == 1);
    }
}

#[test]
fn a_gaussian_difference_leaves_what_theory_says() {
    let (rows, columns) = (256, 512);
    for share in [1e-3, 0.02, 1.0] {
        let (values, base) = fine_tuned(rows * columns, share);
        let (encoded, decoded) = round_trip("delta.sign", &[rows, columns], &values, &base);
        let error = delta_error(&values, &decoded, &base);
        // 768 scales for 131 072 weights fit a little of the noise: 0.6 % of the squared error.
        assert!((error / GAUSSIAN - 1.0).abs() < 0.008, "{share}: {error}");
        // The error of the result is smaller by the share of the difference.
        let of_result = relative_error(&values, &decoded);
        let expected = GAUSSIAN * f64::from(share) / (1.0 + f64::from(share * share)).sqrt();
        assert!((of_result / expected - 1.0).abs() < 0.02, "{share}: {of_result} instead of {expected}");
        assert_eq!(encoded.payload.bytes(), 32 + 256 * 64 + 4 * 256 + 2 * 512);
    }
}

#[test]
fn scales_for_rows_and_columns_beat_one_scale() {
    let (rows, columns) = (64, 128);
    let (values, base) = fine_tuned(rows * columns, 1.0);
    let scaled: Vec<f32> = (0..values.len())
        .map(|i| base[i] + (values[i] - base[i]) * ((1 + i / columns % 4) * (1 + i % columns % 3)) as f32)
        .collect();
    let (_, decoded) = round_trip("delta.sign", &[rows, columns], &scaled, &base);
    let differences: Vec<f32> = scaled.iter().zip(&base).map(|(w, b)| w - b).collect();
    let mean = differences.iter().map(|d| d.abs()).sum::<f32>() / differences.len() as f32;
    let one: Vec<f32> = differences.iter().map(|d| mean.copysign(*d)).collect();
    let one = relative_error(&differences, &one);
    let error = delta_error(&scaled, &decoded, &base);
    // With one scale, 1 - 2/pi * (2.5^2 / 7.5) * (2^2 / 4.67) = 0.739 of the square remain.
    assert!((0.58..0.604).contains(&error) && (0.73..0.75).contains(&one), "{error}, with one scale {one}");
}

#[test]
fn scales_that_are_none_are_corrupt() {
    let (values, base) = fine_tuned(16 * 32, 0.1);
    let sound = encoded("delta.sign", &[16, 32], &values, &base).unwrap();
    for (name, at, bits) in
        [("rows", 3, 0x7fc0_0000_u32), ("rows", 0, 0xbf80_0000), ("columns", 1, 0x7f80), ("columns", 0, 0xbf80)]
    {
        let section = &sound.payload.sections()[name];
        let width = section.spec().dtype().bitsize() / 8;
        let mut data = section.data().to_vec();
        data[at * width..(at + 1) * width].copy_from_slice(&bits.to_le_bytes()[..width]);
        let other = Section::new(section.spec().dtype(), section.spec().shape(), data).unwrap();
        let answer = decoded(&with(&sound, name, other), &base).unwrap_err();
        assert!(matches!(&answer, CodecError::Corrupt { section, .. } if section == name), "{answer}");
    }
}
