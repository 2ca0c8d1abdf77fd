//! A codec with one step for the tensor that encodes in panels, with one fault.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{
    Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, PanelCut, PanelEncoder,
    PanelOrder, Panels, Pass, Payload, PayloadView, Preset, Result, Section, Statistics, Surveyed, TensorSpec,
    TensorView, statistics, typetag,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    // Statistics
    CutsNothing,
    IgnoresShared,
    CountsChunks,
    // Panels
    OtherScale,
    ReturnsTargets,
    AnyOrder,
    OneOrder,
    DependsOnOrder,
    EndsEarly,
    CutsNoTensor,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaled {
    version: FormatVersion<1>,
    fault: Fault,
}

impl Scaled {
    pub fn with(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    fn step(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<f32> {
        let alone = EncodeCx::new(0);
        let cx = if self.fault == Fault::IgnoresShared { &alone } else { cx };
        Ok(statistics(self, tensor, cx)?.scalars[0] as f32 / 127.0)
    }
}

fn payload(step: f32, codes: Vec<i8>) -> Result<Payload> {
    Payload::new()
        .with("step", Section::from_values(Dtype::F32, [1], vec![step])?)?
        .with("codes", Section::from_values(Dtype::I8, [codes.len()], codes)?)
}

/// A step of 0 gives codes of 0: NaN converts to 0.
fn code(value: f32, step: f32) -> i8 {
    (value / step).round().clamp(-127.0, 127.0) as i8
}

#[typetag::serde(name = "broken.scaled")]
impl Codec for Scaled {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        if self.fault == Fault::CutsNothing { Chunking::Whole } else { Chunking::Rows(NonZeroUsize::MIN) }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.elements() as u64 + 4).scratch(8 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (values, step) = (tensor.to_finite_f32()?, self.step(&tensor, cx)?);
        cx.progress.tick(values.len() as u64);
        payload(step, values.iter().map(|v| code(*v, step)).collect())
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let step = payload.values::<f32>("step", Dtype::F32, &[1])?[0];
        let codes = payload.values::<i8>("codes", Dtype::I8, &[out.len()])?;
        out.iter_mut().zip(codes).for_each(|(w, code)| *w = f32::from(code) * step);
        Ok(())
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        Some(self)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }
}

impl Surveyed for Scaled {
    fn observe(&self, chunk: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Statistics> {
        let largest = chunk.to_finite_f32()?.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        Ok(Statistics::new(vec![largest.into()], Vec::new()))
    }

    fn combine(&self, _: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let largest = chunks.iter().fold(0.0, |m: f64, chunk| m.max(chunk.scalars[0]));
        let scalars =
            if self.fault == Fault::CountsChunks { vec![largest, chunks.len() as f64] } else { vec![largest] };
        Ok(Pass::Last(Statistics::new(scalars, Vec::new())))
    }
}

impl Panels for Scaled {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        if self.fault == Fault::CutsNoTensor {
            return Err(CodecError::Unsupported(format!("no panels of {spec}")));
        }
        let [panel, columns, rows] = [6, 2, 16].map(|n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN));
        Ok(PanelCut::new(panel, columns, rows))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let (spec, step) = (original.spec(), self.step(&original, cx)?);
        let step = if self.fault == Fault::OtherScale { step * 1.01 } else { step };
        let (codes, order) = (vec![0; spec.elements()], PanelOrder::new(spec, self.cut(spec)?));
        Ok(Box::new(Encoder { fault: self.fault, columns: spec.matrix().1, step, codes, order, end: 0, last: 0 }))
    }
}

struct Encoder {
    fault: Fault,
    columns: usize,
    step: f32,
    codes: Vec<i8>,
    order: PanelOrder,
    /// End of the panel.
    end: usize,
    /// First column of the last block.
    last: usize,
}

impl PanelEncoder for Encoder {
    fn start(&mut self, values: &[f32]) -> Result<()> {
        self.end = self.order.start(values)?.end;
        Ok(())
    }

    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()> {
        let answer = self.order.block(&rows, &columns, values);
        let fits = columns.end <= self.end && values.len() == rows.len() * columns.len();
        if self.fault != Fault::AnyOrder || !fits {
            answer?;
        }
        if self.fault == Fault::OneOrder && columns.start < self.last {
            return Err(CodecError::Usage("columns after each other are wanted".to_owned()));
        }
        // Rows first: the columns of a panel come again.
        let doubled = self.fault == Fault::DependsOnOrder && columns.start < self.last;
        self.last = columns.start;
        for (row, values) in rows.clone().zip(values.chunks_mut(columns.len())) {
            for (column, value) in columns.clone().zip(values) {
                let code = code(if doubled { *value / 2.0 } else { *value }, self.step);
                self.codes[row * self.columns + column] = code;
                if self.fault != Fault::ReturnsTargets {
                    *value = f32::from(code) * self.step;
                }
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Payload> {
        if self.fault != Fault::EndsEarly {
            self.order.finish()?;
        }
        payload(self.step, self.codes)
    }
}

pub fn presets() -> Vec<Preset> {
    vec![Preset::new("sound", Scaled::default())]
}
