//! Products of packed matrices against plain sums.

use simd::{Level, with_level};

use super::*;

/// Numbers that look random.
fn noise(i: usize) -> usize {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as usize
}

fn layouts() -> Vec<IntegerLayout> {
    let mut layouts = Vec::new();
    for shape in [(1, 1), (5, 333), (64, 96), (70, 16), (33, 130), (530, 40), (17, 531)] {
        for bits in [2, 4, 6, 8] {
            for group in [None, Some(16), Some(32), Some(64), Some(128)] {
                for zero in [None, Some(1u8 << (bits - 1))] {
                    layouts.push(IntegerLayout::new(shape, bits, group, zero).expect("a supported layout").times(0.25));
                }
            }
        }
        let of =
            |bits, group, zero| IntegerLayout::new(shape, bits, Some(group), Some(zero)).expect("a supported layout");
        layouts.extend([
            of(6, 16, 32).sharing(16, false).expect("a layout"),
            of(4, 32, 0).sharing(8, true).expect("a layout").times(0.5),
        ]);
    }
    layouts
}

/// Packs codes and scales that look random; also returns the weights.
fn packed(layout: IntegerLayout, product: Product) -> (IntegerMatrix, Vec<f64>) {
    let (columns, shared) = (layout.shape.1, layout.shared.unwrap_or(1));
    let value = |half: u16| f64::from(half::f16::from_bits(half).to_f32_const());
    let mut weights = Vec::new();
    let matrix = IntegerMatrix::pack(layout, product, |row, out| {
        for (c, code) in out.codes.iter_mut().enumerate() {
            *code = (noise(row * columns + c) % (1 << layout.bits)) as u8;
        }
        for (g, scale) in out.scales.iter_mut().enumerate() {
            // From 0.5 to 2, some negative.
            *scale = (0x3800 + noise(row + 7 * g) % 0x0800 + noise(row * g) % 2 * 0x8000) as u16;
        }
        out.minima.iter_mut().enumerate().for_each(|(g, half)| *half = (0x3800 + noise(row + 9 * g) % 0x0800) as u16);
        let factor = |i: usize| (1 + noise(i) % 63) as i8;
        out.factors.iter_mut().enumerate().for_each(|(g, f)| *f = factor(row + 3 * g));
        out.minimum_factors.iter_mut().enumerate().for_each(|(g, f)| *f = factor(row + 5 * g));
        for g in 0..layout.groups() {
            let zero = layout.zero.unwrap_or((noise(row + 31 * g) % (1 << layout.bits)) as u8);
            out.zeros[g] = zero;
            let times = |half: u16, factors: &[i8]| value(half) * factors.get(g).map_or(1.0, |f| f64::from(*f));
            let scale = times(out.scales[g / shared], &out.factors);
            let minimum = out.minima.get(g / shared).map_or(0.0, |half| times(*half, &out.minimum_factors));
            let width = layout.group.unwrap_or(columns);
            let weight =
                |code: &u8| ((f64::from(*code) - f64::from(zero)) * scale - minimum) * f64::from(layout.factor);
            weights.extend(out.codes.iter().skip(g * width).take(width).map(weight));
        }
        Ok(())
    });
    (matrix.expect("memory").expect("a small tolerance"), weights)
}

fn inputs(n: usize) -> Vec<f32> {
    (0..n).map(|i| (noise(i) % 2001) as f32 / 1000.0 - 1.0).collect()
}

#[test]
fn both_products_are_within_the_tolerance() {
    for layout in layouts() {
        for packed_for in [Product::Forward, Product::Transposed] {
            let (matrix, weights) = packed(layout, packed_for);
            for (product, batch) in
                [(Product::Forward, 1), (Product::Forward, 5), (Product::Transposed, 1), (Product::Transposed, 5)]
            {
                let (n, outputs) = product.sides(layout.shape);
                let values = inputs(n * batch);
                let x = Inputs::new(&values, batch).unwrap();
                let mut y = vec![f32::NAN; outputs * batch];
                matrix.apply_outputs(product, 0..outputs, &x, &mut y).unwrap();
                for (b, x) in values.chunks(n).enumerate() {
                    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                    let allowed = norm(&mut weights.iter().copied()) * norm(&mut x.iter().map(|x| f64::from(*x)));
                    for output in 0..outputs {
                        let weight = |i: usize| match product {
                            Product::Forward => weights[output * layout.shape.1 + i],
                            Product::Transposed => weights[i * layout.shape.1 + output],
                        };
                        let exact: f64 = x.iter().enumerate().map(|(i, x)| f64::from(*x) * weight(i)).sum();
                        let off = (f64::from(y[output * batch + b]) - exact).abs();
                        let most = f64::from(matrix.tolerance()) * allowed;
                        assert!(
                            off <= most,
                            "{layout:?} for {packed_for:?}: {product:?}, output {output}: {off} > {most}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn bits_depend_neither_on_level_nor_on_ranges_nor_on_the_batch() {
    for layout in layouts() {
        for product in [Product::Forward, Product::Transposed] {
            let (matrix, _) = packed(layout, product);
            let (n, outputs) = product.sides(layout.shape);
            let values = inputs(9 * n);
            let all = |level| {
                with_level(level, || {
                    let mut y = vec![0.0; outputs * 9];
                    matrix.apply_outputs(product, 0..outputs, &Inputs::new(&values, 9).unwrap(), &mut y).unwrap();
                    y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
                })
            };
            let wanted = all(Level::Scalar);
            for level in Level::available() {
                assert_eq!(all(level), wanted, "{level}, {layout:?}");
            }
            let mut y = vec![0.0; (outputs + 1) * 9];
            let x = Inputs::new(&values, 9).unwrap();
            matrix.apply_vectors(product, 0..outputs, &x, &mut y, outputs + 1).unwrap();
            for (i, wanted) in wanted.iter().enumerate() {
                assert_eq!(y[i % 9 * (outputs + 1) + i / 9].to_bits(), *wanted, "{layout:?}, by vectors, {i}");
            }
            for (b, x) in values.chunks(n).enumerate() {
                let x = Inputs::new(x, 1).unwrap();
                for (first, end) in [(0, outputs / 3), (outputs / 3, outputs)] {
                    let mut y = vec![0.0; end - first];
                    matrix.apply_outputs(product, first..end, &x, &mut y).unwrap();
                    let wanted = wanted[first * 9..end * 9].iter().skip(b).step_by(9);
                    assert!(y.iter().map(|y| y.to_bits()).eq(wanted.copied()), "{layout:?}, vector {b}");
                }
            }
        }
    }
}

#[test]
fn tiny_huge_and_infinite_inputs() {
    let layout = IntegerLayout::new((16, 64), 8, None, Some(128)).unwrap().times(0.25);
    let (matrix, weights) = packed(layout, Product::Forward);
    for size in [1e-32, 1e-20, 1e30] {
        let values: Vec<f32> = inputs(64).iter().map(|x| x * size).collect();
        let mut y = vec![0.0; 16];
        matrix.apply(Product::Forward, 0..16, &Inputs::new(&values, 1).unwrap(), &mut y).unwrap();
        let exact: f64 = values.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum();
        assert!((f64::from(y[0]) / exact - 1.0).abs() < 1e-3, "{size}: {} instead of {exact}", y[0]);
    }
    for value in [f32::NAN, f32::INFINITY] {
        let mut y = vec![0.0; 16];
        matrix.apply(Product::Forward, 0..16, &Inputs::new(&[value; 64], 1).unwrap(), &mut y).unwrap();
        assert!(y.iter().all(|y| y.is_nan()));
    }
}
