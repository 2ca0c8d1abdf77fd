//! Damaged payloads with positions; the laws damage only dense tensors, which have none.

use crate::support::{FORMS, encoded_f32, exact_and_lossy, is_sparse, noise, stored, with};
use codec_api::{CodecError, DecodeCx, EncodedTensor, Inputs, Payload, Product, Section};

fn weights(elements: usize) -> Vec<f32> {
    (0..elements).map(|i| if stored(i, 0.04) { 1.0 + (noise(i as u64) % 100) as f32 } else { 0.0 }).collect()
}

/// Decodes in every way. `true` if every way fails, `false` if none does.
fn refused(encoded: &EncodedTensor) -> bool {
    let (cx, (rows, columns)) = (DecodeCx::new(), encoded.spec.matrix());
    let kernel = encoded.codec.as_linear().expect("the inner codecs have rows");
    let multiplied = kernel.prepare(&encoded.spec, encoded.payload.view(), &cx).and_then(|operator| {
        let x = vec![1.0; columns];
        operator.apply(Product::Forward, 0..rows, &Inputs::new(&x, 1)?, &mut vec![0.0; rows])
    });
    let read = encoded.open_rows(&cx).and_then(|reader| reader.read(0..1, &mut vec![0.0; columns]));
    let bytes = encoded.decode_bytes(&cx).map(drop);
    let answers = [encoded.decode(&cx).map(drop), bytes, read, multiplied].map(|answer| answer.is_err());
    assert!(answers.iter().all(|answer| *answer == answers[0]), "some ways refuse: {answers:?}");
    answers[0]
}

#[test]
fn every_flipped_bit_of_an_exact_payload_is_an_error() {
    for (spec, shape) in FORMS.into_iter().flat_map(|spec| [(spec, [7, 90]), (spec, [2, 300]), (spec, [150, 4])]) {
        let weights = weights(shape[0] * shape[1]);
        let encoded = encoded_f32(spec, &shape, &weights);
        assert!(is_sparse(&encoded), "{spec}");
        for (name, section) in encoded.payload.sections() {
            for bit in 0..8 * section.data().len() {
                let mut data = section.data().to_vec();
                data[bit / 8] ^= 1 << (bit % 8);
                let damaged = Section::new(section.spec().dtype(), section.spec().shape(), data).unwrap();
                // A filler of a group may move to another column and be a zero there; the last bits
                // of a row are unused.
                let damaged = with(&encoded, name, damaged);
                match damaged.decode(&DecodeCx::new()) {
                    Ok(values) => assert!(spec.contains(".nm") && values == weights, "{spec}: bit {bit} of {name}"),
                    Err(CodecError::Corrupt { .. }) => assert!(refused(&damaged)),
                    Err(e) => panic!("{spec}: bit {bit} of {name}: {e}"),
                }
            }
        }
    }
}

#[test]
fn whatever_the_positions_nothing_panics() {
    for spec in exact_and_lossy() {
        for shape in [[7, 90], [2, 300], [1, 2000]] {
            let encoded = encoded_f32(&spec, &shape, &weights(shape[0] * shape[1]));
            assert!(is_sparse(&encoded), "{spec} {shape:?}");
            for (name, section) in encoded.payload.sections() {
                let (dtype, len) = (section.spec().dtype(), section.data().len() as u64);
                for seed in 0..40 {
                    let few = noise(seed) % 3 + 1;
                    let mut data = section.data().to_vec();
                    for i in 0..if seed < 20 { few } else { len } {
                        let at = if seed < 20 { noise(seed ^ i << 8) % len.max(1) } else { i };
                        data.iter_mut().skip(at as usize).take(1).for_each(|b| *b = noise(i ^ seed << 32) as u8);
                    }
                    refused(&with(&encoded, name, Section::new(dtype, section.spec().shape(), data).unwrap()));
                }
                for longer in [0, section.spec().elements() / 2, 2 * section.spec().elements() + 1] {
                    let data = vec![1; longer * dtype.bitsize() / 8];
                    let other = with(&encoded, name, Section::new(dtype, [longer], data).unwrap());
                    let unused = longer == section.spec().elements();
                    assert!(refused(&other) || unused, "{spec}: {name} of {longer}");
                }
            }
        }
    }
}

#[test]
fn positions_that_contradict_each_other_are_named() {
    let shape = [4, 300];
    let weights = weights(4 * 300);
    let damaged = |spec: &str, name: &str, change: fn(&mut [u8])| {
        let encoded = encoded_f32(spec, &shape, &weights);
        let section = &encoded.payload.sections()[name];
        let mut data = section.data().to_vec();
        change(&mut data);
        let section = Section::new(section.spec().dtype(), section.spec().shape(), data).unwrap();
        with(&encoded, name, section).decode(&DecodeCx::new()).unwrap_err().to_string()
    };
    for (message, reason) in [
        (damaged("sparse.csr:index=u32", "pointers", |p| p[0] = 1), "do not go from 0"),
        (damaged("sparse.csr:index=u32", "pointers", |p| p[4..8].fill(1)), "below the one before"),
        (damaged("sparse.csr:index=u32", "columns", |c| c[3] = 1), "ascend"),
        (damaged("sparse.csr:index=narrow", "columns", |c| c.copy_within(2..4, 0)), "ascend"),
        (damaged("sparse.csr:index=gap", "counts", |c| c[0] += 1), "add up"),
        (damaged("sparse.csr:index=gap", "gaps", |g| *g.last_mut().unwrap() = 254), "beyond its row"),
        (damaged("sparse.csr:index=coded", "counts", |c| c.fill(255)), "there are 1200 elements"),
        (damaged("sparse.csr:index=coded", "coded_gaps", |g| g[0] = 9), "section `coded_gaps`"),
        (damaged("sparse.coo", "counts", |c| c[0] += 1), "add up"),
        (damaged("sparse.coo", "offsets", |o| *o.last_mut().unwrap() = 255), "beyond its row or block"),
        (damaged("sparse.bitmap", "bitmap", |b| b[0] ^= 1), "values"),
    ] {
        assert!(message.contains(reason), "{message}, not {reason}");
    }
    let mut nothing = encoded_f32("sparse", &shape, &weights);
    nothing.payload = Payload::new();
    assert!(refused(&nothing));
}
