use codec_api::*;
use harness::suite::{Suite, SuiteOptions};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let suite = Suite::parse(&args[1], &SuiteOptions::default()).unwrap();
    let registry = Registry::linked().unwrap();
    for item in &suite.items {
        let Ok(v) = item.to_f32() else { continue };
        if item.spec.elements() < 16384 && suite.items.len() > 1 {
            continue;
        }
        let power: f64 = v.iter().map(|w| (*w as f64).powi(2)).sum();
        for spec in &args[2..] {
            let codec = registry.parse_spec(spec).unwrap();
            let t = Instant::now();
            let p = codec.encode(item.view().unwrap(), &EncodeCx::new(0)).unwrap();
            let te = t.elapsed().as_secs_f64();
            let mut out = vec![0.0; v.len()];
            let t = Instant::now();
            codec.decode(&item.spec, p.view(), &DecodeCx::new(), &mut out).unwrap();
            let td = t.elapsed().as_secs_f64();
            let d: f64 = v.iter().zip(&out).map(|(a, b)| (*a as f64 - *b as f64).powi(2)).sum::<f64>() / power;
            let bpw = p.bytes() as f64 * 8.0 / v.len() as f64;
            let sections: Vec<String> = p
                .sections()
                .iter()
                .filter(|(k, _)| *k != "streams")
                .map(|(k, s)| format!("{k} {}", s.data().len()))
                .collect();
            println!(
                "{} {:?} {spec}: bpw {bpw:.4} nmse {d:.5} gap {:.4} enc {:.1} dec {:.0} Mw/s | {}",
                item.name,
                item.spec.shape(),
                bpw - 0.5 * (1.0 / d).log2(),
                v.len() as f64 / te / 1e6,
                v.len() as f64 / td / 1e6,
                sections.join(", ")
            );
        }
    }
}
#[allow(unused_imports)]
use codec_quant as _;
#[allow(unused_imports)]
use codec_trellis as _;
