//! The search finds the same codes as trying every seed.

use codec_api::{Calibration, Codec, CodecError, DecodeCx, EncodeCx, InputAxis, TensorView};
use codec_seedlm::SeedLm;
use harness::testing::weights;
use laws::Activations;
use simd::{Level, with_level};

fn config(spec: &str) -> SeedLm {
    serde_json::from_str(&format!("{{{spec}}}")).unwrap()
}

fn check(config: &SeedLm, name: &str, values: &[f32], cx: &EncodeCx<'_>) {
    let tensor = TensorView::from_f32([values.len() / 50, 50], values).unwrap();
    let expected = config.encode_by_brute_force(&tensor, cx).unwrap();
    for level in Level::available() {
        let found = with_level(level, || config.encode(tensor.clone(), cx)).unwrap();
        assert_eq!(found, expected, "{name}, {config:?}, {level}");
    }
}

/// A context with calibration: one value for the input of each column.
fn by_column(squares: &[f32]) -> EncodeCx<'_> {
    EncodeCx::new(0).with_calibration(Calibration::new(InputAxis::Columns, squares))
}

/// Blocks: 125 + 84 + 84 + 63 of each of three kinds of weights.
#[test]
fn every_block_gets_the_best_code_of_all_seeds() {
    let model = concat!("model:", env!("CARGO_MANIFEST_DIR"), "/../assets/stories260k");
    for (name, values) in [
        ("gaussian", weights("gaussian", 1000)),
        ("laplace", weights("laplace", 1000)),
        ("trained", weights(model, 1000)),
    ] {
        let cx = EncodeCx::new(0);
        check(&SeedLm::four_bit(), name, &values, &cx);
        check(&SeedLm::three_bit(), name, &values, &cx);
        check(&config(r#""refine":false,"per_octave":1,"c":12"#), name, &values, &cx);
        check(&config(r#""c":16,"p":2,"mantissa_bits":6"#), name, &values, &cx);
    }
}

#[test]
fn small_registers_and_drawn_seeds_are_exact_too() {
    let values = weights("gaussian", 1000);
    for spec in [
        r#""k":8,"c":4,"p":4"#,
        r#""k":8,"c":5,"p":1,"mantissa_bits":2"#,
        r#""k":12,"c":9,"p":2,"per_octave":4"#,
        r#""k":24,"c":16,"p":4,"search":2000"#,
        r#""k":16,"search":1"#,
        r#""k":12,"layers":3,"refine":false"#,
    ] {
        check(&config(spec), "gaussian", &values, &EncodeCx::new(7));
    }
}

#[test]
fn weighted_errors_are_minimised_exactly_too() {
    let values = weights("gaussian", 200);
    let (columns, rows) = (Activations::new(InputAxis::Columns, 50), Activations::new(InputAxis::Rows, 4));
    let half_dead: Vec<f32> = (0..50).map(|i| if i < 25 { 0.0 } else { 1.0 }).collect();
    let half_dead = Calibration::new(InputAxis::Columns, &half_dead);
    for calibration in [columns.calibration(), rows.calibration(), half_dead] {
        check(&SeedLm::four_bit(), "calibrated", &values, &EncodeCx::new(0).with_calibration(calibration));
    }
}

#[test]
fn calibration_moves_the_error_to_where_it_counts_less() {
    let values = weights("gaussian", 1000);
    let tensor = TensorView::from_f32([20, 50], &values).unwrap();
    let squares: Vec<f32> = (0..50).map(|i| if i % 2 == 0 { 0.01 } else { 1.0 }).collect();
    let error = |cx: &EncodeCx<'_>| {
        let config = SeedLm::four_bit();
        let payload = config.encode(tensor.clone(), cx).unwrap();
        let mut decoded = vec![0.0; values.len()];
        config.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
        let weighted = |(i, (w, d)): (usize, (&f32, &f32))| f64::from(squares[i % 50] * (w - d) * (w - d));
        values.iter().zip(&decoded).enumerate().map(weighted).sum::<f64>()
    };
    let (plain, weighted) = (error(&EncodeCx::new(0)), error(&by_column(&squares)));
    assert!(weighted < 0.5 * plain, "weighted error {weighted}, without calibration {plain}");
}

/// Long stretches of zeros and of blocks too small to search, before and after weights that are
/// harder than all before.
#[test]
fn zeros_do_not_lower_what_is_looked_for() {
    let mut values = vec![0.0; 40_000];
    values.splice(1000..1300, weights("gaussian", 300));
    values[20_000..20_040].fill(0.3);
    values.splice(39_000..39_300, weights("laplace", 300));
    let config = SeedLm::four_bit();
    let tensor = TensorView::from_f32([800, 50], &values).unwrap();
    let payload = config.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
    assert_eq!(payload, config.encode_by_brute_force(&tensor, &EncodeCx::new(0)).unwrap());
}

/// Blocks for which the steps are coarse, blocks that many bases explain equally well, and
/// repetitions.
#[test]
fn blocks_that_are_slow_to_search_get_the_best_code_too() {
    let gaussian = weights("gaussian", 400);
    let fill = |of: &dyn Fn(usize, f32) -> f32| gaussian.iter().enumerate().map(|(i, w)| of(i, *w)).collect();
    let cases: [(&str, Vec<f32>); 5] = [
        ("outlier of 1000", fill(&|i, w| if i == 77 { 1000.0 } else { w })),
        ("outlier of 60", fill(&|i, w| if i == 390 { -60.0 } else { w })),
        ("almost constant", fill(&|_, w| 1.0 + 0.001 * w)),
        ("a constant of both signs", fill(&|i, _| if i < 203 { 0.02 } else { -0.02 })),
        ("repetitions", fill(&|i, _| gaussian[i % 24 % 16].abs() * if i % 3 == 0 { 0.0 } else { 1.0 })),
    ];
    for (name, values) in cases {
        check(&SeedLm::four_bit(), name, &values, &EncodeCx::new(0));
        check(&SeedLm::two_bit(), name, &values, &EncodeCx::new(0));
        check(&config(r#""refine":false,"layers":2"#), name, &values, &EncodeCx::new(0));
    }
    // Equal blocks whose weights do not have the same importance.
    let squares: Vec<f32> = (0..50).map(|i| if i < 20 { 1.0 } else { i as f32 }).collect();
    check(&SeedLm::four_bit(), "a constant, calibrated", &[0.7; 400], &by_column(&squares));
}

#[test]
fn the_scale_of_calibration_does_not_matter() {
    let values = weights("gaussian", 55);
    let tensor = TensorView::from_f32([5, 11], &values).unwrap();
    let squares: Vec<f32> = (1..12).map(|i| i as f32 * 0.125).collect();
    let encode = |scale: f32| {
        let scaled: Vec<f32> = squares.iter().map(|s| s * scale).collect();
        SeedLm::four_bit().encode(tensor.clone(), &by_column(&scaled))
    };
    let payload = encode(1.0).unwrap();
    assert_eq!(encode(2f32.powi(-30)).unwrap(), payload);
    assert_eq!(encode(2f32.powi(30)).unwrap(), payload);
}

#[test]
fn calibration_of_another_matrix_is_refused() {
    let values = weights("gaussian", 1000);
    let tensor = TensorView::from_f32([20, 50], &values).unwrap();
    for (axis, wanted) in
        [(InputAxis::Columns, "49 inputs along the columns"), (InputAxis::Rows, "49 inputs along the rows")]
    {
        let activations = Activations::new(axis, 49);
        let cx = EncodeCx::new(0).with_calibration(activations.calibration());
        let refusal = SeedLm::four_bit().encode(tensor.clone(), &cx).unwrap_err();
        assert!(matches!(&refusal, CodecError::Usage(reason) if reason.contains(wanted)), "{refusal}");
    }
}
