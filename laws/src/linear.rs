//! Law 8, linear: the operator agrees with the decoded matrix within its stated tolerance.

use std::ops::Range;

use codec_api::{CodecError, DecodeCx, Dtype, EncodedTensor, Inputs, LinearOp, Product};
use rayon::prelude::*;

use super::sample::{noise, unit};
use super::trial::Trial;
use super::{Law, Subject, Violation};

/// Largest tolerance that a codec may state; the check would mean little above it.
const LARGEST_TOLERANCE: f32 = 0.01;

const PRODUCTS: [Product; 2] = [Product::Forward, Product::Transposed];

/// `as_linear`'s operator agrees with decode-then-multiply within its tolerance, whichever product
/// it is prepared for: in both orientations; for batches of 1, 3 and 17; over ranges of rows, whose
/// parts threads compute at the same time to the same bits; for uniform, sparse and one-hot inputs,
/// one outlier among small inputs, and inputs that avoid the largest weights. Outputs have the same
/// bits however they are divided into ranges. It keeps less memory than the dense matrix, or no
/// more than its payload. It refuses vectors of the wrong length and rows outside the matrix.
///
/// # Errors
/// The first violation found.
pub fn linear(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_linear().is_none() {
        return Ok(());
    }
    let prepare = |encoded: &EncodedTensor, cx: &DecodeCx<'_>| {
        encoded.codec.require_linear()?.prepare(&encoded.spec, encoded.payload.view(), cx)
    };
    of_samples(subject, &prepare, true)
}

/// Makes the operator of an encoded tensor.
type Prepare<'a> = &'a dyn Fn(&EncodedTensor, &DecodeCx<'_>) -> Result<Box<dyn LinearOp>, CodecError>;

/// Checks the operators that `prepare` makes of the codec's tensors, as [`linear`] does. But bits
/// may depend on the ranges of outputs, as those of dense matrix products of other crates do.
///
/// # Errors
/// The first violation found.
pub fn linear_with(subject: &Subject, prepare: Prepare<'_>) -> Result<(), Violation> {
    of_samples(subject, prepare, false)
}

fn of_samples(subject: &Subject, prepare: Prepare<'_>, same_bits: bool) -> Result<(), Violation> {
    let shapes: [(Dtype, &[usize]); 7] = [
        (Dtype::F32, &[64, 96]),
        (Dtype::F32, &[5, 333]),
        (Dtype::BF16, &[65, 64]),
        (Dtype::F16, &[1, 130]),
        (Dtype::F32, &[77]),
        (Dtype::F32, &[3, 4, 32]),
        (Dtype::F32, &[3, 4, 64]),
    ];
    for (dtype, shape) in shapes {
        let Ok(sample) = subject.taken(dtype, shape) else { continue };
        let trial = Trial { subject, law: Law::Linear, sample: &sample, offer: subject.codec.needs() };
        check(&trial, prepare, same_bits)?;
    }
    Ok(())
}

fn check(trial: &Trial<'_>, prepare: Prepare<'_>, same_bits: bool) -> Result<(), Violation> {
    let Some(encoded) = trial.encode()? else { return Ok(()) };
    let matrix = Matrix::new(trial, trial.decode(&encoded)?);
    for product in PRODUCTS {
        let operator = &*prepared_for(trial, prepare, &encoded, product)?;
        let products = Products { trial, operator };
        check_prepared(&products, &encoded, &matrix)?;
        if same_bits {
            products.outputs_are_the_same_in_parts(&matrix)?;
        }
    }
    Ok(())
}

fn prepared_for(
    trial: &Trial<'_>,
    prepare: Prepare<'_>,
    encoded: &EncodedTensor,
    product: Product,
) -> Result<Box<dyn LinearOp>, Violation> {
    let cx = trial.sample.decode_cx(trial.offer).map_err(|e| trial.violation(e.to_string(), "a base tensor"))?;
    let prepared = trial.calmly("prepare", || prepare(encoded, &cx.for_product(product)))?;
    prepared.map_err(|e| trial.violation(format!("prepare failed: {e}"), "an operator"))
}

/// Checks the operator that is prepared for a product.
fn check_prepared(products: &Products<'_>, encoded: &EncodedTensor, matrix: &Matrix) -> Result<(), Violation> {
    let (trial, operator) = (products.trial, products.operator);
    if operator.shape() != encoded.spec.matrix() {
        let wanted = format!("{:?}", encoded.spec.matrix());
        return Err(trial.violation(format!("an operator of {:?}", operator.shape()), wanted));
    }
    if !(0.0..=LARGEST_TOLERANCE).contains(&operator.tolerance()) {
        let wanted = format!("a tolerance from 0 to {LARGEST_TOLERANCE}");
        return Err(trial.violation(format!("tolerance {}", operator.tolerance()), wanted));
    }
    for product in PRODUCTS {
        for batch in [1, 3, 17] {
            let x: Vec<f32> = (0..batch).flat_map(|i| matrix.input(product, i)).collect();
            products.agree(matrix, product, &vectors(trial, &x, batch)?)?;
        }
    }
    refuses(trial, operator)?;
    let compact = trial.subject.codec.as_linear().is_some() || trial.subject.codec.as_rows().is_some();
    if compact { small(trial, operator, encoded.payload.bytes()) } else { Ok(()) }
}

/// The decoded matrix.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn new(trial: &Trial<'_>, values: Vec<f32>) -> Self {
        let (rows, columns) = trial.sample.spec().matrix();
        Self { rows, columns, values }
    }

    /// Numbers of inputs and of outputs of a product.
    fn sizes(&self, product: Product) -> (usize, usize) {
        product.sides((self.rows, self.columns))
    }

    fn weight(&self, product: Product, output: usize, input: usize) -> f32 {
        let (row, column) = if product == Product::Forward { (output, input) } else { (input, output) };
        self.values[row * self.columns + column]
    }

    /// Input vector `i`: of another kind for each `i`.
    fn input(&self, product: Product, i: usize) -> Vec<f32> {
        let (inputs, _) = self.sizes(product);
        let random = |j: usize| unit(noise((i * inputs + j) as u64));
        let hot = noise(i as u64) as usize % inputs;
        (0..inputs)
            .map(|j| match i % 6 {
                2 if j % 10 != 0 => 0.0,
                3 => f32::from(u8::from(j == hot)),
                4 if j == hot => 1e4,
                // Large only where the first output has small weights.
                5 => random(j) / (0.01 + self.weight(product, 0, j).abs()),
                _ => random(j),
            })
            .collect()
    }

    /// The product of one vector.
    fn times(&self, product: Product, x: &[f32]) -> Vec<f64> {
        let output = |i| x.iter().enumerate().map(|(j, x)| f64::from(*x) * f64::from(self.weight(product, i, j))).sum();
        (0..self.sizes(product).1).map(output).collect()
    }
}

fn vectors<'x>(trial: &Trial<'_>, x: &'x [f32], batch: usize) -> Result<Inputs<'x>, Violation> {
    Inputs::new(x, batch).map_err(|e| trial.violation(e.to_string(), "a batch of vectors"))
}

/// The products of an operator.
struct Products<'a> {
    trial: &'a Trial<'a>,
    operator: &'a dyn LinearOp,
}

impl Products<'_> {
    /// Computes all parts of a product, by rows, by outputs and by vectors, and compares each
    /// element with the decoded matrix.
    fn agree(&self, matrix: &Matrix, product: Product, x: &Inputs<'_>) -> Result<(), Violation> {
        let exact: Vec<_> = (0..x.batch()).map(|i| matrix.times(product, x.vector(i))).collect();
        let compare = |y: &[f32], case: &str| self.near(matrix, &exact, x, y, &format!("{product:?} {case}"));
        for parts in [1, 3] {
            let y = self.by_rows(product, x, parts)?;
            compare(&y, &format!("in {parts} parts"))?;
        }
        compare(&self.by_outputs(product, x, 1)?, "by outputs")?;
        compare(&self.by_vectors(product, x)?, "by vectors")
    }

    /// The bits of outputs do not depend on the ranges that they are computed in.
    fn outputs_are_the_same_in_parts(&self, matrix: &Matrix) -> Result<(), Violation> {
        for product in PRODUCTS {
            for batch in [1, 3] {
                let x: Vec<f32> = (0..batch).flat_map(|i| matrix.input(product, i)).collect();
                let x = vectors(self.trial, &x, batch)?;
                let [whole, divided] = [1, 3].map(|parts| self.by_outputs(product, &x, parts));
                if whole?.iter().zip(divided?).any(|(a, b)| a.to_bits() != b.to_bits()) {
                    let found = format!("{product:?}: other bits if the outputs are divided into ranges");
                    return Err(self.trial.violation(found, "the same bits"));
                }
            }
        }
        Ok(())
    }

    /// Compares the products `y`, `outputs × batch`, with the exact ones of each vector.
    fn near(
        &self,
        matrix: &Matrix,
        exact: &[Vec<f64>],
        x: &Inputs<'_>,
        y: &[f32],
        case: &str,
    ) -> Result<(), Violation> {
        let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let batch = x.batch();
        for (i, exact) in exact.iter().enumerate() {
            let allowed = f64::from(self.operator.tolerance()) * norm(&matrix.values) * norm(x.vector(i));
            for (output, exact) in exact.iter().enumerate() {
                let found = y[output * batch + i];
                let off = (f64::from(found) - exact).abs();
                if off.is_nan() || off > allowed + f64::from(f32::MIN_POSITIVE) {
                    let case = format!("{case}, vector {i} of a batch of {batch}");
                    let outputs = y.len() / batch;
                    let found = format!("{case}: output {output} of {outputs} is {found:e}, {off:e} off");
                    return Err(self.trial.violation(found, format!("{exact:e}, within {allowed:e}")));
                }
            }
        }
        Ok(())
    }

    /// The product, `outputs × batch`, from `parts` ranges of outputs.
    fn by_outputs(&self, product: Product, x: &Inputs<'_>, parts: usize) -> Result<Vec<f32>, Violation> {
        let (_, outputs) = product.sides(self.operator.shape());
        let mut all = Vec::new();
        for i in 0..parts {
            let range = i * outputs / parts..(i + 1) * outputs / parts;
            let mut y = vec![f32::NAN; range.len() * x.batch()];
            let apply = || self.operator.apply_outputs(product, range, x, &mut y);
            let answer = self.trial.calmly("apply_outputs", apply)?;
            answer.map_err(|e| self.trial.violation(format!("apply_outputs failed: {e}"), "a product"))?;
            all.extend(y);
        }
        Ok(all)
    }

    /// The product, `outputs × batch`, from three ranges of outputs, which are written vector by
    /// vector. No value between the vectors is written.
    fn by_vectors(&self, product: Product, x: &Inputs<'_>) -> Result<Vec<f32>, Violation> {
        const PARTS: usize = 3;
        let ((_, outputs), batch) = (product.sides(self.operator.shape()), x.batch());
        let stride = outputs + 1;
        let mut y = vec![f32::NAN; stride * batch];
        for i in 0..PARTS {
            let range = i * outputs / PARTS..(i + 1) * outputs / PARTS;
            let y = &mut y[range.start..];
            let apply = || self.operator.apply_vectors(product, range, x, y, stride);
            let answer = self.trial.calmly("apply_vectors", apply)?;
            answer.map_err(|e| self.trial.violation(format!("apply_vectors failed: {e}"), "a product"))?;
        }
        if y.chunks(stride).any(|vector| !vector[outputs].is_nan()) {
            let found = format!("{product:?}: a value after the outputs of a vector is overwritten");
            return Err(self.trial.violation(found, "values of the range only"));
        }
        Ok((0..outputs).flat_map(|output| y.iter().skip(output).step_by(stride).copied().collect::<Vec<_>>()).collect())
    }

    /// The product, `outputs × batch`, from `parts` ranges of rows that threads compute at the same
    /// time; each range must give the same bits on one thread.
    fn by_rows(&self, product: Product, x: &Inputs<'_>, parts: usize) -> Result<Vec<f32>, Violation> {
        let ((rows, columns), batch) = (self.operator.shape(), x.batch());
        let ranges: Vec<_> = (0..parts).map(|i| i * rows / parts..(i + 1) * rows / parts).collect();
        let apply = |range: Range<usize>, y: &mut [f32]| {
            // Each thread converts the inputs itself.
            let apply = || self.operator.apply(product, range, &Inputs::new(x.values(), batch)?, y);
            let answer = self.trial.calmly("apply", apply)?;
            answer.map_err(|e| self.trial.violation(format!("apply failed: {e}"), "a product"))
        };
        let part = |range: &Range<usize>| {
            let outputs = if product == Product::Forward { range.len() } else { columns };
            // Forward overwrites, Transposed adds.
            let mut y = vec![if product == Product::Forward { f32::NAN } else { 0.0 }; outputs * batch];
            apply(range.clone(), &mut y).map(|()| y)
        };
        let alone = ranges.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let together = ranges.par_iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let bits = |parts: &[Vec<f32>]| parts.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
        if bits(&alone) != bits(&together) {
            let found = format!("{product:?}: several threads give other bits");
            return Err(self.trial.violation(found, "the same bits"));
        }
        if product == Product::Forward {
            return Ok(alone.concat());
        }
        let mut sum = vec![0.0; columns * batch];
        ranges.into_iter().try_for_each(|range| apply(range, &mut sum)).map(|()| sum)
    }
}

fn refuses(trial: &Trial<'_>, operator: &dyn LinearOp) -> Result<(), Violation> {
    let (rows, columns) = operator.shape();
    for product in PRODUCTS {
        let (inputs, outputs) = product.sides((rows, columns));
        let cases = [
            (inputs - 1, outputs, 0..rows),
            (inputs + 1, outputs, 0..rows),
            (inputs, outputs + 1, 0..rows),
            (inputs, outputs - 1, 0..rows),
            (inputs, 2 * outputs, 0..rows),
            (inputs, outputs, 0..rows + 1),
            (inputs, outputs, rows + 1..rows + 1),
            (inputs, 0, 0..rows),
        ];
        for (x, y, range) in cases {
            let vector = vec![1.0; x];
            let Ok(x) = Inputs::new(&vector, usize::from(x > 0)) else { continue };
            let answer = trial.calmly("apply", || operator.apply(product, range.clone(), &x, &mut vec![0.0; y]))?;
            if answer.is_ok() && x.batch() > 0 {
                let found = format!("{product:?}: {} inputs and {y} outputs for rows {range:?}", vector.len());
                return Err(trial.violation(format!("{found} are taken by {rows} x {columns}"), "an error"));
            }
        }
    }
    Ok(())
}

fn small(trial: &Trial<'_>, operator: &dyn LinearOp, payload: u64) -> Result<(), Violation> {
    let spec = trial.sample.spec();
    let (outputs, inputs) = spec.matrix();
    let (resident, dense) = (operator.resident_bytes(), 4 * spec.elements() as u64);
    if outputs.min(inputs) < 64 || (1..dense.max(payload + 1)).contains(&resident) {
        return Ok(());
    }
    let wanted = format!("fewer than {dense}, the dense matrix, or no more than {payload}, the payload");
    Err(trial.violation(format!("{resident} resident bytes"), wanted))
}
