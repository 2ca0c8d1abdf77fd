//! The context of a chunk has the rows of base and calibration that belong to it.

use codec_api::{BaseTensor, Calibration, CodecError, Dtype, EncodeCx, Gram, InputAxis, TensorSpec, TensorView};

const SHAPE: [usize; 2] = [4, 3];

fn spec() -> TensorSpec {
    TensorSpec::new(Dtype::F32, SHAPE).expect("a matrix")
}

#[test]
fn base_keeps_the_id_of_the_whole_tensor() {
    let values: Vec<f32> = (0..12u8).map(f32::from).collect();
    let base = BaseTensor::new(TensorView::from_f32(SHAPE, &values).expect("a base"));
    let cx = EncodeCx::for_tensor(0, "w").with_base(base.clone());
    let chunk = cx.for_rows(&spec(), 1..3).expect("a chunk");
    let part = chunk.base.expect("a base");
    assert_eq!(part.id, base.id);
    assert_eq!(*part.view.to_f32().expect("floats"), values[3..9]);
    let error = cx.for_rows(&TensorSpec::new(Dtype::F32, [3, 4]).expect("a matrix"), 0..1).expect_err("other spec");
    assert!(matches!(error, CodecError::Unsupported(_)), "{error}");
}

#[test]
fn inputs_along_rows_are_cut_and_others_are_not() {
    let squares = [1.0, 2.0, 3.0, 4.0];
    let gram: Vec<f32> = (0..16u8).map(f32::from).collect();
    let rows = Calibration::new(InputAxis::Rows, &squares).with_gram(Gram::new(4, &gram).expect("a matrix"));
    let cx = EncodeCx::new(0).with_calibration(rows.expect("calibration"));
    let chunk = cx.for_rows(&spec(), 1..3).expect("a chunk").calibration.expect("calibration");
    assert_eq!(chunk.mean_squares, [2.0, 3.0]);
    let part = chunk.gram.expect("a Gram matrix");
    assert_eq!([part.row(0), part.row(1)], [[5.0, 6.0], [9.0, 10.0]]);

    let columns = EncodeCx::new(0).with_calibration(Calibration::new(InputAxis::Columns, &squares[..3]));
    let chunk = columns.for_rows(&spec(), 1..3).expect("a chunk").calibration.expect("calibration");
    assert_eq!(chunk.mean_squares, &squares[..3]);
}

#[test]
fn wrong_sizes_are_wrong_use() {
    let squares = [1.0; 4];
    let wrong = Calibration::new(InputAxis::Columns, &squares);
    let cx = EncodeCx::new(0).with_calibration(wrong);
    for error in [
        cx.for_rows(&spec(), 0..1).map(drop).expect_err("four inputs for three columns"),
        cx.calibration_of(&spec()).map(drop).expect_err("four inputs for three columns"),
        Gram::new(3, &squares).map(drop).expect_err("four values"),
        Gram::new(usize::MAX, &squares).map(drop).expect_err("four values"),
        Gram::new(2, &squares).and_then(|gram| wrong.with_gram(gram)).map(drop).expect_err("order 2 for four inputs"),
        Calibration::new(InputAxis::Rows, &squares).rows(3..5).map(drop).expect_err("beyond the inputs"),
    ] {
        assert!(matches!(error, CodecError::Usage(_)), "{error}");
    }
}
