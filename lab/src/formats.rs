//! `cargo xtask formats`: formats of fixed size, and the software that reads the same layout.

use anyhow::Result;

use crate::lab::Lab;
use crate::measure::{Bench, Table, paragraph, significant, thousands};
use crate::stamp::stamp;

/// A million weights N(0,1).
const GAUSSIAN: &str = "gaussian";
/// Its only tensor.
const TENSOR: &str = "gaussian";

/// A format of fixed size.
struct Format {
    spec: &'static str,
    layout: &'static str,
    /// Other formats and software with this layout.
    others: &'static str,
}

const fn ggml(spec: &'static str, layout: &'static str) -> Format {
    Format { spec, layout, others: "GGUF: llama.cpp, Ollama, LM Studio" }
}

const fn own(spec: &'static str, layout: &'static str) -> Format {
    Format { spec, layout, others: "–" }
}

const FORMATS: [Format; 30] = [
    ggml("quant.q8_0", "32 in 34 bytes: F16 scale, 8-bit integers"),
    Format {
        spec: "quant.fp8:preset=e4m3-row",
        layout: "E4M3, an F32 scale for each row",
        others: "compressed-tensors: vLLM, Transformers",
    },
    Format {
        spec: "quant.fp8:preset=e4m3",
        layout: "E4M3, an F32 scale",
        others: "compressed-tensors: vLLM, Transformers",
    },
    own("quant.fp8:preset=e5m2-row", "E5M2, an F32 scale for each row"),
    ggml("quant.q6_k", "256 in 210 bytes: F16 scale, 8-bit scales for 16, 6-bit integers"),
    ggml("quant.q5_1", "32 in 24 bytes: F16 scale and minimum, 5-bit integers"),
    ggml("quant.q5_0", "32 in 22 bytes: F16 scale, 5-bit integers"),
    ggml("quant.q5_k", "256 in 176 bytes: F16 scale and minimum, 6-bit ones for 32, 5-bit integers"),
    ggml("quant.q4_1", "32 in 20 bytes: F16 scale and minimum, 4-bit integers"),
    ggml("quant.q4_0", "32 in 18 bytes: F16 scale, 4-bit integers"),
    ggml("quant.iq4_nl", "32 in 18 bytes: F16 scale, 16 uneven levels"),
    ggml("quant.q4_k", "256 in 144 bytes: F16 scale and minimum, 6-bit ones for 32, 4-bit integers"),
    Format {
        spec: "quant.nf4:preset=f32-absmax",
        layout: "64 in 36 bytes: F32 maximum, 16 normal quantiles",
        others: "bitsandbytes, without nested maxima",
    },
    Format {
        spec: "quant.nvfp4",
        layout: "16 in 9 bytes: E4M3 scale, E2M1; an F32 scale",
        others: "Model Optimizer: TensorRT-LLM, vLLM",
    },
    ggml("quant.iq4_xs", "256 in 136 bytes: F16 scale, 6-bit scales for 32, 16 uneven levels"),
    Format { spec: "quant.mxfp4", layout: "32 in 17 bytes: E8M0 scale, E2M1", others: "gpt-oss: Transformers, vLLM" },
    own("quant.int:preset=int4", "128 in 66.5 bytes: F16 scale, 4-bit zero point, 4-bit integers"),
    own("quant.int:preset=int4-clip", "the same, the range searched"),
    own("quant.nf4:preset=double-quant", "64 in 33 bytes: 8-bit maximum, 16 normal quantiles; an F32 scale for 16384"),
    own("quant.vector:preset=4bit", "pairs: an index of 8 bits; a codebook"),
    ggml("quant.q3_k", "256 in 110 bytes: F16 scale, 6-bit scales for 16, 3-bit integers"),
    own("quant.vector:preset=3bit", "triples: an index of 9 bits; a codebook"),
    own("seedlm:preset=4bit", "8 in 4 bytes: 16-bit seed, exponent, 3 mantissas of 4 bits"),
    own("seedlm:preset=3bit", "12 in 4.5 bytes: 16-bit seed, exponent, 4 mantissas of 4 bits"),
    ggml("quant.q2_k", "256 in 84 bytes: F16 scale and minimum, 4-bit ones for 16, 2-bit integers"),
    own("quant.vector:preset=2bit", "fours: an index of 8 bits; a codebook"),
    own("quant.vector:preset=2.25bit", "fours: an index of 9 bits; a codebook"),
    own("seedlm:preset=2bit", "13 in 3.25 bytes: 16-bit seed, exponent, 3 mantissas of 2 bits"),
    own("quant.ternary:preset=lanes", "64 in 16 bytes: −1, 0, +1; an F32 scale"),
    own("quant.ternary", "5 in 1 byte: −1, 0, +1; an F32 scale"),
];

const INTRODUCTION: &str = "\
Every figure is measured: weights are encoded, written as bytes, read back and decoded. Bits per
weight count all sections, on a million weights N(0,1). NMSE is ‖w − ŵ‖²/‖w‖², on the same weights
and as the mean of two trained layers (`assets/gpt2_mini_layers`). Speeds are weights per second of
one thread, on the Gaussian weights, in this run. Netweight has its own file format; the last column
lists formats and software that store a tensor's bytes in the same layout.";

/// Measures the table.
///
/// # Errors
/// If a measurement fails.
pub fn page(lab: &Lab) -> Result<String> {
    let specs = || FORMATS.iter().map(|format| format.spec).collect();
    let gaussian = Bench::run(lab, GAUSSIAN, specs())?;
    let layers = Bench::run(lab, &lab.layers(), specs())?;
    let introduction = paragraph(&format!("{} {INTRODUCTION}", stamp(&lab.root, "formats")));
    let table = table(&gaussian, &layers)?;
    Ok(format!("# Formats\n\n{introduction}\nMeasured on:\n\n{}\n{}", gaussian.conditions(), table.text()))
}

fn table(gaussian: &Bench, layers: &Bench) -> Result<Table> {
    let mut table = Table::new([
        "Codec",
        "Layout",
        "Bits per weight",
        "NMSE, Gaussian",
        "NMSE, layers",
        "Encode",
        "Decode",
        "Same layout in",
    ]);
    let mut rows = Vec::new();
    for Format { spec, layout, others } in &FORMATS {
        let cell = gaussian.cell(spec, TENSOR)?;
        let on_layers = layers.column(spec, "")?.mean_nmse();
        let row = [
            format!("`{spec}`"),
            (*layout).to_owned(),
            format!("{:.3}", cell.bits()),
            significant(cell.nmse),
            on_layers.map_or_else(|| "–".to_owned(), significant),
            thousands(cell.encode_speed()),
            thousands(cell.decode_speed()),
            (*others).to_owned(),
        ];
        rows.push((cell.bits(), row));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, row) in rows {
        table.row(row);
    }
    Ok(table)
}
