//! Triangular factors.

use calibrate::{Error, Factor};

use crate::support::{gram, samples};

#[test]
fn a_factor_multiplies_back_to_the_matrix() {
    for order in [1, 2, 7, 40] {
        let matrix = gram(&samples(1, 3 * order, order), order);
        let mean = (0..order).map(|i| f64::from(matrix[i * order + i])).sum::<f64>() / order as f64;
        for damping in [0.0, 0.1] {
            let factor = Factor::new(&matrix, order, damping).expect("it is positive definite");
            let unit = factor.unit().expect("a triangle");
            for i in 0..order {
                assert_eq!(unit[i * order + i], 1.0);
                for j in 0..order {
                    assert!(j >= i || unit[i * order + j] == 0.0, "upper");
                    let terms = (0..order).map(|k| unit[i * order + k] * factor.pivots()[k] * unit[j * order + k]);
                    let damped = if i == j { damping * mean } else { 0.0 };
                    let expected = f64::from(matrix[i * order + j]) + damped;
                    assert!((terms.sum::<f64>() - expected).abs() < 1e-4 * mean, "{order}: {i}, {j}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_factorised_is_named() {
    let error = |matrix: &[f32], damping| Factor::new(matrix, 2, damping).expect_err("no factor");
    assert!(matches!(error(&[1.0, f32::NAN, 0.0, 1.0], 0.1), Error::NotFinite { row: 0, column: 1 }));
    assert!(matches!(error(&[0.0; 4], 0.1), Error::Zero));
    assert!(matches!(error(&[1.0, 1.0, 1.0, 1.0], 0.0), Error::Singular { .. }));
    assert!(matches!(error(&[1.0; 3], 0.0), Error::Usage(_)));
    assert!(matches!(error(&[1.0; 4], f64::NAN), Error::Usage(_)));
    assert!(matches!(Factor::diagonal(&[1.0, 0.0]), Err(Error::Singular { index: 1 })));
    assert!(Factor::new(&[], 0, 0.1).is_ok_and(|factor| factor.order() == 0));
    // A dead input and an exact dependence need damping, and nothing else.
    assert!(Factor::new(&[1.0, 0.0, 0.0, 0.0], 2, 0.01).is_ok());
    assert!(Factor::new(&[1.0, 1.0, 1.0, 1.0], 2, 0.01).is_ok());
}
