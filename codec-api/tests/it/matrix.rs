//! The matrix view of linears, stacks of experts and convolution kernels, and of their rows.

use codec_api::{Dtype, TensorSpec, TensorView};

fn spec(shape: &[usize]) -> TensorSpec {
    TensorSpec::new(Dtype::BF16, shape).expect("a spec")
}

#[test]
fn rows_and_columns_follow_from_the_shape() {
    let usual: [(&[usize], (usize, usize)); 20] = [
        (&[], (1, 1)),
        (&[7], (1, 7)),
        (&[4096, 14336], (4096, 14336)),
        (&[3, 2], (3, 2)),
        // Stacks of experts.
        (&[8, 128, 256], (1024, 256)),
        (&[2, 3, 64], (6, 64)),
        (&[2, 8, 128, 256], (2048, 256)),
        // Kernels: text, audio, images, video.
        (&[64, 64, 3], (64, 192)),
        (&[8192, 1, 4], (8192, 4)),
        (&[512, 512, 10], (512, 5120)),
        (&[64, 32, 3, 3], (64, 288)),
        (&[768, 3, 16, 16], (768, 768)),
        (&[768, 3, 32, 32], (768, 3072)),
        (&[96, 1, 7, 7], (96, 49)),
        (&[256, 1, 31, 31], (256, 961)),
        (&[32, 3, 3, 3, 3], (32, 81)),
        // A kernel as long as a row is one.
        (&[512, 1, 128], (512, 128)),
        (&[2, 3, 63], (2, 189)),
        (&[0, 5], (0, 0)),
        (&[5, 0, 64], (0, 0)),
    ];
    for (shape, matrix) in usual {
        assert_eq!(spec(shape).matrix(), matrix, "{shape:?}");
    }
}

#[test]
fn rows_are_contiguous_and_keep_their_columns() {
    for shape in [&[8, 5][..], &[3, 4, 64], &[6, 2, 3], &[4, 3, 2, 2], &[2, 2, 3, 64], &[9], &[]] {
        let spec = spec(shape);
        let bytes: Vec<u8> = (0..spec.byte_len()).map(|i| (i % 251) as u8).collect();
        let view = TensorView::new(spec.clone(), &bytes).expect("a tensor");
        let (rows, columns) = spec.matrix();
        for (first, last) in (0..=rows).flat_map(|first| (first..=rows).map(move |last| (first, last))) {
            let part = view.rows(first, last).expect("rows");
            assert_eq!(part.bytes(), &bytes[first * columns * 2..last * columns * 2], "{shape:?} {first}..{last}");
            let wanted = if first == last { (0, 0) } else { (last - first, columns) };
            assert_eq!(part.spec().matrix(), wanted, "{shape:?} {first}..{last}");
        }
        assert_eq!(view.rows(0, rows).expect("all").spec(), &spec, "all rows are the tensor");
        assert!(view.rows(0, rows + 1).is_err());
    }
}
